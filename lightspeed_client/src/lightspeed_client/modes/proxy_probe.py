"""`lightspeed probe`: round trips to nodes, several at once.

Open nodes are asked with keepalives. An invited node is asked over its control connection first,
which grants a session for the moment, and then with sealed keepalives on its data port.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import trio
from lightspeed_protocol.control import Disconnect
from lightspeed_protocol.errors import LinkDown, Refused, WireError
from lightspeed_protocol.header import (
    HEADER_BYTES,
    KEEPALIVE,
    VERSION_PLAIN,
    control_packet,
    microseconds,
)
from lightspeed_protocol.keepalive import (
    PROBE_BYTES,
    TIMEOUT_S,
    Prober,
    SendProbe,
    decode_probe,
    encode_probe,
)
from lightspeed_protocol.runtime.udp import UdpPort
from lightspeed_protocol.seal import SealedEnd

from .. import __version__
from ..address import Address, Unresolved, resolve, write_address
from ..control_link import Connect, ControlClient, connect, exchange, find_data, ping
from ..nodes import KnownNode
from ..session import read_grant, register_message
from ..tunnel import any_port
from ..words import why_no_answer
from .choosing import first_words

COUNT: Final = 10
INTERVAL_S: Final = 0.1


@attrs.frozen
class Probe:
    """Round trips to one node; `problem` says in one line why there are none.

    `control_ms` is over the control connection of an invited node.
    """

    node: str
    sent: int
    answers: int
    loss: float | None
    min_ms: float | None
    median_ms: float | None
    p95_ms: float | None
    problem: str | None = None
    control_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in attrs.asdict(self).items()
        }

    def line(self) -> str:
        control = "" if self.control_ms is None else f" (control {self.control_ms:.2f} ms)"
        if self.problem is not None:
            return f"{self.node}: {self.problem}{control}"
        assert self.min_ms is not None
        assert self.median_ms is not None
        assert self.p95_ms is not None
        return (
            f"{self.node}: {self.answers} of {self.sent} answered, round trip min"
            f" {self.min_ms:.2f} median {self.median_ms:.2f} p95 {self.p95_ms:.2f} ms{control}"
        )


class OpenWay:
    """Keepalives of header version 1."""

    invited = False

    def ask(self, number: int, now: float) -> bytes:
        return control_packet(KEEPALIVE, sequence=number, timestamp_us=microseconds(now))

    def number(self, datagram: bytes, now: float) -> int | None:
        """Of the probe that this answers; None for anything else."""
        if len(datagram) >= HEADER_BYTES and datagram[0] == VERSION_PLAIN << 4 | KEEPALIVE:
            return datagram[2] << 8 | datagram[3]
        return None


@attrs.define(eq=False)
class SealedWay:
    """Keepalives inside a session."""

    end: SealedEnd
    invited: bool = True

    def ask(self, number: int, now: float) -> bytes:
        return self.end.control(KEEPALIVE, microseconds(now), encode_probe(number, None))

    def number(self, datagram: bytes, now: float) -> int | None:
        try:
            opened = self.end.open(datagram, now)
        except WireError:
            return None
        if opened.flags & KEEPALIVE and len(opened.payload) == PROBE_BYTES:
            return decode_probe(opened.payload)[0]
        return None


async def probe(
    wanted: Address | KnownNode,
    *,
    count: int = COUNT,
    interval_s: float = INTERVAL_S,
    connect: Connect = connect,
) -> Probe:
    """Never raises for a network's sake: trouble is in `problem`."""
    if isinstance(wanted, KnownNode):
        return await _probe_known(wanted, count, interval_s, connect)
    name = write_address(wanted)
    try:
        node = await resolve(wanted, ipv4_only=False, what="node")
    except Unresolved as exc:
        return nothing(name, str(exc))
    return await _measure(name, node, OpenWay(), count, interval_s)


async def _probe_known(node: KnownNode, count: int, interval_s: float, connect: Connect) -> Probe:
    found = nothing(node.name, "no answer")
    control_s: float | None = None
    try:
        address = await resolve((node.host, node.port), ipv4_only=False, what="node")
        async with connect(address, pin=node.pin) as client:
            control_s = await ping(client)
            found = await _probe_sealed(node, client, address, count, interval_s)
    except* (OSError, LinkDown, Refused, WireError, trio.TooSlowError) as group:
        if not found.answers:
            found = nothing(node.name, first_words(group))
    return attrs.evolve(found, control_ms=_ms(control_s))


async def _probe_sealed(
    node: KnownNode, client: ControlClient, address: Address, count: int, interval_s: float
) -> Probe:
    ask = register_message(token=node.token, resume=None, client=__version__)
    grant = read_grant(await exchange(client, ask), name=node.name, host=address[0])
    data = await find_data(grant, address, name=node.name)
    way = SealedWay(SealedEnd.client(grant.session_id, grant.key))
    found = await _measure(node.name, data, way, count, interval_s)
    await exchange(client, Disconnect())
    return found


async def _measure(
    name: str, node: Address, way: OpenWay | SealedWay, count: int, interval_s: float
) -> Probe:
    try:
        port = UdpPort.bind(any_port(node))
    except OSError as exc:
        return nothing(name, f"cannot open a socket: {exc.strerror}")
    with port:
        prober = Prober(interval_s, trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, port, node, prober, count, way.ask)
            with trio.move_on_after(count * interval_s + TIMEOUT_S):
                await _hear(port, node, prober, count, way.number)
            nursery.cancel_scope.cancel("probed enough")
    refused = port.unsent >= count
    return summary(name, prober, node[1], refused=refused, invited=way.invited)


def nothing(name: str, problem: str) -> Probe:
    """Of a node that could not even be asked."""
    return Probe(name, 0, 0, None, None, None, None, problem)


def summary(
    name: str, prober: Prober, port: int, *, refused: bool = False, invited: bool = False
) -> Probe:
    """What the prober found; `refused`: this machine sent nothing at all."""
    rtt = prober.rtt
    problem = None
    if not prober.answers:
        wrong = "" if invited else "the address is wrong, or "
        problem = (
            "this machine has no way there: check its network"
            if refused
            else f"no answer: {wrong}{why_no_answer(port, invited=invited)}"
        )
    return Probe(
        name,
        prober.sent,
        prober.answers,
        1.0 - prober.answers / prober.sent if prober.sent else None,
        _ms(rtt.min_s),
        _ms(rtt.percentile(0.5)),
        _ms(rtt.percentile(0.95)),
        problem,
    )


async def probe_all(
    nodes: Sequence[Address | KnownNode], *, count: int = COUNT, connect: Connect = connect
) -> list[Probe]:
    """All at once; results in the order given."""
    found: dict[int, Probe] = {}

    async def one(index: int, node: Address | KnownNode) -> None:
        found[index] = await probe(node, count=count, connect=connect)

    async with trio.open_nursery() as nursery:
        for index, node in enumerate(nodes):
            nursery.start_soon(one, index, node)
    return [found[index] for index in range(len(nodes))]


async def _send(
    port: UdpPort,
    node: Address,
    prober: Prober,
    count: int,
    ask: Callable[[int, float], bytes],
) -> None:
    while prober.sent < count:
        now = trio.current_time()
        for event in prober.poll(now):
            if isinstance(event, SendProbe):
                port.send(ask(event.sequence, now), node)
        await trio.sleep_until(prober.next_deadline())


async def _hear(
    port: UdpPort,
    node: Address,
    prober: Prober,
    count: int,
    number_of: Callable[[bytes, float], int | None],
) -> None:
    while prober.answers < count:
        batch = await port.receive()
        now = trio.current_time()
        for datagram, source in batch:
            number = number_of(datagram, now) if source == node else None
            if number is not None:
                prober.answered(number, now)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
