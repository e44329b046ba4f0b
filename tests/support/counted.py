"""A game whose packets are numbered, held by the test itself: who got which number from where.

As `numbered`, whose packets it sends, but it can tell what had been sent at any moment. The
sockets may be of any namespace.
"""

from __future__ import annotations

import socket
from collections import Counter

import attrs
import trio

from .numbered import FILLER, NUMBER

LINGER_S = 10.0  # for the last packets on a busy machine; they are on the way for milliseconds

Address = tuple[str, int]


def drain(sock: socket.socket) -> list[tuple[bytes, Address]]:
    """All that has come."""
    found: list[tuple[bytes, Address]] = []
    while True:
        try:
            data, source = sock.recvfrom(2048)
        except BlockingIOError:
            return found
        except OSError:
            continue  # the answer to something sent to a port that was closed
        found.append((data, (source[0], source[1])))


@attrs.define(eq=False)
class CountingServer:
    """A game server that sends every packet back; `heard` is what came, in its order."""

    sock: socket.socket
    heard: list[tuple[bytes, Address]] = attrs.field(factory=list)

    @property
    def address(self) -> Address:
        host, port, *_ = self.sock.getsockname()
        return host, port

    @property
    def where(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def exits(self) -> list[Address]:
        """Where packets came from, each once, oldest first."""
        return list(dict.fromkeys(source for _, source in self.heard))

    @property
    def twice(self) -> int:
        return len(self.heard) - len({data for data, _ in self.heard})

    async def serve(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            for data, source in drain(self.sock):
                self.heard.append((data, source))
                self.sock.sendto(data, source)


@attrs.define(eq=False)
class CountingPlayer:
    """A game that is pointed at `to`. `back` counts how often each number came back."""

    sock: socket.socket
    to: Address
    name: bytes = b""  # of this player, in front of each number
    sent: int = 0
    back: Counter[int] = attrs.field(factory=Counter)

    @property
    def missing(self) -> list[int]:
        return [number for number in range(self.sent) if not self.back[number]]

    @property
    def twice(self) -> int:
        return self.back.total() - len(self.back)

    def payload(self, number: int) -> bytes:
        return self.name + NUMBER.pack(number) + FILLER

    def send(self) -> None:
        """The next number."""
        self.sock.sendto(self.payload(self.sent), self.to)
        self.sent += 1

    async def play(self, packets: int, per_second: float) -> None:
        """Send so many, and wait until they are back or `LINGER_S` has passed."""
        first = self.sent
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            due = trio.current_time()
            for _ in range(packets):
                self.send()
                due += 1 / per_second
                await trio.sleep_until(due)
            with trio.move_on_after(LINGER_S):
                while not all(self.back[number] for number in range(first, self.sent)):
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel("played")

    async def until_carried(self, within_s: float = LINGER_S) -> None:
        """Send until something comes back."""
        with trio.fail_after(within_s):
            while not self.back:
                await self._one()

    async def _one(self) -> None:
        self.send()
        with trio.move_on_after(0.2):
            await trio.lowlevel.wait_readable(self.sock)
            self._take()

    async def _listen(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            self._take()

    def _take(self) -> None:
        for data, _ in drain(self.sock):
            (number,) = NUMBER.unpack_from(data, len(self.name))
            assert data == self.payload(number)
            self.back[number] += 1
