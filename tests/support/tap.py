"""Somebody on the way between one client and one port of its node: reads all, passes all on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio
from lightspeed_protocol.runtime.udp import Address, UdpPort


@attrs.define(eq=False)
class Tap:
    """What it has passed on is in `up` and `down`. The node hears the client from `outer`.

    A packet waits for `delay_s`, and up to twice as long behind another one.
    """

    inner: UdpPort
    outer: UdpPort
    node: Address
    delay_s: float = 0.0
    client: Address | None = None
    up: list[bytes] = attrs.field(factory=list)
    down: list[bytes] = attrs.field(factory=list)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_up)
            nursery.start_soon(self._pass_down)

    async def _pass_up(self) -> None:
        while True:
            batch = await self.inner.receive()
            await trio.sleep(self.delay_s)
            for datagram, source in batch:
                self.client = source
                self.up.append(datagram)
                self.outer.send(datagram, self.node)

    async def _pass_down(self) -> None:
        while True:
            batch = await self.outer.receive()
            await trio.sleep(self.delay_s)
            for datagram, _ in batch:
                self.down.append(datagram)
                if self.client is not None:
                    self.inner.send(datagram, self.client)


@contextmanager
def open_tap(port: int, node: Address, *, delay_s: float = 0.0) -> Iterator[Tap]:
    """On loopback; clients are to send to `port`."""
    with UdpPort.bind(("127.0.0.1", port)) as inner, UdpPort.bind(("127.0.0.1", 0)) as outer:
        yield Tap(inner, outer, node, delay_s)
