"""Opens, ends and expires flows: where may this one go, is there room, and its socket.

Both slow paths (`sealed_path`, `legacy_path`) open flows here; the packet loops never do.
"""

from __future__ import annotations

import logging
import math
import random
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Final

import attrs
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.protection import UNPROTECTED
from lightspeed_protocol.header import (
    FIN,
    NO_ADDRESSES,
    control_packet,
    microseconds,
    swap_addresses,
    unpack_addresses,
)
from lightspeed_protocol.runtime.ready import ReadySockets, ready_sockets
from lightspeed_protocol.sealed_flow import SealedFlow

from .abuse import DATAGRAM_OVERHEAD
from .config import ProxyConfig
from .counters import Counters
from .destinations import DestinationPolicy
from .memory import give_back
from .sessions import Address, Flow, Lease, Session, Sessions

log = logging.getLogger(__name__)

SPARE: Final = 64  # open files for HTTP, logs and the rest
CROWD: Final = 256  # flows; when so many have gone, their memory is worth giving back


def is_own(host: str) -> bool:
    """Whether an address is this machine's: then, and only then, a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        probe = socket.socket(family, socket.SOCK_DGRAM)
    except OSError:
        return True  # no descriptor left to find out with: then it is not sent to
    with probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def room_for_flows() -> float:
    """How many flows the limit of open files allows, with some left for everything else."""
    if sys.platform == "win32":
        return math.inf
    else:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return math.inf if limit == resource.RLIM_INFINITY else limit - min(SPARE, limit // 2)


def leased(lease: Lease | None, host: str) -> bool:
    """Whether an invite's own list of destinations, if it has one, allows this host."""
    if lease is None or not lease.destinations:
        return True
    address = ip_address(host)
    return any(net.version == address.version and address in net for net in lease.destinations)


def _speaks_to(session: Session, destination: tuple[str, int]) -> bool:
    """Whether a flow of this session has the same game server: a game may use several sockets."""
    return any(unpack_addresses(key)[1] == destination for key in session.flows)


@attrs.define(eq=False)
class Flows:
    """`wake` is called when a flow's expiry may be the next thing to happen."""

    config: ProxyConfig
    counters: Counters
    sessions: Sessions
    node_ports: frozenset[int]
    dev: bool
    rng: random.Random
    wake: Callable[[], object]
    ready: ReadySockets = attrs.field(factory=ready_sockets)
    room: float = attrs.field(factory=room_for_flows)
    draining: bool = False
    _policy: DestinationPolicy = attrs.field(init=False)
    _most: int = attrs.field(default=0, init=False)  # flows at once since nobody played
    _full: set[str] = attrs.field(factory=set, init=False)  # tables already reported as full

    def __attrs_post_init__(self) -> None:
        self.apply(self.config)

    def __len__(self) -> int:
        return len(self.sessions.by_descriptor)

    def apply(self, config: ProxyConfig) -> None:
        """Take over new limits and policy, for flows opened from now on."""
        self.config = config
        security = config.security
        self._policy = DestinationPolicy(
            allow=tuple(map(ip_network, security.allow_destinations)),
            deny=tuple(map(ip_network, security.deny_destinations)),
            deny_ports=frozenset(security.deny_ports),
            dev=self.dev,
            node_ports=self.node_ports,
            is_own=is_own,
        )

    def permits(self, host: str, port: int) -> bool:
        """Whether this node sends anything there."""
        return self._policy.permits(host, port)

    def open(self, session: Session, key: bytes, now: float, *, token: int = 0) -> Flow:
        """A new flow of this session, to the destination its addresses name.

        Raises `WireError`: "destination", "max-flows", "many-destinations", "no-socket".
        """
        _, destination = unpack_addresses(key)
        if not self.permits(*destination) or not leased(session.lease, destination[0]):
            raise WireError("destination")
        if len(session.flows) >= self.config.limits.max_flows_per_client:
            raise WireError("max-flows")
        if not _speaks_to(session, destination) and not session.opened.admit(
            self.config.security, now
        ):
            raise WireError("many-destinations")
        if len(self) >= self.room:
            self.say_full("open files", len(self))
            raise WireError("no-socket")
        flow = Flow(session, key, self._open_socket(destination), last_up=now)
        if session.end is not None:
            terms = session.repair
            flow.sealed = SealedFlow.open(
                session.end,
                swap_addresses(key),
                terms.down or UNPROTECTED,
                log=terms.log(),
                asking=terms.asking,
            )
        else:
            first = self.rng.randrange(0x10000)
            flow.endpoint = Endpoint.open(swap_addresses(key), token=token, first=first)
            flow.window = flow.endpoint.window
        self.counters.flows_created += 1
        self.sessions.add(flow)
        self._most = max(self._most, len(self))
        self.ready.add(flow.sock)
        self.wake()
        return flow

    def end(self, flow: Flow) -> None:
        """Close it; its port is free for others."""
        self.ready.discard(flow.sock)
        self.sessions.remove(flow)
        self.counters.settle(flow.settle())
        flow.sock.close()
        self.counters.flows_closed += 1
        if self._most >= CROWD and not len(self):
            self._most = 0
            give_back()

    def end_all(self, session: Session) -> None:
        """Every flow of a session."""
        for flow in list(session.flows.values()):
            self.end(flow)

    def expire(self, now: float) -> None:
        """End the flows whose client has been silent for too long."""
        for flow in self.sessions.expired(now):
            self.end(flow)
            if not flow.session.flows and flow.session.lease is None:
                self.counters.sessions_expired += 1

    def say_fin(self, session: Session, now: float, addresses: bytes = NO_ADDRESSES) -> None:
        """Tell the client that its session, or the flow of these addresses, has ended."""
        if session.data is None:
            return
        if session.end is None:
            fin = control_packet(FIN, token=max(session.token, 0), timestamp_us=microseconds(now))
        else:
            fin = session.end.control(FIN, microseconds(now), addresses=addresses)
            if not session.spend(len(fin) + DATAGRAM_OVERHEAD):
                return
        self.send(session.data, fin, session.client)

    def send(self, data: socket.socket, packet: bytes, client: Address | None) -> None:
        """A packet of our own; a client that has not spoken yet gets none."""
        if client is None:
            return
        try:
            data.sendto(packet, client)
        except OSError:
            self.counters.drops["unsent"] += 1

    def say_full(self, table: str, size: int) -> None:
        """Once for each table."""
        if table not in self._full:
            self._full.add(table)
            log.warning("%s is full at %d: new ones are refused", table, size)

    def _open_socket(self, destination: tuple[str, int]) -> socket.socket:
        """Connected: its port stays for the flow's life, and only the game server is heard."""
        try:
            family = socket.AF_INET6 if ":" in destination[0] else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:  # no descriptor left, or no IPv6
            self.say_full("sockets", len(self))
            raise WireError("no-socket") from error
        try:
            sock.setblocking(False)
            sock.connect(destination)
        except OSError as error:
            sock.close()
            raise WireError("no-socket") from error
        return sock
