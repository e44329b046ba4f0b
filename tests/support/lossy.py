"""A network inside one nursery and on its clock: delay and loss from one seed, and outages."""

from __future__ import annotations

import contextlib
import random

import attrs
import trio
from lightspeed_protocol.runtime.udp import Address, Datagram


@attrs.define(eq=False)
class LossyNet:
    """`delay_s` and `loss` may be changed at any moment; `blocked` hosts hear nothing."""

    nursery: trio.Nursery
    rng: random.Random
    delay_s: float = 0.02
    loss: float = 0.0
    blocked: set[str] = attrs.field(factory=set)
    sent: list[tuple[bytes, Address, Address]] = attrs.field(factory=list)  # data, from, to
    ports: dict[Address, LossyPort] = attrs.field(factory=dict)
    _next: int = 40000

    def bind(self, address: Address) -> LossyPort:
        """0.0.0.0 is 198.51.100.1 here, port 0 a new one."""
        host, number = address
        if number == 0:
            self._next += 1
            number = self._next
        place = ("198.51.100.1" if host == "0.0.0.0" else host, number)
        port = self.ports[place] = LossyPort(self, place)
        return port

    def carry(self, payload: bytes, source: Address, to: Address) -> None:
        self.sent.append((payload, source, to))
        if to[0] not in self.blocked and self.rng.random() >= self.loss:
            self.nursery.start_soon(self._deliver, (payload, source), to)

    async def _deliver(self, datagram: Datagram, to: Address) -> None:
        await trio.sleep(self.delay_s)
        port = self.ports.get(to)
        if port is not None:
            with contextlib.suppress(trio.WouldBlock):
                port.put(datagram)


@attrs.define(eq=False)
class LossyPort:
    """Stands in for `UdpPort`."""

    _net: LossyNet
    address: Address
    seen_as: Address | None = None  # by others: what a NAT makes of it
    _inbox: trio.MemoryReceiveChannel[Datagram] = attrs.field(init=False)
    _send: trio.MemorySendChannel[Datagram] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._inbox = trio.open_memory_channel[Datagram](5000)

    def put(self, datagram: Datagram) -> None:
        self._send.send_nowait(datagram)

    def send(self, payload: bytes, to: Address) -> bool:
        self._net.carry(payload, self.seen_as or self.address, to)
        return True

    async def receive(self) -> list[Datagram]:
        batch = [await self._inbox.receive()]
        with contextlib.suppress(trio.WouldBlock):
            while True:
                batch.append(self._inbox.receive_nowait())
        return batch

    def rebind(self, seen_as: Address) -> None:
        """The NAT before this socket gives it another address and forgets the old one."""
        self._net.ports.pop(self.seen_as or self.address)
        self.seen_as = seen_as
        self._net.ports[seen_as] = self

    def close(self) -> None:
        self._net.ports.pop(self.seen_as or self.address, None)
        self._send.close()
        self._inbox.close()
