"""A network inside one test, and a version 1 and 2 node written from PROTOCOL.md alone.

The node shares no code with the client's tunnel, so both being wrong alike would show.
"""

from __future__ import annotations

import errno
import itertools
import struct
from collections.abc import Callable
from typing import Self

import attrs
import trio
from lightspeed_protocol.runtime.udp import Port

Address = tuple[str, int]

SERVER: Address = ("203.0.113.5", 27960)
NODE: Address = ("192.0.2.1", 4434)
HOME = "198.51.100.1"  # the client's address as others see it
_SEEN_AS = {"0.0.0.0": HOME, "::": "2001:db8::1"}


@attrs.define(eq=False)
class FakeNet:
    """Delivers at once; `broken` hosts hear nothing and cannot be heard."""

    broken: set[str] = attrs.field(factory=set)
    dead: set[Address] = attrs.field(factory=set)  # sockets whose way is lost, as by a NAT
    taken: set[Address] = attrs.field(factory=set)  # ports of other programs
    no_ipv6: bool = False
    seen: list[tuple[bytes, Address]] = attrs.field(factory=list)  # all that was sent, and where
    ports: dict[Address, FakePort] = attrs.field(factory=dict)
    _free: itertools.count[int] = attrs.field(factory=lambda: itertools.count(40000))

    def bind(self, address: Address) -> FakePort:
        host, port = address
        if ":" in host and self.no_ipv6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        host = _SEEN_AS.get(host, host)
        port = port or next(self._free)
        if (host, port) in self.ports or (host, port) in self.taken:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        made = self.ports[host, port] = FakePort(self, (host, port))
        return made

    def carry(self, payload: bytes, source: Address, to: Address) -> None:
        self.seen.append((payload, to))
        lost = {source[0], to[0]} & self.broken or {source, to} & self.dead
        if not lost and to in self.ports:
            self.ports[to].put(payload, source)


@attrs.define(eq=False)
class FakePort:
    """Stands in for `UdpPort`."""

    net: FakeNet
    address: Address
    unsent: int = 0
    refuses: bool = False  # the system sends nothing
    _send: trio.MemorySendChannel[tuple[bytes, Address]] = attrs.field(init=False)
    _inbox: trio.MemoryReceiveChannel[tuple[bytes, Address]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._inbox = trio.open_memory_channel[tuple[bytes, Address]](1000)

    def put(self, payload: bytes, source: Address) -> None:
        self._send.send_nowait((payload, source))

    def send(self, payload: bytes, to: Address) -> bool:
        if self.refuses:
            self.unsent += 1
            return False
        self.net.carry(payload, self.address, to)
        return True

    async def receive(self) -> list[tuple[bytes, Address]]:
        batch = [await self._inbox.receive()]
        try:
            while True:
                batch.append(self._inbox.receive_nowait())
        except trio.WouldBlock:
            return batch

    def take(self) -> list[bytes]:
        """What has come and was not read."""
        got = []
        try:
            while True:
                got.append(self._inbox.receive_nowait()[0])
        except trio.WouldBlock:
            return got

    def close(self) -> None:
        self.net.ports.pop(self.address, None)
        self._inbox.close()  # first: a waiting reader is told that its socket was closed
        self._send.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def echo(payload: bytes) -> list[bytes]:
    return [payload]


@attrs.define(eq=False)
class _Session:
    sequence: int = 0
    block: int = 0
    pending: list[bytes] = attrs.field(factory=list)


@attrs.define(eq=False)
class FakeNode:
    """Answers for a game server that turns a payload into `server(payload)`."""

    server: Callable[[bytes], list[bytes]] = echo
    answers_fin: bool = True
    loses: Callable[[int], bool] = lambda _: False  # of its n-th data packet towards a client
    got: list[tuple[bytes, Address]] = attrs.field(factory=list)  # game payloads
    labels: set[bytes] = attrs.field(factory=set)  # bytes 8-19 seen
    fins: list[Address] = attrs.field(factory=list)
    keepalives: list[int] = attrs.field(factory=list)
    sessions: dict[Address, _Session] = attrs.field(factory=dict)
    sent: int = 0

    def answer(self, datagram: bytes, source: Address) -> list[bytes]:
        """What goes back to `source`."""
        first, token, sequence, _ = struct.unpack_from("!BBHI", datagram)
        version, flags = first >> 4, first & 15
        if flags & 1:
            self.keepalives.append(sequence)
            return [struct.pack("!BBHI12x", 0x11, token, sequence, 7)]
        if flags & 2:
            return [struct.pack("!BBHI12x", 0x12, token, sequence, 7)]
        if flags & 4:
            self.fins.append(source)
            self.sessions.pop(source, None)
            return [struct.pack("!BBHI12x", 0x14, token, 0, 7)] if self.answers_fin else []
        session = self.sessions.setdefault(source, _Session())
        self.labels.add(datagram[8:20])
        back = datagram[12:16] + datagram[8:12] + datagram[18:20] + datagram[16:18]
        payload = datagram[20:]
        k = 0
        if version == 2:
            _, index, k = struct.unpack_from("!HBB", datagram, 20)
            if index >= k:
                return []
            payload = datagram[24:]
        self.got.append((payload, source))
        out: list[bytes] = []
        for told in self.server(payload):
            if version == 1:
                out.append(self._data(session, 0x10, back + told))
                continue
            field = struct.pack("!HBB", session.block, len(session.pending), k)
            out.append(self._data(session, 0x20, back + field + told))
            session.pending.append(told)
            if len(session.pending) == k:
                field = struct.pack("!HBB", session.block, k, k)
                out.append(self._data(session, 0x20, back + field + _parity(session.pending)))
                session.block = (session.block + 1) % 65536
                session.pending = []
        kept = []
        for packet in out:
            self.sent += 1
            if not self.loses(self.sent):
                kept.append(packet)
        return kept

    def farewell(self) -> list[tuple[bytes, Address]]:
        """The FINs of a node that shuts down."""
        return [(struct.pack("!BBHI12x", 0x14, 0, 0, 7), source) for source in self.sessions]

    async def serve(self, port: Port) -> None:
        while True:
            for datagram, source in await port.receive():
                for packet in self.answer(datagram, source):
                    port.send(packet, source)

    def _data(self, session: _Session, first: int, rest: bytes) -> bytes:
        head = struct.pack("!BBHI", first, 0, session.sequence, 7)
        session.sequence = (session.sequence + 1) % 65536
        return head + rest


def _parity(payloads: list[bytes]) -> bytes:
    longest = max(map(len, payloads))
    total = bytearray(longest)
    lengths = 0
    for payload in payloads:
        lengths ^= len(payload)
        for index, byte in enumerate(payload):
            total[index] ^= byte
    return bytes(total) + struct.pack("!H", lengths)
