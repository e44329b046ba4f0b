"""The slow path of header versions 1 and 2, which anybody could write.

An open node (`--dev`) takes them from everybody. With `legacy = "registered"` they must come
from a host and carry a token that were registered; and because both can be guessed, the port
they come from must first answer a HANDSHAKE, which only somebody who reads there can.
Source: PROTOCOL.md, "Tunnel header" and "Keepalive".
"""

from __future__ import annotations

import logging
import socket
import sys
from typing import Final

import attrs
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
)
from lightspeed_protocol.runtime.udp import LARGEST_BYTES

from .abuse import Bans, Challenges, Opened
from .flows import Flows
from .rate_limit import Meter, Rates
from .sessions import Address, Session, plain_host
from .table import DATA, MOST_WRONG, PythonFlowTable

log = logging.getLogger(__name__)

# Keepalives of addresses without a session are answered byte for byte, but not without end.
STRANGERS_PER_S: Final = 2000
ASKED_PER_S: Final = (
    20  # new ports, all together: each question is one guess in 65 536 for a spoofer
)
MOST_PORTS: Final = 16  # of one registered client; the one silent longest gives way


@attrs.define(eq=False)
class LegacyPath:
    flows: Flows
    table: PythonFlowTable
    up: Rates
    down: Rates
    bans: Bans = attrs.field(factory=Bans)
    _strangers: Meter = attrs.field(init=False)
    _questions: Meter = attrs.field(init=False)
    _offenders: Challenges = attrs.field(init=False)  # who answers is banned
    _newcomers: Challenges = attrs.field(init=False)  # who answers may send

    def __attrs_post_init__(self) -> None:
        self._strangers = Meter(Rates(STRANGERS_PER_S, STRANGERS_PER_S * LARGEST_BYTES))
        self._questions = Meter(Rates(ASKED_PER_S, ASKED_PER_S))
        self._offenders = Challenges(self.flows.rng)
        self._newcomers = Challenges(self.flows.rng)

    def first(self, data: socket.socket, datagram: bytes, client: Address, now: float) -> None:
        """Anything the table has no entry for. Raises `WireError` with the drop reason."""
        sessions = self.flows.sessions
        if not self.flows.dev and not sessions.registered:
            raise WireError("closed")
        if len(datagram) < HEADER_BYTES:
            raise WireError("short")
        if len(datagram) > LARGEST_BYTES:
            raise WireError("oversized")
        if not 1 <= datagram[0] >> 4 <= VERSION_FEC:
            raise WireError("version")
        if self.bans.holds(client, now):
            raise WireError("banned")
        root = None
        session = sessions.by_client.get(client)
        if not self.flows.dev:
            root = sessions.registered.get((plain_host(client[0]), datagram[1]))
            if root is None:
                if session is not None:
                    session.wrong += 1
                raise WireError("unregistered")
            if session is not None and session.wrong >= MOST_WRONG and datagram[0] in DATA:
                # Somebody tries tokens from this port: whose is the one that fits?
                self._ask_newcomer(data, client, root, now)
                raise WireError("unproven")
        if datagram[0] not in DATA:
            self._answer_flag(data, datagram, client, session, root, now)
            return
        _check_body(datagram)
        if session is None:
            session = self._new_session(data, client, root, now)
        key = datagram[ADDRESSES]
        flow = session.flows.get(key)
        if flow is None:  # else the same batch held two first packets
            reason = session.up.admit(0, now)  # the packet itself is charged when it is carried
            if reason is not None:
                raise WireError(reason)
            new = not session.flows and session.lease is None
            try:
                flow = self.flows.open(session, key, now, token=datagram[1])
            except WireError as error:
                if error.reason == "many-destinations":
                    self._ask(self._offenders, data, client, None, now)
                raise
            self.flows.counters.sessions_created += new
        self.table.carry_up(flow, datagram, now)

    def end_ports(self, root: Session, now: float) -> None:
        """A registration is over: so are the ports that used it."""
        for port in list(root.ports):
            self.flows.say_fin(port, now)
            self._forget(port)
        root.ports.clear()

    def _answer_flag(
        self,
        data: socket.socket,
        datagram: bytes,
        client: Address,
        session: Session | None,
        root: Session | None,
        now: float,
    ) -> None:
        """KEEPALIVE, HANDSHAKE and FIN: answered in kind, with as many bytes at the most."""
        if client[1] in self.flows.node_ports:
            raise WireError("loop")
        meter = self._strangers if session is None else session.up
        reason = meter.admit(len(datagram), now)
        if reason is not None:
            raise WireError(reason)
        first, token, sequence, _ = PREFIX.unpack_from(datagram)
        counters = self.flows.counters
        if first & FIN:
            flag = FIN
            counters.fins += 1
            # A registered session ends over QUIC: this could be anybody's.
            if session is not None and session.lease is None:
                self.flows.end_all(session)
                counters.sessions_closed += 1
        elif self.flows.draining:
            raise WireError("draining")  # an answer would say: still here
        elif first & KEEPALIVE:
            flag = KEEPALIVE
            counters.keepalives += 1
        else:
            flag = HANDSHAKE
            counters.handshakes += 1
            if self._offenders.proven(client, token, sequence, now):
                self._ban(client, session, now)
                return
            if root is not None and self._newcomers.proven(client, token, sequence, now):
                self._open_port(data, client, root, now)
                return
        version = first & 0xF0
        answer = PREFIX.pack(version | flag, token, sequence, microseconds(now)) + NO_ADDRESSES
        self.flows.send(data, answer, client)

    def _new_session(
        self, data: socket.socket, client: Address, root: Session | None, now: float
    ) -> Session:
        if self.flows.draining:
            raise WireError("draining")
        if root is not None:
            self._ask_newcomer(data, client, root, now)
            raise WireError("unproven")
        most = self.flows.config.limits.max_clients
        if len(self.flows.sessions) >= most:
            self.flows.say_full("max_clients", most)
            raise WireError("max-clients")
        client = (sys.intern(client[0]), *client[1:])  # one string for all players of a house
        meters = Meter(self.up), Meter(self.down)
        return Session(client, data, *meters, Opened(), opened_at=now, last_heard=now)

    def _open_port(self, data: socket.socket, client: Address, root: Session, now: float) -> None:
        """A port of a registered client, which has answered from there."""
        assert root.lease is not None
        known = self.flows.sessions.by_client.get(client)
        if known is not None:
            known.wrong = 0
            return
        if len(root.ports) >= MOST_PORTS:
            self._leave(min(root.ports, key=lambda port: port.last_heard))
        port = Session(
            client,
            data,
            root.up,
            root.down,
            root.opened,
            lease=root.lease,
            token=root.lease.token,
            opened_at=now,
            last_heard=now,
        )
        root.ports.append(port)
        self.flows.sessions.by_client[client] = port

    def _leave(self, port: Session) -> None:
        lease = port.lease
        assert lease is not None
        root = self.flows.sessions.registered.get((lease.host, lease.token))
        if root is not None:
            root.ports.remove(port)
        self._forget(port)

    def _forget(self, port: Session) -> None:
        self.flows.end_all(port)
        if port.client is not None:
            self.flows.sessions.by_client.pop(port.client, None)

    def _ask_newcomer(
        self, data: socket.socket, client: Address, root: Session, now: float
    ) -> None:
        assert root.lease is not None
        if self._questions.admit(0, now) is None:
            self._ask(self._newcomers, data, client, root.lease.token, now)

    def _ask(
        self,
        challenges: Challenges,
        data: socket.socket,
        client: Address,
        token: int | None,
        now: float,
    ) -> None:
        """Ask an address, with a HANDSHAKE, whether the sender of its packets reads there."""
        asked = challenges.challenge(client, now, token)
        if asked is not None:
            packet = control_packet(
                HANDSHAKE, token=asked[0], sequence=asked[1], timestamp_us=microseconds(now)
            )
            self.flows.send(data, packet, client)

    def _ban(self, client: Address, session: Session | None, now: float) -> None:
        ban_s = self.flows.config.security.ban_s
        self.bans.ban(client, now + ban_s)
        self.flows.counters.bans += 1
        if session is not None:
            self.flows.end_all(session)
        log.warning("banned one client for %.0f s: too many destinations", ban_s)


def _check_body(datagram: bytes) -> None:
    """What a first packet must be, so that a bad one makes no session."""
    if datagram[0] >> 4 < VERSION_FEC:
        if len(datagram) == HEADER_BYTES:
            raise WireError("empty")
        return
    field = fec_header.decode(datagram[HEADER_BYTES:])
    if field.index > field.k:
        raise WireError("fec-index")
