"""The data plane: the slow path's decisions about first packets, and the loops around both.

    data socket ──► table.drain_up ──► game server       every later packet of a flow
                        │ punt
                        ▼
                     Relay.first: flags → session → rate → destination → abuse → new flow
    flow sockets ─► table.drain_down ──► data socket     answers

Each datagram ends in exactly one place: forwarded, answered, or counted under one reason.
"""

from __future__ import annotations

import logging
import math
import random
import socket
import sys
from ipaddress import ip_network
from typing import Final

import attrs
import trio
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec import header as fec_header
from lightspeed_protocol.header import (
    ADDRESSES,
    FIN,
    HANDSHAKE,
    HEADER_BYTES,
    KEEPALIVE,
    NO_ADDRESSES,
    PREFIX,
    VERSION_FEC,
    control_packet,
    microseconds,
    swap_addresses,
    unpack_addresses,
)
from lightspeed_protocol.runtime.ready import ReadySockets, ready_sockets
from lightspeed_protocol.runtime.udp import LARGEST_BYTES, open_socket

from .abuse import Bans, Opened
from .config import ProxyConfig
from .counters import Counters
from .destinations import DestinationPolicy
from .memory import give_back
from .rate_limit import Meter, Rates
from .sessions import Flow, Session, Sessions
from .table import DATA, PythonFlowTable

log = logging.getLogger(__name__)

Address = tuple[str, int]

# Keepalives of addresses without a session are answered byte for byte, but not without end.
STRANGERS_PER_S: Final = 2000

NODE_PORT: Final = 4434  # where other nodes hear: two of them must not talk to each other
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


@attrs.define(eq=False)
class Relay:
    """One node's data plane. `data` are its bound data sockets; it owns and closes them.

    With `dev` anybody is carried; without it nobody is, until there are invites.
    """

    config: ProxyConfig
    counters: Counters
    data: tuple[socket.socket, ...]
    dev: bool
    rng: random.Random = attrs.field(factory=random.SystemRandom)
    table: PythonFlowTable = attrs.field(init=False)
    _sessions: Sessions = attrs.field(init=False)
    _up: Rates = attrs.field(init=False)
    _down: Rates = attrs.field(init=False)
    _strangers: Meter = attrs.field(init=False)
    _bans: Bans = attrs.field(init=False)
    _policy: DestinationPolicy = attrs.field(init=False)
    _ready: ReadySockets = attrs.field(factory=ready_sockets, init=False)
    _timer: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _draining: bool = attrs.field(default=False, init=False)
    _node_ports: frozenset[int] = attrs.field(init=False)
    _room: float = attrs.field(factory=room_for_flows, init=False)
    _most: int = attrs.field(default=0, init=False)  # flows at once since nobody played
    _full: set[str] = attrs.field(factory=set, init=False)  # tables already reported as full

    def __attrs_post_init__(self) -> None:
        limits = self.config.limits
        self._sessions = Sessions(limits.idle_timeout_s)
        self._up = Rates(limits.max_pps_per_client, limits.max_bps_per_client)
        self._down = Rates(limits.max_pps_per_client, limits.max_bps_per_client)
        own = (sock.getsockname()[1] for sock in self.data)
        self._node_ports = frozenset({NODE_PORT, *own})
        self._strangers = Meter(Rates(STRANGERS_PER_S, STRANGERS_PER_S * LARGEST_BYTES))
        self._bans = Bans(self.rng)
        self.table = PythonFlowTable(self._sessions, self.counters, self.config.security)
        self.apply(self.config)

    @property
    def sessions(self) -> int:
        """Clients being carried now."""
        return len(self._sessions)

    @property
    def flows(self) -> int:
        """Game conversations being carried now."""
        return len(self._sessions.by_descriptor)

    @property
    def last_traffic(self) -> float:
        """When a game packet last passed, in either direction."""
        return self.table.last_traffic

    def apply(self, config: ProxyConfig) -> None:
        """Take over new limits and policy; from the next packet on, for old flows too."""
        self.config = config
        limits, security = config.limits, config.security
        for rates in (self._up, self._down):
            rates.set(limits.max_pps_per_client, limits.max_bps_per_client)
        self.table.security = security
        self._policy = DestinationPolicy(
            allow=tuple(map(ip_network, security.allow_destinations)),
            deny=tuple(map(ip_network, security.deny_destinations)),
            deny_ports=frozenset(security.deny_ports),
            dev=self.dev,
            node_ports=self._node_ports,
            is_own=is_own,
        )
        self._sessions.idle_timeout_s = limits.idle_timeout_s
        self._sessions.reschedule()
        self._timer.deadline = self._sessions.next_deadline()

    def refuse_new(self) -> None:
        """From now on no new session; the ones that stand go on."""
        self._draining = True

    def say_goodbye(self) -> None:
        """FIN to every client, so that they need not wait for silence."""
        timestamp_us = microseconds(trio.current_time())
        for session in self._sessions.by_client.values():
            self._send(session.data, control_packet(FIN, timestamp_us=timestamp_us), session.client)

    def close(self) -> None:
        """End every flow and close every socket. Nothing waits."""
        for flow in list(self._sessions.by_descriptor.values()):
            self._end(flow)
        self._ready.close()
        for sock in self.data:
            if sock.fileno() >= 0:
                trio.lowlevel.notify_closing(sock)
                sock.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Never returns."""
        async with trio.open_nursery() as nursery:
            for sock in self.data:
                self._ready.add(sock)
            nursery.start_soon(self._ready.run, self._serve)
            nursery.start_soon(self._run_timers)
            task_status.started()

    def _serve(self, ready: list[int]) -> None:
        """Everything that can be read now, clients' packets first. Both ways in one wake-up."""
        now = trio.current_time()
        for sock in self.data:
            if sock.fileno() in ready:
                ready.remove(sock.fileno())
                for datagram, source in self.table.drain_up(sock, now):
                    self.first(sock, datagram, source, now)
        if ready:
            self.table.drain_down(ready, now)

    async def _run_timers(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._sessions.next_deadline()) as self._timer:
                await trio.sleep_forever()
            for flow in self._sessions.expired(trio.current_time()):
                self._end(flow)
                if not flow.session.flows:
                    self.counters.sessions_expired += 1

    def first(self, data: socket.socket, datagram: bytes, client: Address, now: float) -> None:
        """The slow path: anything the table has no entry for."""
        try:
            self._first(data, datagram, client, now)
        except WireError as error:
            self.counters.drops[error.reason] += 1

    def _first(self, data: socket.socket, datagram: bytes, client: Address, now: float) -> None:
        if not self.dev:
            raise WireError("closed")
        if len(datagram) < HEADER_BYTES:
            raise WireError("short")
        if len(datagram) > LARGEST_BYTES:
            raise WireError("oversized")
        if not 1 <= datagram[0] >> 4 <= VERSION_FEC:
            raise WireError("version")
        if self._bans.holds(client, now):
            raise WireError("banned")
        session = self._sessions.by_client.get(client)
        if datagram[0] not in DATA:
            self._answer_flag(data, datagram, client, session, now)
            return
        self._check_body(datagram)
        if session is None:
            session = self._new_session(data, client)
        flow = session.flows.get(datagram[ADDRESSES])
        if flow is None:  # else the same batch held two first packets
            flow = self._new_flow(session, datagram, now)
        self.table.carry_up(flow, datagram, now)

    def _answer_flag(
        self,
        data: socket.socket,
        datagram: bytes,
        client: Address,
        session: Session | None,
        now: float,
    ) -> None:
        """KEEPALIVE, HANDSHAKE and FIN: answered in kind, with as many bytes at the most."""
        if client[1] in self._node_ports:
            raise WireError("loop")
        meter = self._strangers if session is None else session.up
        reason = meter.admit(len(datagram), now)
        if reason is not None:
            raise WireError(reason)
        first, token, sequence, _ = PREFIX.unpack_from(datagram)
        if first & FIN:
            flag = FIN
            self.counters.fins += 1
            if session is not None:
                self._end_session(session)
                self.counters.sessions_closed += 1
        elif self._draining:
            raise WireError("draining")  # an answer would say: still here
        elif first & KEEPALIVE:
            flag = KEEPALIVE
            self.counters.keepalives += 1
        else:
            flag = HANDSHAKE
            self.counters.handshakes += 1
            if self._bans.proven(client, token, sequence, now):
                self._ban(client, session, now)
                return
        version = first & 0xF0
        answer = PREFIX.pack(version | flag, token, sequence, microseconds(now)) + NO_ADDRESSES
        self._send(data, answer, client)

    @staticmethod
    def _check_body(datagram: bytes) -> None:
        """What a first packet must be, so that a bad one makes no session."""
        if datagram[0] >> 4 < VERSION_FEC:
            if len(datagram) == HEADER_BYTES:
                raise WireError("empty")
            return
        field = fec_header.decode(datagram[HEADER_BYTES:])
        if field.index > field.k:
            raise WireError("fec-index")

    def _new_session(self, data: socket.socket, client: Address) -> Session:
        if self._draining:
            raise WireError("draining")
        if len(self._sessions) >= self.config.limits.max_clients:
            self._say_full("max_clients", self.config.limits.max_clients)
            raise WireError("max-clients")
        client = sys.intern(client[0]), client[1]  # one string for all players of a house
        return Session(client, data, Meter(self._up), Meter(self._down), Opened())

    def _new_flow(self, session: Session, datagram: bytes, now: float) -> Flow:
        reason = session.up.admit(0, now)  # the packet itself is charged when it is carried
        if reason is not None:
            raise WireError(reason)
        key = datagram[ADDRESSES]
        _, destination = unpack_addresses(key)
        if not self._policy.permits(*destination):
            raise WireError("destination")
        if len(session.flows) >= self.config.limits.max_flows_per_client:
            raise WireError("max-flows")
        if not session.opened.admit(self.config.security, now):
            self._challenge(session, now)
            raise WireError("many-destinations")
        if self.flows >= self._room:
            self._say_full("open files", self.flows)
            raise WireError("no-socket")
        sock = self._open_flow_socket(destination)
        first = self.rng.randrange(0x10000)
        endpoint = Endpoint.open(swap_addresses(key), token=datagram[1], first=first)
        flow = Flow(session, key, sock, endpoint, endpoint.window, last_up=now)
        if not session.flows:
            self.counters.sessions_created += 1
        self.counters.flows_created += 1
        self._sessions.add(flow)
        self._most = max(self._most, self.flows)
        self._ready.add(sock)
        self._timer.deadline = min(self._timer.deadline, self._sessions.next_deadline())
        return flow

    def _open_flow_socket(self, destination: Address) -> socket.socket:
        """Connected: its port stays for the flow's life, and only the game server is heard."""
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        except OSError as error:  # no descriptor left
            self._say_full("sockets", self.flows)
            raise WireError("no-socket") from error
        try:
            sock.setblocking(False)
            sock.connect(destination)
        except OSError as error:
            sock.close()
            raise WireError("no-socket") from error
        return sock

    def _challenge(self, session: Session, now: float) -> None:
        """Ask a client that opens too much whether it is really at its address."""
        asked = self._bans.challenge(session.client, now)
        if asked is not None:
            token, sequence = asked
            packet = control_packet(
                HANDSHAKE, token=token, sequence=sequence, timestamp_us=microseconds(now)
            )
            self._send(session.data, packet, session.client)

    def _ban(self, client: Address, session: Session | None, now: float) -> None:
        ban_s = self.config.security.ban_s
        self._bans.ban(client, now + ban_s)
        self.counters.bans += 1
        if session is not None:
            self._end_session(session)
        log.warning("banned one client for %.0f s: too many destinations", ban_s)

    def _end_session(self, session: Session) -> None:
        for flow in list(session.flows.values()):
            self._end(flow)

    def _end(self, flow: Flow) -> None:
        self._ready.discard(flow.sock)
        self._sessions.remove(flow)
        flow.sock.close()
        self.counters.flows_closed += 1
        if self._most >= CROWD and not self.flows:
            self._most = 0
            give_back()

    def _send(self, data: socket.socket, packet: bytes, client: Address) -> None:
        try:
            data.sendto(packet, client)
        except OSError:
            self.counters.drops["unsent"] += 1

    def _say_full(self, table: str, size: int) -> None:
        if table not in self._full:
            self._full.add(table)
            log.warning("%s is full at %d: new ones are refused", table, size)


def open_data_socket(address: Address) -> socket.socket:
    """A node's bound data socket; raises `OSError`."""
    return open_socket(address)
