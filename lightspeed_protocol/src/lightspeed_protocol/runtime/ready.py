"""Which of many sockets are readable: one wait for all of them.

A trio task for each socket would cost kilobytes and a wake-up per datagram. On Linux the
sockets sit in one epoll of their own, and trio waits for that. Elsewhere each socket gets a
task; a node there is for trying things out, not for a thousand players.
"""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable
from typing import Final, Protocol

import trio

BATCH: Final = 64  # sockets per round
ROUNDS: Final = 4  # per wake-up: under load trio's share is spread over more packets


class ReadySockets(Protocol):
    """A set of sockets one task serves."""

    def add(self, sock: socket.socket) -> None: ...
    def discard(self, sock: socket.socket) -> None:
        """Call before the socket is closed."""

    async def run(self, serve: Callable[[list[int]], object]) -> None:
        """Never returns; calls `serve` with the descriptors that can be read, up to `BATCH`."""

    def serve_now(self, serve: Callable[[list[int]], object]) -> None:
        """Call `serve` once if something can be read; never waits. From within another task."""

    def close(self) -> None: ...


if sys.platform == "linux":

    class EpollSockets:
        """Level-triggered: a socket not read empty is named again by the next wait."""

        def __init__(self) -> None:
            self._epoll = select.epoll()

        def add(self, sock: socket.socket) -> None:
            self._epoll.register(sock.fileno(), select.EPOLLIN)

        def discard(self, sock: socket.socket) -> None:
            self._epoll.unregister(sock.fileno())

        async def run(self, serve: Callable[[list[int]], object]) -> None:
            poll = self._epoll.poll
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for _ in range(ROUNDS):
                    ready = poll(0, BATCH)
                    if not ready:
                        break
                    serve([descriptor for descriptor, _ in ready])

        def serve_now(self, serve: Callable[[list[int]], object]) -> None:
            ready = self._epoll.poll(0, BATCH)
            if ready:
                serve([descriptor for descriptor, _ in ready])

        def close(self) -> None:
            self._epoll.close()


class TaskSockets:
    """The portable way: a waiting task for each socket."""

    def __init__(self) -> None:
        self._waiting: dict[socket.socket, trio.CancelScope | None] = {}
        self._nursery: trio.Nursery | None = None
        self._serve: Callable[[list[int]], object] = len

    def add(self, sock: socket.socket) -> None:
        self._waiting[sock] = None
        if self._nursery is not None:
            self._nursery.start_soon(self._watch, sock)

    def discard(self, sock: socket.socket) -> None:
        scope = self._waiting.pop(sock)
        if scope is not None:
            scope.cancel("socket discarded")

    async def run(self, serve: Callable[[list[int]], object]) -> None:
        self._serve = serve
        async with trio.open_nursery() as self._nursery:
            for sock in self._waiting:
                self._nursery.start_soon(self._watch, sock)
            await trio.sleep_forever()

    def serve_now(self, serve: Callable[[list[int]], object]) -> None:
        ready, _, _ = select.select(list(self._waiting)[:BATCH], (), (), 0)
        if ready:
            serve([sock.fileno() for sock in ready])

    def close(self) -> None:
        self._waiting.clear()

    async def _watch(self, sock: socket.socket) -> None:
        with trio.CancelScope() as scope:
            if sock not in self._waiting:
                return  # discarded before it began
            self._waiting[sock] = scope
            while True:
                await trio.lowlevel.wait_readable(sock)
                self._serve([sock.fileno()])


def ready_sockets() -> ReadySockets:
    """The best there is on this platform."""
    if sys.platform == "linux":
        return EpollSockets()
    else:
        return TaskSockets()
