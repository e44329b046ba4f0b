"""`lightspeed probe`: keepalive round trips to nodes, several at once."""

from __future__ import annotations

from typing import Any, Final

import attrs
import trio
from lightspeed_protocol.header import (
    HEADER_BYTES,
    KEEPALIVE,
    VERSION_PLAIN,
    control_packet,
    microseconds,
)
from lightspeed_protocol.keepalive import TIMEOUT_S, Prober, SendProbe
from lightspeed_protocol.runtime.udp import UdpPort

from ..address import Address, Unresolved, resolve, write_address
from ..words import why_no_answer

COUNT: Final = 10
INTERVAL_S: Final = 0.1


@attrs.frozen
class Probe:
    """Round trips to one node; `problem` says in one line why there are none."""

    node: str
    sent: int
    answers: int
    loss: float | None
    min_ms: float | None
    median_ms: float | None
    p95_ms: float | None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in attrs.asdict(self).items()
        }

    def line(self) -> str:
        if self.problem is not None:
            return f"{self.node}: {self.problem}"
        assert self.min_ms is not None
        assert self.median_ms is not None
        assert self.p95_ms is not None
        return (
            f"{self.node}: {self.answers} of {self.sent} answered, round trip min"
            f" {self.min_ms:.2f} median {self.median_ms:.2f} p95 {self.p95_ms:.2f} ms"
        )


async def probe(wanted: Address, *, count: int = COUNT, interval_s: float = INTERVAL_S) -> Probe:
    """Never raises for a network's sake: trouble is in `problem`."""
    name = write_address(wanted)
    try:
        node = await resolve(wanted, ipv4_only=False, what="node")
        port = UdpPort.bind(("::" if ":" in node[0] else "0.0.0.0", 0))
    except Unresolved as exc:
        return Probe(name, 0, 0, None, None, None, None, str(exc))
    except OSError as exc:
        return Probe(name, 0, 0, None, None, None, None, f"cannot open a socket: {exc.strerror}")
    with port:
        prober = Prober(interval_s, trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send, port, node, prober, count)
            with trio.move_on_after(count * interval_s + TIMEOUT_S):
                await _hear(port, node, prober, count)
            nursery.cancel_scope.cancel("probed enough")
    return summary(name, prober, node[1], refused=port.unsent >= count)


def summary(name: str, prober: Prober, port: int, *, refused: bool = False) -> Probe:
    """What the prober found; `refused`: this machine sent nothing at all."""
    rtt = prober.rtt
    problem = None
    if not prober.answers:
        problem = (
            "this machine has no way there: check its network"
            if refused
            else f"no answer: the address is wrong, or {why_no_answer(port)}"
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


async def probe_all(nodes: list[Address], *, count: int = COUNT) -> list[Probe]:
    """All at once; results in the order given."""
    found: dict[int, Probe] = {}

    async def one(index: int, node: Address) -> None:
        found[index] = await probe(node, count=count)

    async with trio.open_nursery() as nursery:
        for index, node in enumerate(nodes):
            nursery.start_soon(one, index, node)
    return [found[index] for index in range(len(nodes))]


async def _send(port: UdpPort, node: Address, prober: Prober, count: int) -> None:
    while prober.sent < count:
        now = trio.current_time()
        for event in prober.poll(now):
            if isinstance(event, SendProbe):
                packet = control_packet(
                    KEEPALIVE, sequence=event.sequence, timestamp_us=microseconds(now)
                )
                port.send(packet, node)
        await trio.sleep_until(prober.next_deadline())


async def _hear(port: UdpPort, node: Address, prober: Prober, count: int) -> None:
    while prober.answers < count:
        batch = await port.receive()
        now = trio.current_time()
        for datagram, source in batch:
            if (
                source == node
                and len(datagram) >= HEADER_BYTES
                and datagram[0] == VERSION_PLAIN << 4 | KEEPALIVE
            ):
                prober.answered(datagram[2] << 8 | datagram[3], now)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
