"""Commands about this machine: doctor, games, status, report, config."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from .cli_options import (
    find_game,
    json_option,
    read_games,
    read_settings,
    run_checks,
    settings_file,
)
from .echo import say

if TYPE_CHECKING:
    from .games import Game, Games


SDR_NOTE: Final = "uses Valve's own relays: the gain is uncertain, so measure it"


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check whether this machine is fit to run the client."""
    from .modes.doctor import examine
    from .paths import nodes_file, state_dir

    path, must_exist = settings_file(ctx)
    run_checks(
        lambda tell: examine(
            path, must_exist=must_exist, state=state_dir(), tell=tell, book=nodes_file()
        ),
        as_json=as_json,
    )


@click.command(short_help="List the known games, or show one.")
@click.argument("name", required=False)
@json_option
@click.pass_context
def games(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """List the games that are known, and how each is pointed at the tunnel.

    With NAME (a key, an alias or a number) show all that is known of that game.
    """
    import json

    import attrs

    known = read_games()
    chosen = list(known) if name is None else [find_game(ctx, known, name)]
    if as_json:
        records = [
            {**attrs.asdict(game), "redirect": bool(game.point), "notes": notes_of(known, game)}
            for game in chosen
        ]
        say(json.dumps(records))
        return
    if name is not None:
        say("\n".join(f"{what:16} {text}" for what, text in details_of(known, chosen[0])))
        return
    for game in chosen:
        say(f"{game.id:3}  {game.key:13} {game.name}, UDP {ports_of(game)}, {game.anti_cheat}")
        how = game.how_to_point(f"127.0.0.1:{game.local_port}")
        say(f"     {how or 'cannot be pointed at the tunnel: it picks its servers itself'}")
        if game.sdr:
            say(f"     {SDR_NOTE}")


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
            say(json.dumps(record if not clients else {"running": True, **record}))
    for record in [] if as_json else clients:
        state = STATE_WORDS.get(record.get("state"), "unknown")  # type: ignore[arg-type]
        say(
            f"{record.get('server')} through {record.get('node')}: {state};"
            f" round trip {ms(record.get('rtt_ms'))}, loss {part(record.get('loss'))},"
            f" sent {record.get('sent')}, received {record.get('received')}"
            f" (process {record.get('pid')})"
        )
        for way in ("up", "down"):
            if record.get(f"repair_{way}"):
                say(f"  repair {way}: {record[f'repair_{way}']}")
    if not clients:
        if not as_json:
            say("no client is running")
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
        say(json.dumps(records))
    elif not records:
        say("no session has been recorded yet")
    for record in [] if as_json else records:
        say(f"Ended {record.get('ended')}")
        totals = Totals.from_json(record)
        lines = ["the report is of another version; see --json"]
        say("\n".join(lines if totals is None else reports.plain_words(totals)))
    if not records:
        sys.exit(1)


@click.group(short_help="Print, show or change the settings.")
def config() -> None:
    """The settings file: print a default one, show what holds, change a value."""


@config.command("default")
def config_default() -> None:
    """Print a commented file with the default settings."""
    from .config import DEFAULT_TEXT

    say(DEFAULT_TEXT, nl=False)


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
        say(json.dumps({"file": str(path), "exists": path.exists(), **values}))
        return
    say(f"# {path}{'' if path.exists() else ' (not there: these are the defaults)'}")
    say(tomlkit.dumps(values), nl=False)


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
    say(f"{key} {f'is now {value}' if value else 'is not set now'} in {path}")


def ports_of(game: Game) -> str:
    return "-".join(map(str, dict.fromkeys(game.ports)))


def details_of(known: Games, game: Game) -> list[tuple[str, str]]:
    """(what, text) for a player who asks about one game."""
    how = game.how_to_point(f"127.0.0.1:{game.local_port}")
    least, most = game.packet_bytes
    asks = "no known query" if game.query == "none" else game.query
    return [
        ("name", game.name),
        ("key", game.key),
        ("other words", ", ".join((*game.aliases, str(game.id)))),
        ("UDP ports", ports_of(game)),
        ("how to point it", how or "it cannot be: it picks its servers itself"),
        ("anti-cheat", known.note(game, "redirect")),
        ("`test` asks by", asks),
        (
            "traffic",
            f"about {game.pps} packets/s of {least}-{most} bytes",
        ),
        *([("note", SDR_NOTE)] if game.sdr else []),
    ]


def notes_of(known: Games, game: Game) -> dict[str, str]:
    """The anti-cheat note of each mode."""
    from .games import MODES

    return {mode: known.note(game, mode) for mode in MODES}
