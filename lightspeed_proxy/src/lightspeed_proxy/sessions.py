"""Who is being carried where: sessions, their flows, and when each ends.

A registered session is found by its id in every sealed packet, never by its source address:
that may change at any time. A session of header versions 1 and 2 is one outer address and
port. A flow is one game conversation of a session and owns one outbound socket for its whole
life: its port is what the game server knows the player by.
"""

from __future__ import annotations

import heapq
import math
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network
from itertools import count
from typing import Any, Final

import attrs
from lightspeed_protocol.deadlines import Deadlines
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.fec.protection import UNPROTECTED
from lightspeed_protocol.fec.window import WindowDecoder
from lightspeed_protocol.seal import SealedEnd
from lightspeed_protocol.sealed_flow import NO_OUTCOME, Outcome, SealedFlow
from lightspeed_protocol.sequence import SequenceWindow

from .abuse import Opened
from .rate_limit import Meter, Rates
from .repair_terms import NOTHING_SAID, RepairTerms

Address = tuple[Any, ...]  # as the socket gives it: host and port, for IPv6 two fields more

DEAD_WORTH_SWEEPING: Final = 64  # closed flows still waiting in the heap


def plain_host(host: str) -> str:
    """An IPv4 peer of a socket for both families, as IPv4."""
    return host.removeprefix("::ffff:") if "." in host else host


@attrs.frozen(kw_only=True)
class Lease:
    """What a client that has registered may do, and how its packets are known.

    With `key` (16 bytes) its packets are sealed, and `host` has proved itself by registering from
    there. Without, they are of version 1 or 2 and must come from `host` and carry `token`. Empty
    `destinations` leaves the node's policy alone.
    """

    invite: str
    session_id: int
    key: bytes | None
    token: int = 0
    host: str = ""
    rates: Rates | None = None  # of this client alone; None: the node's
    destinations: tuple[IPv4Network | IPv6Network, ...] = ()


@attrs.define(eq=False)
class Session:
    """`data` is the node's socket that hears this client and must speak to it.

    `client` is None until the first packet of a registered session has come. The sums are wire
    bytes, IP and UDP headers included; the packet path keeps them.
    """

    client: Address | None
    data: socket.socket | None
    up: Meter
    down: Meter
    opened: Opened
    lease: Lease | None = None  # None: an open node's
    end: SealedEnd | None = None  # None: versions 1 and 2
    repair: RepairTerms = NOTHING_SAID
    token: int = -1  # that its version 1 and 2 packets must carry; -1 for any
    wrong: int = 0  # tokens in packets from its address, since it last proved itself
    host: str = ""  # of a sealed session: where somebody has proved to read what we send
    proof: bytes | None = None  # asked of a client at another host, not answered yet
    asked_at: float = -math.inf
    credit: int = 0  # bytes that may be sent there until it is
    held: list[bytes] = attrs.field(factory=list)  # packets beyond that
    opened_at: float = 0.0
    last_heard: float = 0.0
    packets_up: int = 0
    packets_down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    flows: dict[bytes, Flow] = attrs.field(factory=dict)  # by the addresses of its packets
    latest: Flow | None = None  # the flow last used: nearly always the next one too
    ports: list[Session] = attrs.field(factory=list)  # of a registered version 1 or 2 client
    on_end: Callable[[Session, str], object] | None = None  # told when the data plane ends it

    @property
    def id(self) -> int:
        return 0 if self.lease is None else self.lease.session_id

    def spend(self, size: int) -> bool:
        """Whether a packet of `size` wire bytes may be sent to where the client seems to be.

        Always to a host that has proved itself; else no more than has come from there.
        """
        if self.proof is None:
            return True
        if size > self.credit:
            return False
        self.credit -= size
        return True

    def agree(self, terms: RepairTerms) -> None:
        """Repair as the client wants it now, in the flows that run too."""
        said_before, self.repair = self.repair.down is not None, terms
        for flow in self.flows.values():
            if flow.sealed is not None:
                flow.sealed.listen(terms.log(), asking=terms.asking)
                if terms.down is not None or said_before:  # else what is mirrored goes on
                    wish = terms.down or UNPROTECTED
                    flow.sealed.protector.change(wish, asking=terms.asking)

    def inherit(self, old: Session) -> None:
        """Go on with the limits that another session has used up."""
        self.up, self.down, self.opened = old.up, old.down, old.opened
        self.bytes_up, self.bytes_down = old.bytes_up, old.bytes_down


@attrs.define(eq=False)
class Flow:
    """`sock` is connected, so the kernel lets only the game server answer on it."""

    session: Session
    key: bytes
    sock: socket.socket
    last_up: float  # when the client last sent on it
    endpoint: Endpoint | None = None  # versions 1 and 2
    window: SequenceWindow | None = None  # of `endpoint`
    sealed: SealedFlow | None = None  # versions 8 and 9
    _settled: Outcome = NO_OUTCOME

    def settle(self) -> Outcome:
        """What became of repair here since this was asked last."""
        if self.sealed is None:
            return self._settled
        before, self._settled = self._settled, self.sealed.outcome()
        return self._settled - before

    def forget_received(self) -> None:
        """The client counts afresh: what was kept of its packets is of no use. `settle` first."""
        if self.sealed is not None:
            self.sealed.decoder = WindowDecoder()
            self._settled = self.sealed.outcome()


@attrs.define(eq=False)
class Sessions:
    """The bounded tables. Whoever removes a flow closes its socket."""

    idle_timeout_s: float
    by_client: dict[Address, Session] = attrs.field(factory=dict)  # versions 1 and 2
    by_id: dict[bytes, Session] = attrs.field(factory=dict)  # sealed, by the id's 4 bytes
    registered: dict[tuple[str, int], Session] = attrs.field(factory=dict)  # by host and token
    by_descriptor: dict[int, Flow] = attrs.field(factory=dict)
    due: Deadlines[Flow] = attrs.field(factory=Deadlines)  # what flows send by themselves
    _expiries: list[tuple[float, int, Flow]] = attrs.field(factory=list)  # a heap
    _numbers: Iterator[int] = attrs.field(factory=count)
    _dead: int = 0  # entries of the heap whose flow has been removed

    def __len__(self) -> int:
        """Clients: a registered one counts once, however many ports it has."""
        ports = sum(len(root.ports) for root in self.registered.values())
        return len(self.by_client) - ports + len(self.by_id) + len(self.registered)

    def enrol(self, session: Session) -> None:
        """Enter a session that has registered; it stays until `dismiss`, flows or not."""
        lease = session.lease
        assert lease is not None
        if session.end is None:
            self.registered[lease.host, lease.token] = session
        else:
            self.by_id[session.end.sealer.session] = session

    def dismiss(self, session: Session) -> None:
        """Forget a registered session, whose flows have been removed."""
        lease = session.lease
        if lease is not None and session.end is None:
            self.registered.pop((lease.host, lease.token), None)
        elif session.end is not None:
            self.by_id.pop(session.end.sealer.session, None)

    def clear(self) -> None:
        """Forget every session, once all flows have been removed."""
        for table in (self.by_client, self.by_id, self.registered):
            table.clear()

    def find(self, session_id: int) -> Session | None:
        """The registered session of this id."""
        sealed = self.by_id.get(session_id.to_bytes(4, "big"))
        if sealed is not None:
            return sealed
        return next((each for each in self.registered.values() if each.id == session_id), None)

    def add(self, flow: Flow) -> None:
        """Enter a new flow, and the session of an address if that is new as well."""
        session = flow.session
        if session.end is None and session.client is not None:
            self.by_client[session.client] = session
        session.flows[flow.key] = session.latest = flow
        self.by_descriptor[flow.sock.fileno()] = flow
        self._schedule(flow)

    def remove(self, flow: Flow) -> None:
        """Take a flow out; the session of an address goes with its last one."""
        session = flow.session
        del session.flows[flow.key]
        del self.by_descriptor[flow.sock.fileno()]
        self.due.drop(flow)
        if session.latest is flow:
            session.latest = None
        if not session.flows and session.end is None and session.client is not None:
            del self.by_client[session.client]
            self._leave_root(session)
        self._dead += 1
        if self._dead > DEAD_WORTH_SWEEPING and self._dead * 2 > len(self._expiries):
            self.reschedule()

    def _leave_root(self, session: Session) -> None:
        lease = session.lease
        root = None if lease is None else self.registered.get((lease.host, lease.token))
        if root is not None and session in root.ports:
            root.ports.remove(session)

    def next_deadline(self) -> float:
        """When `expired` next has something to look at; `math.inf` for never."""
        return self._expiries[0][0] if self._expiries else math.inf

    def expired(self, now: float) -> list[Flow]:
        """Flows whose client has been silent for the idle timeout; they are still entered.

        A flow that was used since it was scheduled is only scheduled again, so traffic costs
        nothing here.
        """
        gone: list[Flow] = []
        while self._expiries and now >= self._expiries[0][0]:
            flow = heapq.heappop(self._expiries)[2]
            if flow.session.flows.get(flow.key) is not flow:
                self._dead -= 1
            elif now >= flow.last_up + self.idle_timeout_s:
                gone.append(flow)
                self._dead -= 1  # it has no entry any more that its removal could leave behind
            else:
                self._schedule(flow)
        return gone

    def reschedule(self) -> None:
        """Every flow's time anew: after a reload, or to let go of what has been removed."""
        self._expiries = [
            (flow.last_up + self.idle_timeout_s, next(self._numbers), flow)
            for flow in self.by_descriptor.values()
        ]
        heapq.heapify(self._expiries)
        self._dead = 0

    def _schedule(self, flow: Flow) -> None:
        heapq.heappush(
            self._expiries, (flow.last_up + self.idle_timeout_s, next(self._numbers), flow)
        )
