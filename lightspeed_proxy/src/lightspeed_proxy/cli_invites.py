"""The commands that say who may use the node: `invite`, `invites`, `revoke`.

They write the file that a running node looks at four times a second; they do not talk to it. On
stdout stands only what was asked for, so that an invite can be piped. Source: CLI.md (names).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import attrs
import click
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.config import Network

from lightspeed_protocol import invite as protocol

from .cli_options import (
    Cidr,
    Duration,
    config_option,
    json_option,
    leave,
    pick_path,
    read_or_exit,
    state_option,
)
from .config import CONTROL_PORT, Address, ProxyConfig, Source, parse_endpoint
from .credentials import FILE, NOBODY_YET, Invite, InviteError, InviteStore
from .identity import node_pin
from .main import BAD_CONFIG, FAILED
from .state_files import state_dir

# Nobody is there: asking the kernel which of our addresses would reach it sends nothing.
SOMEWHERE: Final = ("192.0.2.1", "2001:db8::1")

COLUMNS: Final = ("NAME", "CREATED (UTC)", "EXPIRES (UTC)", "STATE", "LIMITS")


@click.command()
@click.argument("name")
@click.option(
    "--expires", type=Duration(), metavar="30d", help="How long it lets somebody in: 30d, 12h, 45m."
)
@click.option(
    "--max-pps",
    type=click.IntRange(1, 10_000_000),
    metavar="N",
    help="Packets a second of each device, instead of the node's limit.",
)
@click.option(
    "--max-bps",
    type=click.IntRange(1, 10_000_000_000),
    metavar="N",
    help="Bytes a second of each device, instead of the node's limit.",
)
@click.option(
    "--max-sessions",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Devices at once, instead of the node's limit.",
)
@click.option(
    "--destinations",
    type=Cidr(),
    multiple=True,
    metavar="CIDR",
    help="Only game servers in this network; may be given several times.",
)
@click.option(
    "--host",
    metavar="HOST[:PORT]",
    help="Where players reach this node, above [control] advertise. Without either it is the"
    " address the node listens on, or a guess.",
)
@config_option
@state_option
@json_option("Print the invite and its limits as JSON.")
def invite(
    name: str,
    expires: int | None,
    max_pps: int | None,
    max_bps: int | None,
    max_sessions: int | None,
    destinations: tuple[Network, ...],
    host: str | None,
    path: Path | None,
    state: str | None,
    as_json: bool,
) -> None:
    """Make an invite for somebody called NAME and print its line, this once.

    Whoever holds the line may use the node, on several devices at once. The token in it is kept
    nowhere: who loses the line needs a new one.
    """
    config = read_or_exit(Source(path=pick_path(path), state=state))
    try:
        (host, port), notes = pick_endpoint(config, host)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    now = time.time()
    store = store_of(config)
    try:
        pin = node_pin(config)
        made, token = store.add(
            name,
            unix_now=now,
            expires=None if expires is None else int(now) + expires,
            max_pps=max_pps,
            max_bps=max_bps,
            max_sessions=max_sessions,
            destinations=destinations,
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    except InviteError as exc:
        leave(str(exc), FAILED)
    except ConfigError as exc:
        leave(str(exc), BAD_CONFIG)
    line = str(protocol.Invite(host, port, pin, token, name))
    if as_json:
        click.echo(json.dumps({"invite": line, "host": host, "port": port, **facts(made, now)}))
    else:
        click.echo(line)
    notes += [
        "this line is shown only now. Whoever has it may use the node: send it where only"
        f" {name} reads it",
        "the player runs `lightspeed add` with it; a node that runs already knows it",
    ]
    for note in notes:
        click.echo(f"note: {note}", err=True)


@click.command()
@config_option
@state_option
@json_option("Print the list as JSON.")
def invites(path: Path | None, state: str | None, as_json: bool) -> None:
    """List the invites, good or ended. Their tokens are not kept and cannot be shown."""
    store = store_of(read_or_exit(Source(path=pick_path(path), state=state)))
    try:
        known = list(store.load())
    except ConfigError as exc:
        leave(str(exc), BAD_CONFIG)
    now = time.time()
    if as_json:
        click.echo(json.dumps([facts(each, now) for each in known]))
    elif known:
        click.echo(table([COLUMNS, *(row(each, now) for each in known)]))
    else:
        click.echo(f"no invites in {store.path.parent}: this node {NOBODY_YET}", err=True)


@click.command()
@click.argument("name")
@config_option
@state_option
def revoke(name: str, path: Path | None, state: str | None) -> None:
    """End the invite called NAME at once, with all sessions that use it."""
    # In an emergency the settings may be broken; a directory that was given needs none.
    source = Source(path=None if state is not None else pick_path(path), state=state)
    store = store_of(read_or_exit(source))
    try:
        store.revoke(name, unix_now=time.time())
    except InviteError as exc:
        leave(str(exc), FAILED)
    except ConfigError as exc:
        leave(str(exc), BAD_CONFIG)
    click.echo(f"revoked {name}: a running node ends its sessions within a second")


def store_of(config: ProxyConfig) -> InviteStore:
    """Raises `SystemExit` where there is no place for a file."""
    try:
        return InviteStore(state_dir(config, os.environ) / FILE)
    except ConfigError as exc:
        leave(str(exc), BAD_CONFIG)


def outward_address() -> str | None:
    """The address this machine would send from; None if it has no network."""
    for host in SOMEWHERE:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((host, 9))
                return str(ip_address(sock.getsockname()[0]))
        except (OSError, ValueError):  # no route, or an address with a zone
            continue
    return None


def pick_endpoint(
    config: ProxyConfig,
    given: str | None,
    outward: Callable[[], str | None] = outward_address,
) -> tuple[Address, list[str]]:
    """Where an invite sends its player, and what the operator should know about that.

    Raises `ValueError` when there is nothing to go by.
    """
    port = config.control.address[1] or CONTROL_PORT
    notes: list[str] = []
    if given is not None:
        host, port = parse_endpoint(given, port)
    elif config.control.advertised is not None:
        host, port = config.control.advertised
    else:
        guess = outward()
        if guess is None:
            raise ValueError("this machine has no network to guess its address from: give --host")
        host = guess
        notes.append(
            f"{host} is a guess: if players reach this node by another name or address, give --host"
            " or set [control] advertise"
        )
    reach = reach_of(host)
    if reach is not None:
        notes.append(f"{host} can be reached {reach}")
    return (host, port), notes


def reach_of(host: str) -> str | None:
    """From where a special address can be reached; None if from everywhere, or nobody knows."""
    try:
        ip = ip_address(host)
    except ValueError:
        return "from this machine only" if host == "localhost" else None
    if ip.is_loopback:
        return "from this machine only"
    return "from its own network only" if ip.is_private or ip.is_link_local else None


def facts(each: Invite, unix_now: float) -> dict[str, Any]:
    """All about an invite but its token, for programs."""
    fields = attrs.asdict(each)
    del fields["token_sha256"]
    fields["destinations"] = [str(net) for net in each.destinations]
    return {**fields, "state": each.problem(unix_now) or "good"}


def row(each: Invite, unix_now: float) -> tuple[str, ...]:
    limits = [
        f"{value} {unit}"
        for value, unit in (
            (each.max_pps, "packets/s"),
            (each.max_bps, "bytes/s"),
            (each.max_sessions, "devices"),
        )
        if value is not None
    ]
    limits += [f"only {' '.join(map(str, each.destinations))}"] if each.destinations else []
    return (
        each.name,
        when(each.created),
        "never" if each.expires is None else when(each.expires),
        each.problem(unix_now) or "good",
        ", ".join(limits) or "the node's",
    )


def when(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M")


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their longest value."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()
        for line in rows
    )
