"""The command line of the node. Source: CLI.md (names, exit codes)."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from typing import Any, get_args

import attrs
import click
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.logs import LEVELS, Style

from . import __version__
from .config import (
    DEFAULT_PATH,
    Address,
    ProxyConfig,
    Source,
    default_file,
    parse_address,
    show_address,
)
from .main import BAD_CONFIG, FAILED, problems_here, run_node

ANSWER_S = 3.0  # a node on this machine answers in milliseconds
LARGEST_ANSWER_BYTES = 1_000_000


def address(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Option callback: the text stays as it is, a mistake in it is a usage error."""
    if value is not None:
        try:
            parse_address(value)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from None
    return value


def config_option(command: Any) -> Any:
    return click.option(
        "--config",
        "path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"Settings; without it {DEFAULT_PATH} if there is one, else built-in defaults.",
    )(command)


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
    "--http", metavar="ADDR", callback=address, help="TCP address for health, above the file."
)
@click.option(
    "--dev",
    is_flag=True,
    help="Open to anyone, private and loopback destinations allowed. For trying out: listens on"
    " 127.0.0.1:4434 unless told otherwise, and refuses an address that strangers can reach.",
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
    http: str | None,
    dev: bool,
    force: bool,
    log_style: Style,
    log_level: str,
) -> None:
    """Run the node in the foreground. SIGHUP reloads, SIGTERM drains, a second one ends at once."""
    if force and not dev:
        raise click.UsageError("--force only goes with --dev")
    source = Source(path=pick_path(path), data=data, http=http)
    sys.exit(run_node(source, dev=dev, force=force, log_style=log_style, log_level=log_level))


@cli.command()
@config_option
def check(path: Path | None) -> None:
    """Find every problem that would keep the node from running here; exit 78 if there is one."""
    source = Source(path=pick_path(path))
    try:
        config = source.read()
    except ConfigError as exc:
        click.echo(str(exc), err=True)
        sys.exit(BAD_CONFIG)
    name = str(source.path or "built-in defaults")
    problems = problems_here(config)
    if problems:
        click.echo(str(ConfigError(name, problems)), err=True)
        sys.exit(BAD_CONFIG)
    click.echo(f"{name}: no problems; data {config.data.bind}, http {config.http.bind}")
    click.echo("note: without --dev this version relays for nobody, invites are still to come")


@cli.group()
def config() -> None:
    """Settings."""


@config.command()
def default() -> None:
    """Print a commented file with every setting at its default."""
    click.echo(default_file(), nl=False)


@cli.command()
@config_option
@click.option(
    "--http", metavar="ADDR", callback=address, help="Where the node answers, if not as configured."
)
@click.option("--json", "as_json", is_flag=True, help="Print what the node answered.")
def status(path: Path | None, http: str | None, as_json: bool) -> None:
    """Ask a running node how it is; exit 1 if it does not answer or is not healthy."""
    try:
        config = Source(path=pick_path(path), http=http).read()
    except ConfigError as exc:
        click.echo(str(exc), err=True)
        sys.exit(BAD_CONFIG)
    address = reachable(config)
    try:
        healthy, fields = ask_health(address)
    except (OSError, http_client_error, ValueError) as exc:
        click.echo(
            f"no node answers at {show_address(address)} ({exc}); is it running, and is --http"
            " right?",
            err=True,
        )
        sys.exit(FAILED)
    click.echo(json.dumps(fields) if as_json else describe(fields))
    sys.exit(0 if healthy else FAILED)


http_client_error = http.client.HTTPException


def pick_path(path: Path | None) -> Path | None:
    """The file that was named, else the usual one unless it is not there."""
    if path is not None:
        return path
    try:
        DEFAULT_PATH.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # it is there and cannot be read: loading it says so
    return DEFAULT_PATH


def reachable(config: ProxyConfig) -> Address:
    """Where to ask a node that listens there: a wildcard address is asked on loopback."""
    host, port = config.http.address
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def ask_health(address: Address) -> tuple[bool, dict[str, Any]]:
    """Whether the node is up and takes players, and all it says."""
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_S)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        fields = json.loads(answer.read(LARGEST_ANSWER_BYTES))
    finally:
        connection.close()
    if not isinstance(fields, dict) or "node_id" not in fields:
        raise ValueError("something else listens there")
    return answer.status == 200, fields


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
        relays = "open to anyone (--dev)" if fields.get("open") else "relays for nobody yet"
        return cls(
            node=f"{fields['node_id']} ({fields.get('region')}), version {fields.get('version')}",
            status=f"{fields.get('status')} for {fields.get('uptime_secs')} s, {relays}",
            players=f"{fields.get('active_connections')} of {fields.get('max_connections')},"
            f" {fields.get('flows')} conversations",
            packets=f"{fields.get('packets_relayed')} ({fields.get('bytes_relayed')} bytes)",
            dropped=f"{fields.get('packets_dropped')}" + (f" ({reasons})" if reasons else ""),
            repaired=f"{fields.get('fec_recoveries')}",
        )
