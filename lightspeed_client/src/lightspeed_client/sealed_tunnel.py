"""The sealed tunnel: one socket for every flow and the keepalives, each packet authenticated.

    Flow --> seal --> one socket ==UDP==> node

Answers are told apart by the addresses in their header, which the tag proves. The control
session gives the keys (`use`, `rekey`); data goes on when it is gone. When the machine changes
its network, sending fails or nothing comes any more: a fresh socket goes on, and the node
follows the newest authentic packet.

Until a new data address has proved itself (`data_proof`) nothing but KEEPALIVE and HANDSHAKE is
sent there.
Source: PROTOCOL.md, "Sealed header".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import trio
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.header import (
    FIN,
    HANDSHAKE,
    KEEPALIVE,
    NO_ADDRESSES,
    microseconds,
)
from lightspeed_protocol.keepalive import (
    PROBE_BYTES,
    PathDead,
    SendProbe,
    decode_probe,
    encode_probe,
)
from lightspeed_protocol.runtime.udp import Port
from lightspeed_protocol.seal import REPAIR, SEALED6_BYTES, SEALED_BYTES, Opened

from .address import Address, write_address
from .data_proof import DataProof
from .fec_choice import NO_REPAIR, RepairTerms
from .figures import ControlState
from .flows import LARGEST_TUNNEL_BYTES, FlowTable
from .labels import free_label
from .pulse import Pulse
from .sealed_flows import SealedCarried, SealedFlows
from .sealed_game import SealedGame
from .sealed_session import SealedSession
from .tunnel import OwnedPort, any_port
from .words import why_no_answer

log = logging.getLogger(__name__)

KEEPALIVE_BYTES: Final = SEALED_BYTES + PROBE_BYTES
FIN_WAIT_S: Final = 0.3
HANDSHAKE_S: Final = 0.1  # between answers to a HANDSHAKE; a node asks again after a loss
MOVE_S: Final = 5.0  # between fresh sockets, at least
UNSENT_MOST: Final = 2  # keepalives in a row that the system would not send


class Control(Protocol):
    """What the tunnel asks of its control session."""

    @property
    def state(self) -> ControlState: ...
    @property
    def problem(self) -> str | None: ...
    def path_is_doubtful(self) -> None:
        """Called, often, while nothing has come for a moment."""
        ...

    def path_is_silent(self) -> None:
        """Called often while the path is dead."""
        ...


@attrs.define(eq=False, kw_only=True)
class SealedTunnel:
    """Made with its `control`, which calls `use` once a session is granted."""

    name: str  # of the node, as the player knows it
    bind: Callable[[Address], OwnedPort]
    table: FlowTable
    pulse: Pulse
    control: Control
    node: Address | None = None  # where its data port is
    port: OwnedPort | None = None
    strangers: int = 0
    fins_answered: int = 0
    largest_bytes: int = LARGEST_TUNNEL_BYTES
    ipv6_inside: bool = True
    session: SealedSession = attrs.field(factory=SealedSession)
    proven: trio.Event = attrs.field(factory=trio.Event)  # `node` has answered; new for each
    _terms: RepairTerms = NO_REPAIR
    _header_bytes: int = SEALED_BYTES  # of the games' packets
    _flows: SealedFlows = attrs.field(init=False)
    _handshake_at: float | None = None
    _proof: DataProof = attrs.field(factory=DataProof)
    _moved_at: float | None = None
    _unsent: int = 0
    _begun: trio.Event = attrs.field(factory=trio.Event)
    _ended: trio.Event = attrs.field(factory=trio.Event)
    _ending: bool = False

    def __attrs_post_init__(self) -> None:
        self.table.shared = self.session.tally
        self._flows = SealedFlows(self._send, lambda label: self._send_control(FIN, label=label))

    @property
    def largest_payload(self) -> int:
        return self.largest_bytes - self._header_bytes

    def not_ready(self) -> str | None:
        if self.session.end is None:
            return "no-session"
        return None if self.proven.is_set() else "unproven"

    def not_found(self) -> bool:
        return False  # the control session says so

    # -- what the control session tells ------------------------------------------------

    def use(
        self,
        session_id: int,
        key: bytes,
        node: Address,
        *,
        schemes: frozenset[int] = frozenset(),
        largest_bytes: int | None = None,
        ipv6_inside: bool = True,
    ) -> None:
        """A registration was granted: its keys hold from now on, numbers begin at 0.

        `schemes`: of loss repair, that the node takes. Raises `OSError` when no socket can be had.
        """
        if self.port is None or self.node is None or (":" in node[0]) != (":" in self.node[0]):
            self._replace_port(node)
        if node != self.node:
            self.node, self.proven = node, trio.Event()
            self._proof.begin()
        end = self.session.renew(session_id, key, trio.current_time())
        self._terms = self.table.fec.agreed(schemes)
        self.largest_bytes = min(largest_bytes or LARGEST_TUNNEL_BYTES, LARGEST_TUNNEL_BYTES)
        self.ipv6_inside = ipv6_inside
        for flow in self._flows:
            flow.renew(end, self._terms, self.largest_bytes)
        if not self._begun.is_set():
            self.pulse.begin(trio.current_time())
            self._begun.set()
        self._greet(trio.current_time())

    def rekey(self, key: bytes) -> None:
        """The node gave the session a new key; it is used at once."""
        self.session.rekey(key, trio.current_time())

    def node_left(self) -> None:
        """The node said on the control connection that it ends the session."""
        if not self._ending:
            self.pulse.left(trio.current_time())

    # -- tasks -------------------------------------------------------------------------

    async def run(self) -> None:
        """Wait for the first session; then hear the node and probe it. Never ends."""
        try:
            await self._begun.wait()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_probes)
                nursery.start_soon(self._flows.run_due)
                await self._hear()
        finally:
            if self.port is not None:
                self._say_fin()
                self.port.close()
                self.port = None

    async def _hear(self) -> None:
        while True:
            port = self.port
            assert port is not None
            try:
                batch = await port.receive()
            except trio.ClosedResourceError:
                if port is self.port:
                    raise
                continue  # replaced by a fresh one
            now = trio.current_time()
            heard = False
            for datagram, source in batch:
                heard |= self._take(datagram, source, now)
            if heard:
                self.pulse.heard(now)

    def _take(self, datagram: bytes, source: Address, now: float) -> bool:
        """Deliver what the packet holds. True when the node carries: a FIN is no such sign."""
        if len(datagram) > LARGEST_TUNNEL_BYTES:
            self.table.drops["oversize-from-node"] += 1
            return False
        try:
            opened, late = self.session.open(datagram, now)
        except WireError as exc:
            if source == self.node or exc.reason in ("replayed", "too-old", "future"):
                self.table.drops[exc.reason] += 1
            else:
                self.strangers += 1
            return False
        if opened.flags & ~REPAIR:
            return self._take_control(opened, now)
        carried = self._flows.find(opened.addresses)
        if carried is None:
            self.table.drops["no-flow"] += 1  # closed here; the node has not heard yet
            return True
        flow, local = carried.flow, carried.local
        for payload in flow.from_node(opened, now, late=late):
            if not local.send(payload, flow.game):
                self.table.drops["not-delivered"] += 1
        self._flows.hasten(carried)
        return True

    def _take_control(self, opened: Opened, now: float) -> bool:
        flags = opened.flags
        if flags & FIN:
            if any(opened.addresses):
                pass  # of one conversation: the next packet from its game begins it again
            elif self._ending:
                self.fins_answered += not self._ended.is_set()
                self._ended.set()
            else:
                self.pulse.left(now)
            return False
        if flags & KEEPALIVE:
            # never answered: only the client asks, or two ends would keep each other busy
            if len(opened.payload) == PROBE_BYTES:
                self.pulse.answered(decode_probe(opened.payload)[0], now)
                self._tell_round_trip()
            elif self._proof.answered(opened.payload):
                self.proven.set()
        elif flags & HANDSHAKE and (
            self._handshake_at is None or now - self._handshake_at >= HANDSHAKE_S
        ):
            self._handshake_at = now
            self._send_control(HANDSHAKE, opened.payload)
        return True

    async def _run_probes(self) -> None:
        while True:
            now = trio.current_time()
            if now >= self._proof.next_deadline():
                self._greet(now)
            for event in self.pulse.poll(now, self.table.game_silent_s(now)):
                match event:
                    case SendProbe(sequence):
                        self._probe(sequence)
                    case PathDead():
                        if self.control.state != "refused":  # else the reason was told
                            log.warning("%s; trying on", self.why_silent())
            if self.pulse.dead or self._unsent >= UNSENT_MOST:
                self._move(now)
            if self.pulse.doubtful(now):
                self.control.path_is_doubtful()
            if self.pulse.dead:
                self.control.path_is_silent()
            due = self.pulse.prober.next_deadline()
            await trio.sleep_until(min(due, self._proof.next_deadline()))

    # -- sending -----------------------------------------------------------------------

    def _send(self, datagram: bytes) -> bool:
        """A flow's packet, once the node has shown that it is there."""
        return (
            self.port is not None
            and self.node is not None
            and self.proven.is_set()
            and self.port.send(datagram, self.node)
        )

    def _tell_round_trip(self) -> None:
        round_trip_s, end = self.pulse.prober.rtt.typical_s, self.session.end
        if end is not None and round_trip_s is not None:
            end.round_trip_s = round_trip_s

    def _probe(self, number: int) -> None:
        payload = encode_probe(number, self.pulse.prober.rtt.typical_s)
        if self._send_control(KEEPALIVE, payload):
            self._unsent = 0
        else:
            self._unsent += 1

    def _greet(self, now: float) -> None:
        """One keepalive that counts as no probe: the node learns our address from it at once,
        and proves its own by the answer, because nobody else can read what is in it.
        """
        self._send_control(KEEPALIVE, self._proof.question(now))

    def _send_control(self, flag: int, payload: bytes = b"", label: bytes = NO_ADDRESSES) -> bool:
        end = self.session.end
        if end is None or self.port is None or self.node is None:
            return False
        if flag & FIN and not self.proven.is_set():
            return False
        stamp = microseconds(trio.current_time())
        return self.port.send(end.control(flag, stamp, payload, label), self.node)

    def _move(self, now: float) -> None:
        """Go on from a fresh socket: the old one may be bound to a network that is gone."""
        if self.node is None or (self._moved_at is not None and now - self._moved_at < MOVE_S):
            return
        self._moved_at = now
        self._unsent = 0
        try:
            self._replace_port(self.node)
        except OSError as exc:
            log.warning("cannot open another tunnel socket: %s", exc)

    def _replace_port(self, node: Address) -> None:
        old, self.port = self.port, self.bind(any_port(node))
        if old is not None:
            old.close()

    # -- beginnings and ends -----------------------------------------------------------

    def open(self, game: Address, server: Address, local: Port, now: float) -> SealedCarried:
        end = self.session.end
        assert end is not None
        if ":" in server[0]:
            if not self.ipv6_inside:
                raise OSError(
                    f"the node {self.name} carries no IPv6: use the server's IPv4 address"
                )
            self._header_bytes = SEALED6_BYTES
        taken = {flow.label for flow in self._flows}
        label = free_label(game, server, taken)
        flow = SealedGame.open(
            game,
            label,
            now,
            self.table.drops,
            end=end,
            terms=self._terms,
            largest_bytes=self.largest_bytes,
        )
        return self._flows.add(flow, local)

    async def finish(self) -> None:
        """The whole session says FIN; `run` says it once more where nobody confirms."""
        self._ending = True
        if self.session.end is not None and self.proven.is_set():
            self._say_fin()
            with trio.move_on_after(FIN_WAIT_S):
                await self._ended.wait()

    def _say_fin(self) -> None:
        if not self._ended.is_set():
            self._send_control(FIN)

    # -- words -------------------------------------------------------------------------

    def explain(self) -> str | None:
        latest = max(self._flows, key=lambda flow: flow.last_game_at, default=None)
        return None if latest is None else latest.explain()

    def notice(self) -> str | None:
        control = self.control
        if control.state == "refused":
            return control.problem
        if not self.pulse.dead:
            return control.problem or self._why_unproven()
        return f"{self.why_silent()}; {control.problem or 'trying on'}"

    def _why_unproven(self) -> str | None:
        if self.node is None or self.proven.is_set():
            return None
        return (
            f"the node {self.name} has not answered from {write_address(self.node)}, where it wants"
            " its packets: games are not sent there before"
        )

    def why_silent(self) -> str:
        """One line for a node that does not answer, with what to do."""
        if self.node is None:
            return self.control.problem or f"the node {self.name} has not granted a session yet"
        where = f"{self.name} ({write_address(self.node)})"
        if self.port is not None and self.port.unsent and self._unsent:
            return f"this machine has no way to the node {where}: check its network"
        return f"no answer from the node {where}: {why_no_answer(self.node[1], invited=True)}"
