"""Serves an ASGI app over HTTP as one task, bounded in connections, time and request size.

The protocol is hypercorn's. Accepting is done here, because three things must hold that its own
worker leaves open: the number of connections is bounded (each costs a file descriptor that a game
flow may need), a peer that does not read cannot hold up a shutdown (hypercorn shields its sends
from cancelling), and whatever goes wrong in one connection ends that connection only.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from .imports import postponed

# hypercorn names the type of an event between its processes, of which there are none: 0.5 MB.
with postponed("multiprocessing.synchronize", Event=object):
    from hypercorn.app_wrappers import ASGIWrapper
    from hypercorn.config import Config
    from hypercorn.trio.tcp_server import TCPServer
    from hypercorn.trio.worker_context import WorkerContext
    from hypercorn.typing import ConnectionState

from .supervise import leaves

log = logging.getLogger(__name__)

BACKLOG: Final = 64

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]  # scope, receive, send


@attrs.frozen(kw_only=True)
class HttpLimits:
    connections: int = 64
    idle_s: float = 5.0  # without a complete request head
    connection_s: float = 60.0  # in all; a scraper connects again
    head_bytes: int = 8192
    grace_s: float = 0.5  # for open requests when the server stops


@attrs.define(eq=False)
class HttpCounters:
    connections: int = 0
    refused: int = 0  # too many at once
    failed: int = 0  # ended by an error of ours or hypercorn's


def listen(address: tuple[str, int]) -> socket.socket:
    """A listening TCP socket; raises OSError. Connections wait in it until `serve_http` runs."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let another program take the port over
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


async def serve_http(
    app: ASGIApp,
    listener: socket.socket,
    *,
    limits: HttpLimits = HttpLimits(),
    counters: HttpCounters | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; open requests then get `grace_s`. `listener` stays open."""
    counts = HttpCounters() if counters is None else counters
    config = _hypercorn_config(limits)
    wrapped = ASGIWrapper(app)
    open_now: set[WorkerContext] = set()

    async def connection(stream: trio.SocketStream) -> None:
        if len(open_now) >= limits.connections:
            counts.refused += 1
            stream.socket.close()
            return
        counts.connections += 1
        context = WorkerContext(None)  # one each, so that each can be told to finish by itself
        open_now.add(context)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cut_off, stream, limits.connection_s)
                client: Any = _Client(stream, context)
                await TCPServer(wrapped, config, context, ConnectionState({}), client)
                nursery.cancel_scope.cancel("connection over")
        except* Exception as group:  # this connection's trouble alone, whatever was sent
            counts.failed += 1
            log.warning("an HTTP connection failed: %s", leaves(group), exc_info=counts.failed == 1)
        finally:
            open_now.discard(context)

    stopping = trio.Event()

    async def hold_connections(*, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        """Outlives our caller's cancel by `grace_s`, so that an answer under way gets out."""
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.shield = True
            task_status.started(nursery)
            await stopping.wait()
            nursery.cancel_scope.deadline = trio.current_time() + limits.grace_s

    async with trio.open_nursery() as nursery:
        connections = await nursery.start(hold_connections)
        try:
            task_status.started(listener.getsockname()[:2])
            await trio.serve_listeners(
                connection,
                [trio.SocketListener(trio.socket.from_stdlib_socket(listener.dup()))],
                handler_nursery=connections,
            )
        finally:
            stopping.set()
            with trio.move_on_after(limits.grace_s, shield=True):
                for context in tuple(open_now):
                    await context.terminated.set()  # idle: closes now; busy: after its answer


@attrs.define(eq=False)
class _Client:
    """A connection whose end is noticed: hypercorn would keep its place for `idle_s` more."""

    _stream: trio.SocketStream
    _context: WorkerContext

    @property
    def socket(self) -> trio.socket.SocketType:
        return self._stream.socket

    async def receive_some(self, most_bytes: int) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(most_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""  # reset, or cut off by us: an end like any other
        if not data:
            await self._context.terminated.set()
        return data

    async def send_all(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _cut_off(stream: trio.SocketStream, after_s: float) -> None:
    """Closing the socket is the one thing that ends a send hypercorn shields."""
    try:
        await trio.sleep(after_s)
    finally:
        stream.socket.close()


def _hypercorn_config(limits: HttpLimits) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = log
    config.include_server_header = False
    config.keep_alive_timeout = limits.idle_s
    config.h11_max_incomplete_size = limits.head_bytes
    return config
