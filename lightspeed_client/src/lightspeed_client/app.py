"""Opens sockets, nests the tasks and ends them in order. The client's tree, as code.

    open_redirect
    └ sockets: 127.0.0.1:port, [::1]:port
      └ tunnel nursery    the tunnel (keepalives, what the node sends), run_timers,
        │                 with an invite: the control session
        └ source nursery  run_listener for each local socket           stops first
Leaving it: the source stops, the tunnel says FIN, the control session says goodbye, then both
close. A cancelled or failing body says FIN too, but waits for nothing.
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
from attrs.validators import ge, le
from lightspeed_protocol.errors import Refused
from lightspeed_protocol.header import HEADER_BYTES
from lightspeed_protocol.keepalive import Prober
from lightspeed_protocol.runtime.udp import UdpPort, open_socket

from .address import NODE_PORT, Address, only_ipv4, parse_address, write_address
from .control import ControlSession
from .control_link import Connect, connect
from .fec_choice import OFF, FecChoice
from .flows import MAX_FLOWS, FlowTable
from .gauges import Gauges
from .lookups import Lookup
from .nodes import KnownNode
from .open_tunnel import OpenTunnel
from .pulse import Pulse
from .redirect import Redirect
from .resume import Keeper, Memory
from .sealed_tunnel import KEEPALIVE_BYTES, SealedTunnel
from .session import Grant
from .tunnel import OwnedPort, Tunnel

log = logging.getLogger(__name__)

FREE_PORT_TRIES: Final = 20
FIRST_LOOKUP_S: Final = 2.0  # then carrying begins whenever DNS has answered
# The same for the node's grant, and its first answer; a refusal usually comes within.
FIRST_SESSION_S: Final = 3.0


class PortInUse(OSError):
    """The local port cannot be had; the text says what to do."""


def _server(value: Address | str) -> Address:
    return parse_address(value) if isinstance(value, str) else value


def _node(value: Address | KnownNode | str) -> Address | KnownNode:
    return parse_address(value, default_port=NODE_PORT) if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class RedirectSettings:
    """`server` and `node` are (host, port) or "host:port"; hosts may be names.

    A `KnownNode` is one from the node book: its tunnel is sealed, and only it carries IPv6
    servers. `local_port` 0 takes a free one. Through an open node `fec` is off or XOR.
    """

    server: Address = attrs.field(converter=_server)
    node: Address | KnownNode = attrs.field(converter=_node)
    local_port: int = attrs.field(default=0, validator=[ge(0), le(65535)])
    fec: FecChoice = OFF
    keepalive_s: float = attrs.field(default=0.25, validator=[ge(0.05), le(5.0)])
    idle_s: float = attrs.field(default=300.0, validator=ge(5.0))
    max_flows: int = attrs.field(default=MAX_FLOWS, validator=ge(1))
    watched: bool = False  # probe at full rate even while nobody plays

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.node, KnownNode) and ":" in self.server[0]:
            raise ValueError(only_ipv4(self.server[0]))
        if not isinstance(self.node, KnownNode):
            _ = self.fec.k  # or it says what is wrong

    @property
    def node_name(self) -> str:
        """As the player knows it: the name in the node book, or the address."""
        return self.node.name if isinstance(self.node, KnownNode) else write_address(self.node)


@asynccontextmanager
async def open_redirect(
    settings: RedirectSettings,
    *,
    bind: Callable[[Address], OwnedPort] = UdpPort.bind,
    connect: Connect = connect,
    keeper: Keeper | None = None,
) -> AsyncIterator[Redirect]:
    """Carry until the body is left.

    Raises `PortInUse`, and `Refused` when the node refuses for good at the start. Names that do
    not resolve and nodes that do not answer are no errors here: they show in the figures, and
    carrying begins when they are there. `keeper` is where the session's resume secret is kept.
    """
    now = trio.current_time()
    sealed = isinstance(settings.node, KnownNode)
    with ExitStack() as sockets:
        listeners = open_listeners(settings.local_port, bind, sockets)
        table = FlowTable(fec=settings.fec, idle_s=settings.idle_s, max_flows=settings.max_flows)
        prober = Prober(settings.keepalive_s, now)
        gauges = Gauges(table, prober, now, KEEPALIVE_BYTES if sealed else HEADER_BYTES)
        pulse = Pulse(prober, gauges.node, settings.keepalive_s, settings.watched)
        server = Lookup(settings.server, "game server", ipv4_only=not sealed)
        refusal: Refused | None = None
        async with trio.open_nursery() as nursery:
            control: ControlSession | None = None
            tunnel: Tunnel
            names = [server]
            if isinstance(settings.node, KnownNode):
                tunnel, control = make_sealed(
                    settings.node, bind, connect, keeper or Memory(), table, pulse
                )
            else:
                names.append(Lookup(settings.node, "node"))
                tunnel = OpenTunnel(
                    lookup=names[1], bind=bind, nursery=nursery, table=table, pulse=pulse
                )
            redirect = Redirect(
                node_name=settings.node_name,
                listeners=list(listeners),
                table=table,
                gauges=gauges,
                tunnel=tunnel,
                server_lookup=server,
                control=control,
            )
            with trio.move_on_after(FIRST_LOOKUP_S):
                for name in names:
                    await name.try_once()
            nursery.start_soon(server.until_found)
            nursery.start_soon(tunnel.run)
            nursery.start_soon(redirect.run_timers)
            if control is not None:
                nursery.start_soon(control.run)
                with trio.move_on_after(FIRST_SESSION_S):
                    await control.settled.wait()
                    if control.grant is not None and isinstance(tunnel, SealedTunnel):
                        await tunnel.proven.wait()
                refusal = control.refusal
            if refusal is None:
                async with trio.open_nursery() as source:
                    for port in listeners:
                        source.start_soon(redirect.run_listener, port)
                    yield redirect
                    source.cancel_scope.cancel("redirect mode ends")
                await redirect.finish()
            nursery.cancel_scope.cancel("redirect mode ends")
        if refusal is not None:
            raise refusal  # here, so that no nursery wraps it


def make_sealed(
    node: KnownNode,
    bind: Callable[[Address], OwnedPort],
    connect: Connect,
    keeper: Keeper,
    table: FlowTable,
    pulse: Pulse,
) -> tuple[SealedTunnel, ControlSession]:
    """The tunnel to an invited node, and the session that gives it its keys."""

    def grant(granted: Grant, data: Address) -> None:
        tunnel.use(
            granted.session_id,
            granted.key,
            data,
            schemes=granted.schemes,
            largest_bytes=granted.largest_bytes,
            ipv6_inside=granted.ipv6_inside,
        )

    control = ControlSession(
        node=node,
        connect=connect,
        keeper=keeper,
        fec=table.fec,
        on_grant=grant,
        on_rekey=lambda key: tunnel.rekey(key),
        on_farewell=lambda: tunnel.node_left(),
    )
    tunnel = SealedTunnel(
        name=node.name,
        bind=bind,
        table=table,
        pulse=pulse,
        control=control,
    )
    return tunnel, control


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
