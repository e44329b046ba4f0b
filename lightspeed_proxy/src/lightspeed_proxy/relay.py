"""The data plane: its sockets, its loop, and the sessions the control plane grants.

    data socket ──► table.drain_up ──► game server       every later packet of a flow
                        │ punt
                        ▼
                     sealed_path, legacy_path: flag → session → rate → destination → new flow
    flow sockets ─► table.drain_down ──► data socket     answers

Each datagram ends in exactly one place: forwarded, answered, or counted under one reason.
"""

from __future__ import annotations

import math
import random
import socket
import struct
import sys
from typing import Final

import attrs
import trio
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.runtime.udp import open_socket
from lightspeed_protocol.seal import SealedEnd

from .abuse import Opened
from .config import ProxyConfig
from .counters import Counters
from .flows import Flows
from .legacy_path import LegacyPath
from .rate_limit import Meter, Rates
from .repair_sender import RepairSender
from .sealed_path import SealedPath
from .sessions import Lease, Session, Sessions, plain_host
from .table import Punt, PythonFlowTable

TICK_S: Final = 0.002  # at least between two looks at what flows have due by time
SO_MEMINFO: Final = 55  # not in Python's socket module
_MEMINFO: Final = struct.Struct("=9I")

NODE_PORT: Final = 4434  # where other nodes hear: two of them must not talk to each other


@attrs.define(eq=False)
class Relay:
    """One node's data plane. `data` are its bound data sockets; it owns and closes them.

    With `dev` anybody is carried, without it only sessions that were granted.
    """

    config: ProxyConfig
    counters: Counters
    data: tuple[socket.socket, ...]
    dev: bool
    rng: random.Random = attrs.field(factory=random.SystemRandom)
    table: PythonFlowTable = attrs.field(init=False)
    _sessions: Sessions = attrs.field(init=False)
    _extras: RepairSender = attrs.field(init=False)
    _up: Rates = attrs.field(init=False)
    _down: Rates = attrs.field(init=False)
    _flows: Flows = attrs.field(init=False)
    _legacy: LegacyPath = attrs.field(init=False)
    _sealed: SealedPath = attrs.field(init=False)
    _rested_at: float = -math.inf  # before which no flow is looked at again
    _timer: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    def __attrs_post_init__(self) -> None:
        limits = self.config.limits
        self._sessions = Sessions(limits.idle_timeout_s)
        self._up = Rates(limits.max_pps_per_client, limits.max_bps_per_client)
        self._down = Rates(limits.max_pps_per_client, limits.max_bps_per_client)
        own = (sock.getsockname()[1] for sock in self.data)
        self._flows = Flows(
            self.config,
            self.counters,
            self._sessions,
            frozenset({NODE_PORT, *own}),
            self.dev,
            self.rng,
            self._wake,
        )
        self._extras = RepairSender(self._sessions, self.counters, self.config.security, self._wake)
        self.table = PythonFlowTable(
            self._sessions, self.counters, self.config.security, self._extras
        )
        self._legacy = LegacyPath(self._flows, self.table, self._up, self._down)
        self._sealed = SealedPath(self._flows, self.table)

    @property
    def sessions(self) -> int:
        """Clients being carried now."""
        return len(self._sessions)

    @property
    def flows(self) -> int:
        """Game conversations being carried now."""
        return len(self._flows)

    @property
    def kernel_drops(self) -> int:
        """Datagrams that came while the data sockets' buffers were full."""
        return sum(dropped_by_kernel(sock) for sock in self.data)

    @property
    def last_traffic(self) -> float:
        """When a game packet last passed, in either direction."""
        return self.table.last_traffic

    # -- what the node around it asks for ----------------------------------------------

    def apply(self, config: ProxyConfig) -> None:
        """Take over new limits and policy; from the next packet on, for old flows too."""
        self.config = config
        limits = config.limits
        for rates in (self._up, self._down):
            rates.set(limits.max_pps_per_client, limits.max_bps_per_client)
        self.table.security = self._extras.security = config.security
        self._flows.apply(config)
        self._sessions.idle_timeout_s = limits.idle_timeout_s
        self._sessions.reschedule()
        self._timer.deadline = self._next_deadline()

    def permits(self, host: str, port: int) -> bool:
        """Whether this node sends anything there."""
        return self._flows.permits(host, port)

    def breathe(self) -> None:
        """Carry what has arrived, in the midst of somebody else's long turn. Never waits."""
        self._flows.ready.serve_now(self._serve)

    def refuse_new(self) -> None:
        """From now on no new session; the ones that stand go on."""
        self._flows.draining = True

    def say_goodbye(self) -> None:
        """FIN to every client, so that they need not wait for silence."""
        now = trio.current_time()
        for session in (*self._sessions.by_client.values(), *self._sessions.by_id.values()):
            self._flows.say_fin(session, now)

    def close(self) -> None:
        """End every flow and close every socket. Nothing waits."""
        for flow in list(self._sessions.by_descriptor.values()):
            self._flows.end(flow)
        self._sessions.clear()
        self._flows.ready.close()
        for sock in self.data:
            if sock.fileno() >= 0:
                trio.lowlevel.notify_closing(sock)
                sock.close()

    # -- what the control plane asks for -----------------------------------------------

    def grant(self, lease: Lease, now: float, *, heir_to: Session | None = None) -> Session:
        """A session for a client that has registered.

        `heir_to` is one of the same client that is about to end: limits go on from it, so that
        registering again gives nobody more than his share. Raises `WireError` "max-clients".
        """
        most = self.config.limits.max_clients
        if len(self._sessions) - (heir_to is not None) >= most:
            self._flows.say_full("max_clients", most)
            raise WireError("max-clients")
        rates = lease.rates
        session = Session(
            None,
            None,
            Meter(self._up if rates is None else rates),
            Meter(self._down if rates is None else rates),
            Opened(),
            lease=lease,
            end=None if lease.key is None else SealedEnd.node(lease.session_id, lease.key),
            opened_at=now,
            last_heard=now,
            host=lease.host,
        )
        if heir_to is not None:
            session.inherit(heir_to)
        self._sessions.enrol(session)
        self.counters.sessions_created += 1
        return session

    def find(self, session_id: int) -> Session | None:
        """The registered session of this id."""
        return self._sessions.find(session_id)

    def renew(self, session: Session, key: bytes, host: str) -> None:
        """The client, now at `host`, starts afresh with this key; its flows and their ports stay.

        What this end sends goes on being counted, for a client that was not restarted; what it
        kept of the client's numbers is forgotten, for one that was.
        """
        assert session.end is not None
        round_trip_s = session.end.round_trip_s
        session.end = SealedEnd.node(session.id, key)
        session.end.round_trip_s = round_trip_s
        session.host, session.proof = host, None
        session.held.clear()
        if session.client is not None and plain_host(session.client[0]) != host:
            session.client = None  # it speaks first
        for flow in session.flows.values():
            if flow.sealed is not None:
                flow.sealed.end = session.end
                self.counters.settle(flow.settle())
                flow.forget_received()

    def rekey(self, session: Session, key: bytes) -> bool:
        """Offer the client another key; False while it has not used the last one offered."""
        return session.end is not None and session.end.rekey(key, trio.current_time())

    def end(self, session: Session) -> None:
        """End a registered session and its flows, and say so to the client."""
        now = trio.current_time()
        self._flows.say_fin(session, now)
        self._legacy.end_ports(session, now)
        self._flows.end_all(session)
        self._sessions.dismiss(session)

    # -- the loop ----------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Never returns."""
        async with trio.open_nursery() as nursery:
            for sock in self.data:
                self._flows.ready.add(sock)
            nursery.start_soon(self._flows.ready.run, self._serve)
            nursery.start_soon(self._run_timers)
            task_status.started()

    def _serve(self, ready: list[int]) -> None:
        """Everything that can be read now, clients' packets first. Both ways in one wake-up."""
        now = trio.current_time()
        for sock in self.data:
            if sock.fileno() in ready:
                ready.remove(sock.fileno())
                for punt in self.table.drain_up(sock, now):
                    self.first(sock, punt, now)
        if ready:
            self.table.drain_down(ready, now)

    def first(self, data: socket.socket, punt: Punt, now: float) -> None:
        """The slow path: anything the table has no entry for."""
        try:
            if punt.session is not None:
                self._sealed.first(punt.session, punt.datagram, now)
            else:
                self._legacy.first(data, punt.datagram, punt.source, now)
        except WireError as error:
            self.counters.drops[error.reason] += 1

    async def _run_timers(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._next_deadline()) as self._timer:
                await trio.sleep_forever()
            now = trio.current_time()
            self._flows.expire(now)
            self._extras.send_due(now)
            self._rested_at = now + TICK_S

    def _next_deadline(self) -> float:
        due = max(self._sessions.due.next_deadline(), self._rested_at)
        return min(due, self._sessions.next_deadline())

    def _wake(self) -> None:
        self._timer.deadline = min(self._timer.deadline, self._next_deadline())


def dropped_by_kernel(sock: socket.socket) -> int:
    """Linux only, elsewhere 0. Source: socket(7) SO_MEMINFO, whose ninth number this is."""
    if sys.platform == "linux" and sock.fileno() >= 0:
        figures = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        return int(_MEMINFO.unpack(figures)[8])
    return 0


def open_data_socket(address: tuple[str, int]) -> socket.socket:
    """A node's bound data socket; raises `OSError`."""
    return open_socket(address)
