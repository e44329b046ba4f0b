"""Commands about this machine: doctor, games, status, report, config."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .cli_options import json_option, read_games, read_settings, run_checks, settings_file

if TYPE_CHECKING:
    from .games import Game, Games


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check whether this machine is fit to run the client."""
    from .modes.doctor import examine
    from .paths import state_dir

    path, must_exist = settings_file(ctx)
    run_checks(
        lambda tell: examine(path, must_exist=must_exist, state=state_dir(), tell=tell),
        as_json=as_json,
    )


@click.command()
@json_option
def games(as_json: bool) -> None:
    """List the games that are known, and how each is pointed at the tunnel."""
    import json

    import attrs

    known = read_games()
    if as_json:
        records = [
            {**attrs.asdict(game), "redirect": bool(game.point), "notes": notes_of(known, game)}
            for game in known
        ]
        click.echo(json.dumps(records))
        return
    for game in known:
        ports = "-".join(map(str, dict.fromkeys(game.ports)))
        click.echo(f"{game.id:3}  {game.key:13} {game.name}, UDP {ports}, {game.anti_cheat}")
        how = game.how_to_point(f"127.0.0.1:{game.local_port}")
        click.echo(f"     {how or 'cannot be pointed at the tunnel: it picks its servers itself'}")
        if game.sdr:
            click.echo("     uses Valve's own relays: the gain is uncertain, so measure it")


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show what the running client does."""
    import json
    import time

    from .display import STATE_WORDS, ms, part
    from .paths import state_dir
    from .status import running_clients

    clients = running_clients(state_dir(), time.time())
    if as_json:
        for record in clients or [{"running": False}]:
            click.echo(json.dumps(record if not clients else {"running": True, **record}))
    for record in [] if as_json else clients:
        state = STATE_WORDS.get(record.get("state"), "unknown")  # type: ignore[arg-type]
        click.echo(
            f"{record.get('server')} through {record.get('node')}: {state};"
            f" rtt {ms(record.get('rtt_ms'))}, loss {part(record.get('loss'))},"
            f" sent {record.get('sent')}, received {record.get('received')}"
            f" (process {record.get('pid')})"
        )
    if not clients:
        if not as_json:
            click.echo("no client is running")
        sys.exit(1)


@click.command()
@click.option("--last", type=click.IntRange(1, 1000), default=1, help="How many, newest first.")
@json_option
def report(last: int, as_json: bool) -> None:
    """Show the reports of past sessions."""
    import json

    from . import report as reports
    from .figures import Totals
    from .paths import state_dir

    records = reports.last(state_dir(), last)
    if as_json:
        click.echo(json.dumps(records))
    elif not records:
        click.echo("no session has been recorded yet")
    for record in [] if as_json else records:
        click.echo(f"Ended {record.get('ended')}")
        totals = Totals.from_json(record)
        lines = ["the report is of another version; see --json"]
        click.echo("\n".join(lines if totals is None else reports.plain_words(totals)))
    if not records:
        sys.exit(1)


@click.group()
def config() -> None:
    """The settings file: print a default one, show what holds, change a value."""


@config.command("default")
def config_default() -> None:
    """Print a commented file with the default settings."""
    from .config import DEFAULT_TEXT

    click.echo(DEFAULT_TEXT, nl=False)


@config.command("show")
@json_option
@click.pass_context
def config_show(ctx: click.Context, as_json: bool) -> None:
    """Print the settings that hold, from the file or by default."""
    import json

    import attrs
    import tomlkit

    path, _ = settings_file(ctx)
    values = attrs.asdict(read_settings(ctx))
    if as_json:
        click.echo(json.dumps({"file": str(path), "exists": path.exists(), **values}))
        return
    click.echo(f"# {path}{'' if path.exists() else ' (not there: these are the defaults)'}")
    click.echo(tomlkit.dumps(values), nl=False)


@config.command("set")
@click.argument("key")
@click.argument("value")
@click.pass_context
def config_set(ctx: click.Context, key: str, value: str) -> None:
    """Change one value and keep the file's comments. KEY is like tunnel.fec."""
    from .config import set_value

    path, _ = settings_file(ctx)
    try:
        set_value(path, key, value)
    except ValueError as exc:
        raise click.UsageError(str(exc), ctx) from None
    except OSError as exc:
        raise click.ClickException(f"cannot write {path}: {exc.strerror or exc}") from None
    click.echo(f"{key} is now {value} in {path}")


def notes_of(known: Games, game: Game) -> dict[str, str]:
    """The anti-cheat note of each mode."""
    from .games import MODES

    return {mode: known.note(game, mode) for mode in MODES}
