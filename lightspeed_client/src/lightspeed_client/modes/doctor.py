"""`lightspeed doctor`: is this machine fit to run the client? Each check can fail.

Beyond loopback it asks DNS for the names in the settings, and each node of the node book over its
control connection whether it would carry.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.header import HEADER_BYTES
from lightspeed_protocol.runtime.udp import UdpPort

from .. import config as settings_file
from .. import paths
from ..address import (
    NODE_PORT,
    Address,
    Unresolved,
    has_route,
    is_name,
    parse_address,
    resolve,
    write_address,
)
from ..config import ClientConfig
from ..control_link import Connect, connect
from ..nodes import KnownNode, read_book, who_can_read
from ..words import count
from .checks import Check, failed, passed, skipped
from .node_check import NodeFinding, check_nodes

OLDEST_PYTHON: Final = (3, 11)
EARLIEST_YEAR: Final = 2026  # a clock before the program was written is wrong
GAME_PAYLOAD_BYTES: Final = 1400
IP_UDP_BYTES: Final = 28
STATE_TRIAL_BYTES: Final = 16384  # more than a report and a status file take
FEC_BYTES: Final = 6  # the FEC header and a repair packet's length field


async def examine(
    path: Path,
    *,
    must_exist: bool,
    state: Path,
    tell: Callable[[Check], object],
    book: Path | None = None,
    connect: Connect = connect,
) -> list[Check]:
    """Every check, in the order a player would want to know."""
    checks: list[Check] = []

    def note(check: Check) -> None:
        checks.append(check)
        tell(check)

    note(check_python())
    note(check_clock(time.time()))
    config, settings = check_settings(path, must_exist=must_exist)
    note(settings)
    note(await check_loopback(("127.0.0.1", 0), "loopback IPv4"))
    note(await check_loopback(("::1", 0), "loopback IPv6"))
    note(check_state_dir(state))
    nodes: list[KnownNode] = []
    if book is not None:
        nodes, check = check_book(book)
        note(check)
    if config is not None:
        note(check_port(config.redirect.local_port))
        if config.node.address or not nodes:
            for check in await check_node(config):
                note(check)
    for finding in await check_nodes(nodes, connect=connect):
        note(known_node(finding))
    return checks


def check_book(path: Path) -> tuple[list[KnownNode], Check]:
    """The nodes too, if the book can be read."""
    name = "node book"
    try:
        nodes = read_book(path)
    except ConfigError as exc:
        return [], failed(name, f"{path}: {'; '.join(exc.problems)}")
    open_to_others = who_can_read(path)
    if open_to_others is not None:
        return nodes, failed(name, open_to_others)
    if not nodes:
        return nodes, skipped(name, "no nodes yet: `lightspeed add INVITE`")
    return nodes, passed(name, f"{path}: {count(len(nodes), 'node')}, readable by you only")


def known_node(finding: NodeFinding) -> Check:
    """Reachable, with the key of the invite, and willing."""
    name = f"node {finding.name}"
    if not finding.usable:
        return failed(name, finding.problem or "not usable")
    return passed(name, f"its key is the invite's, round trip {finding.rtt_ms or 0:.1f} ms")


def check_python() -> Check:
    seen = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return passed("python", seen)
    return failed("python", f"{seen} is too old: install Python 3.11 or newer")


def check_settings(path: Path, *, must_exist: bool) -> tuple[ClientConfig | None, Check]:
    """The settings themselves too, if they can be read."""
    try:
        config = settings_file.read(path, must_exist=must_exist)
    except ConfigError as exc:
        return None, failed("settings", "; ".join(exc.problems))
    found = "valid" if path.exists() else "none; defaults hold"
    return config, passed("settings", f"{path}: {found}")


def check_clock(wall_time: float) -> Check:
    """Round trips use a monotonic clock; reports and certificates need the wall clock."""
    year = time.gmtime(wall_time).tm_year
    today = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(wall_time))
    if year < EARLIEST_YEAR:
        return failed("clock", f"this machine believes it is {today}: set its clock")
    resolution_s = time.get_clock_info("monotonic").resolution
    if resolution_s > 0.001:
        return failed("clock", f"the monotonic clock ticks only every {resolution_s * 1000:.0f} ms")
    return passed("clock", f"{today}, ticks finer than 1 ms")


async def check_loopback(address: Address, name: str) -> Check:
    """A datagram to ourselves."""
    six = ":" in address[0]
    try:
        with UdpPort.bind(address) as one, UdpPort.bind(address) as two:
            one.send(b"doctor", two.address)
            with trio.move_on_after(1.0):
                if (b"doctor", one.address) in await two.receive():
                    return passed(name, "UDP passes")
        return failed(name, f"UDP to {address[0]} is lost: a local firewall drops it; allow it")
    except OSError as exc:
        if six:
            return skipped(name, f"none here ({exc.strerror}): games must use 127.0.0.1")
        return failed(name, f"cannot open a UDP socket: {exc.strerror}")


def check_state_dir(state: Path) -> Check:
    """Reports and status go there."""
    try:
        paths.try_writing(state, STATE_TRIAL_BYTES)
    except OSError as exc:
        return failed(
            "state directory",
            f"{state} cannot be written ({exc.strerror}): free space or fix its owner",
        )
    return passed("state directory", f"{state} is writable")


def check_port(local_port: int) -> Check:
    """The port that the settings ask for."""
    name = "local port"
    if not local_port:
        return skipped(name, "none set: chosen at start")
    try:
        with UdpPort.bind(("127.0.0.1", local_port)):
            return passed(name, f"{local_port} is free")
    except OSError as exc:
        return failed(
            name,
            f"{local_port}: {exc.strerror}; close the program that has it, or"
            " `lightspeed config set redirect.local_port 0`",
        )


async def check_node(config: ClientConfig) -> list[Check]:
    """DNS, a route, and whether the largest game packets fit it. Needs a node in the settings."""
    if not config.node.address:
        return [
            skipped(
                "DNS and route",
                "no open node set; that is as it should be with an invite (`lightspeed add`)",
            )
        ]
    checks = []
    wanted = parse_address(config.node.address, default_port=NODE_PORT)
    try:
        node = await resolve(wanted, ipv4_only=False, what="node")
    except Unresolved as exc:
        return [failed("DNS", str(exc))]
    if is_name(wanted[0]):
        checks.append(passed("DNS", f"{wanted[0]} is {node[0]}"))
    if not has_route(node):
        return [*checks, failed("route", f"no way to {write_address(node)}: check the network")]
    checks.append(passed("route", f"there is one to {write_address(node)}"))
    if config.redirect.server:
        try:
            server = await resolve(
                parse_address(config.redirect.server), ipv4_only=True, what="game server"
            )
            checks.append(passed("game server", f"{config.redirect.server} is {server[0]}"))
        except Unresolved as exc:
            checks.append(failed("game server", str(exc)))
    checks.append(check_mtu(route_mtu(node)))
    return checks


def check_mtu(mtu: int | None) -> Check:
    """Whether the largest protected game packet leaves in one piece. IPv4 arithmetic."""
    name = "MTU"
    if mtu is None:
        return skipped(name, "this system does not tell a route's MTU")
    room = mtu - IP_UDP_BYTES - HEADER_BYTES - FEC_BYTES
    if room >= GAME_PAYLOAD_BYTES:
        return passed(name, f"{mtu}: game packets up to {room} bytes fit, with loss repair")
    if room >= 1200:
        return passed(
            name,
            f"{mtu}: game packets up to {room} bytes fit; larger ones are split by the system",
        )
    return failed(
        name, f"{mtu}: game packets above {room} bytes are split: another VPN takes the room?"
    )


def route_mtu(address: Address) -> int | None:
    """What the kernel knows of the route (Linux: IP_MTU). Sends nothing."""
    if sys.platform == "linux" and ":" not in address[0]:
        ip_mtu = 14  # <linux/in.h>; the socket module does not name it everywhere
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            return sock.getsockopt(socket.IPPROTO_IP, ip_mtu)
    return None
