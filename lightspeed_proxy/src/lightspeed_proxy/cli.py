"""The command line of the node. Source: CLI.md (names, exit codes)."""

from __future__ import annotations

import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any, Final, get_args

import attrs
import click
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.logs import LEVELS, Style

from . import __version__
from .cli_invites import invite, invites, revoke, store_of, table
from .cli_options import (
    address,
    config_option,
    json_option,
    leave,
    pick_path,
    read_or_exit,
    state_option,
)
from .config import Address, ProxyConfig, Source, default_file, show_address
from .credentials import NOBODY_YET
from .main import BAD_CONFIG, FAILED, problems_here, run_node

ANSWER_S: Final = 3.0  # a node on this machine answers in milliseconds
LARGEST_ANSWER_BYTES: Final = 10_000_000  # 10 000 sessions
OK: Final = 200

SESSION_COLUMNS: Final = (
    "SESSION",
    "INVITE",
    "ADDRESS",
    "FLOWS",
    "UP",
    "DOWN",
    "AGE",
    "IDLE",
    "CLIENT",
    "HEADER",
    "REPAIR",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lightspeed-proxy")
def cli() -> None:
    """The LightSpeed node: carries players' game packets to the game server and back."""


@cli.command()
@config_option
@click.option(
    "--data", metavar="ADDR", callback=address, help="UDP address for tunnels, above the file."
)
@click.option(
    "--control",
    metavar="ADDR",
    callback=address,
    help="UDP address for registering (QUIC), above the file.",
)
@click.option(
    "--http", metavar="ADDR", callback=address, help="TCP address for health, above the file."
)
@state_option
@click.option(
    "--dev",
    is_flag=True,
    help="Open to anyone, private and loopback destinations allowed. For trying out: listens on"
    " 127.0.0.1:4434 and 4433 unless told otherwise, and refuses an address that strangers can"
    " reach.",
)
@click.option("--force", is_flag=True, help="Let --dev listen where strangers can reach it.")
@click.option(
    "--log",
    "log_style",
    type=click.Choice(get_args(Style)),
    default="auto",
    help="auto: short lines, or JSON lines under systemd.",
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info")
def run(
    path: Path | None,
    data: str | None,
    control: str | None,
    http: str | None,
    state: str | None,
    dev: bool,
    force: bool,
    log_style: Style,
    log_level: str,
) -> None:
    """Run the node in the foreground. SIGHUP reloads, SIGTERM drains, a second one ends at once."""
    if force and not dev:
        raise click.UsageError("--force only goes with --dev")
    source = Source(path=pick_path(path), control=control, data=data, http=http, state=state)
    sys.exit(run_node(source, dev=dev, force=force, log_style=log_style, log_level=log_level))


@cli.command()
@config_option
@state_option
def check(path: Path | None, state: str | None) -> None:
    """Find every problem that would keep the node from running here; exit 78 if there is one.

    Looks at the settings, the ports, the certificate and its key, the state directory with its
    invites, and the limit on open files. Makes nothing.
    """
    source = Source(path=pick_path(path), state=state)
    config = read_or_exit(source)
    name = str(source.path or "built-in defaults")
    running = node_answers(config)
    problems = problems_here(
        config, warn=lambda text: click.echo(f"warning: {text}", err=True), running=running
    )
    if problems:
        leave(str(ConfigError(name, problems)), BAD_CONFIG)
    click.echo(
        f"{name}: no problems; control {config.control.bind}, data {config.data.bind}, http"
        f" {config.http.bind}"
    )
    if running:
        click.echo("note: a node runs here already; whether its ports are free was not looked at")
    if not store_of(config).load().usable(time.time()):
        click.echo(f"note: this node {NOBODY_YET}")


@cli.group()
def config() -> None:
    """Settings."""


@config.command()
def default() -> None:
    """Print a commented file with every setting at its default."""
    click.echo(default_file(), nl=False)


http_option = click.option(
    "--http", metavar="ADDR", callback=address, help="Where the node answers, if not as configured."
)


@cli.command()
@config_option
@http_option
@json_option("Print what the node answered.")
def status(path: Path | None, http: str | None, as_json: bool) -> None:
    """Ask a running node how it is; exit 1 if it does not answer or is not healthy."""
    code, fields = ask_or_exit(where_to_ask(path, http), "/health")
    if not isinstance(fields, dict) or "node_id" not in fields:
        leave("something else than a node listens there", FAILED)
    click.echo(json.dumps(fields) if as_json else describe(fields))
    sys.exit(0 if code == OK else FAILED)


@cli.command()
@config_option
@http_option
@json_option("Print what the node answered.")
def sessions(path: Path | None, http: str | None, as_json: bool) -> None:
    """List who uses a running node; exit 1 if it does not answer."""
    code, rows = ask_or_exit(where_to_ask(path, http), "/sessions")
    if code != OK or not isinstance(rows, list):
        leave(f"the node does not tell its sessions (HTTP {code}): ask on its own machine", FAILED)
    if as_json:
        click.echo(json.dumps(rows))
    elif rows:
        click.echo(table([SESSION_COLUMNS, *map(session_row, rows)]))
    else:
        click.echo("nobody uses this node now", err=True)


cli.add_command(invite)
cli.add_command(invites)
cli.add_command(revoke)


def reachable(config: ProxyConfig) -> Address:
    """Where to ask a node that listens there: a wildcard address is asked on loopback."""
    host, port = config.http.address
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def where_to_ask(path: Path | None, http: str | None) -> Source:
    """An address that was given needs no settings: they may be broken while the node runs on."""
    return Source(path=None if http is not None else pick_path(path), http=http)


def node_answers(config: ProxyConfig) -> bool:
    """Whether a node answers where these settings say."""
    connection = http.client.HTTPConnection(*reachable(config), timeout=ANSWER_S)
    try:
        connection.request("GET", "/health")
        with connection.getresponse() as answer:
            fields = json.loads(answer.read(LARGEST_ANSWER_BYTES))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(fields, dict) and "node_id" in fields


def ask_or_exit(source: Source, path: str) -> tuple[int, Any]:
    """The HTTP status and the JSON of a node's answer; no answer ends the program."""
    address = reachable(read_or_exit(source))
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_S)
    try:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            body = answer.read(LARGEST_ANSWER_BYTES)
        fields = json.loads(body) if answer.status == OK or body[:1] == b"{" else None
        return answer.status, fields
    except (OSError, http.client.HTTPException, ValueError) as exc:
        leave(
            f"no node answers at {show_address(address)} ({exc}); is it running, and is --http"
            " right?",
            FAILED,
        )
    finally:
        connection.close()


def describe(fields: dict[str, Any]) -> str:
    """A few lines for people."""
    known = attrs.asdict(Shown.of(fields))
    width = max(map(len, known))
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {value}" for name, value in known.items())


@attrs.frozen(kw_only=True)
class Shown:
    node: str
    status: str
    players: str
    packets: str
    dropped: str
    repaired: str

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Shown:
        drops = fields.get("drops") or {}
        reasons = ", ".join(f"{reason} {count}" for reason, count in drops.items() if count)
        relays = "open to anyone (--dev)" if fields.get("open") else invited(fields)
        return cls(
            node=f"{fields['node_id']} ({fields.get('region')}), version {fields.get('version')}",
            status=f"{fields.get('status')} for {fields.get('uptime_secs')} s, {relays}",
            players=f"{fields.get('active_connections')} of {fields.get('max_connections')},"
            f" {fields.get('flows')} conversations",
            packets=f"{fields.get('packets_relayed')} ({fields.get('bytes_relayed')} bytes)",
            dropped=f"{fields.get('packets_dropped')}" + (f" ({reasons})" if reasons else ""),
            repaired=f"{fields.get('fec_recoveries')}",
        )


def invited(fields: dict[str, Any]) -> str:
    count = fields.get("invites") or 0
    return f"{count} invite{'' if count == 1 else 's'}" if count else "relays for nobody yet"


def session_row(fields: dict[str, Any]) -> tuple[str, ...]:
    """One session's line; what an older or newer node does not say shows as "-"."""
    keys = ("session", "invite", "address", "flows", "packets_up", "packets_down")
    named = [fields.get(key) for key in keys]
    ages = [_seconds(fields.get(key)) for key in ("age_s", "idle_s")]
    last = [fields.get(key) for key in ("client", "version", "repair")]
    return tuple("-" if value in (None, "") else str(value) for value in [*named, *ages, *last])


def _seconds(value: object) -> str | None:
    return f"{value:.0f} s" if isinstance(value, int | float) else None
