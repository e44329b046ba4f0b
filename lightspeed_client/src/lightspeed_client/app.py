"""Opens sockets, nests the tasks and ends them in order. The client's tree, as code.

    open_redirect
    └ sockets: 127.0.0.1:port, [::1]:port
      └ tunnel nursery    run_path (names, keepalive answers), run_timers, one downlink a flow
        └ source nursery  run_listener for each local socket           stops first
Leaving it: the source stops, every flow says FIN, then the tunnel closes. A cancelled or
failing body says FIN too, but waits for nothing.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Final

import attrs
import trio
from attrs.validators import ge, in_, le, optional
from lightspeed_protocol.keepalive import Prober
from lightspeed_protocol.runtime.udp import UdpPort, open_socket

from .address import NODE_PORT, Address, parse_address
from .flows import MAX_FLOWS, FlowTable
from .gauges import Gauges
from .redirect import OwnedPort, Redirect

log = logging.getLogger(__name__)

FREE_PORT_TRIES: Final = 20
FIRST_LOOKUP_S: Final = 2.0  # then carrying begins whenever DNS has answered


class PortInUse(OSError):
    """The local port cannot be had; the text says what to do."""


def _server(value: Address | str) -> Address:
    return parse_address(value, ipv4_only=True) if isinstance(value, str) else value


def _node(value: Address | str) -> Address:
    return parse_address(value, default_port=NODE_PORT) if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class RedirectSettings:
    """`server` and `node` are (host, port) or "host:port"; hosts may be names.

    `local_port` 0 takes a free one. `fec_k` None sends version 1, unprotected.
    """

    server: Address = attrs.field(converter=_server)
    node: Address = attrs.field(converter=_node)
    local_port: int = attrs.field(default=0, validator=[ge(0), le(65535)])
    fec_k: int | None = attrs.field(default=None, validator=optional(in_(range(2, 17))))
    keepalive_s: float = attrs.field(default=0.25, validator=[ge(0.05), le(5.0)])
    idle_s: float = attrs.field(default=300.0, validator=ge(5.0))
    max_flows: int = attrs.field(default=MAX_FLOWS, validator=ge(1))
    watched: bool = False  # probe at full rate even while nobody plays


@asynccontextmanager
async def open_redirect(
    settings: RedirectSettings, *, bind: Callable[[Address], OwnedPort] = UdpPort.bind
) -> AsyncIterator[Redirect]:
    """Carry until the body is left.

    Raises `PortInUse`. Names that do not resolve and nodes that do not answer are no errors
    here: they show in the figures, and carrying begins when they are there.
    """
    now = trio.current_time()
    with ExitStack() as sockets:
        listeners = open_listeners(settings.local_port, bind, sockets)
        table = FlowTable(
            fec_k=settings.fec_k, idle_s=settings.idle_s, max_flows=settings.max_flows
        )
        prober = Prober(settings.keepalive_s, now)
        async with trio.open_nursery() as tunnel:
            redirect = Redirect(
                wanted_server=settings.server,
                wanted_node=settings.node,
                listeners=list(listeners),
                bind=bind,
                nursery=tunnel,
                table=table,
                prober=prober,
                gauges=Gauges(table, prober, now),
                probe_s=settings.keepalive_s,
                watched=settings.watched,
            )
            with trio.move_on_after(FIRST_LOOKUP_S):
                await redirect.look_up()
            tunnel.start_soon(redirect.run_path)
            tunnel.start_soon(redirect.run_timers)
            async with trio.open_nursery() as source:
                for port in listeners:
                    source.start_soon(redirect.run_listener, port)
                yield redirect
                source.cancel_scope.cancel("redirect mode ends")
            await redirect.finish()
            tunnel.cancel_scope.cancel("redirect mode ends")


def pick_local_port(wanted: int, server_port: int) -> int:
    """`wanted`, or for 0 the server's own port number where it is free here, else 0."""
    if wanted:
        return wanted
    try:
        open_socket(("127.0.0.1", server_port)).close()
    except OSError:
        return 0
    return server_port


def open_listeners(
    port: int, bind: Callable[[Address], OwnedPort], sockets: ExitStack
) -> list[OwnedPort]:
    """127.0.0.1 and, where there is one, ::1, both on the same port. Raises `PortInUse`."""
    for _ in range(FREE_PORT_TRIES if port == 0 else 1):
        try:
            first = bind(("127.0.0.1", port))
        except OSError as exc:
            raise _port_trouble(port, exc) from None
        try:
            second = bind(("::1", first.address[1]))
        except OSError as exc:
            if port == 0 and exc.errno == errno.EADDRINUSE:
                first.close()
                continue
            if socket.has_ipv6 and exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                log.warning("not listening on [::1]:%d: %s", first.address[1], exc.strerror)
            else:
                log.info("this machine has no IPv6 loopback; listening on 127.0.0.1 only")
            return [sockets.enter_context(first)]
        return [sockets.enter_context(first), sockets.enter_context(second)]
    raise PortInUse("found no port that is free on both 127.0.0.1 and ::1: give --local-port")


def _port_trouble(port: int, exc: OSError) -> PortInUse:
    if exc.errno == errno.EADDRINUSE:
        return PortInUse(
            f"port {port} on 127.0.0.1 is in use: close the program that has it (a second"
            " lightspeed, or the game's own server), or give another --local-port"
        )
    if exc.errno == errno.EACCES:
        return PortInUse(f"port {port} may not be opened by this user: use one above 1023")
    return PortInUse(f"cannot listen on 127.0.0.1:{port}: {exc.strerror or exc}")
