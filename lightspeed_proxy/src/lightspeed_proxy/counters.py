"""What the node counts: plain ints, bumped on the packet path, read when somebody asks.

Every datagram that is not forwarded or answered is counted under exactly one of `DROP_REASONS`.
"""

from __future__ import annotations

from typing import Final

import attrs
from lightspeed_protocol.sealed_flow import Outcome

DROP_REASONS: Final = (
    "closed",  # version 1 or 2, and this node has neither --dev nor `legacy`
    "unregistered",  # version 1 or 2 from an address or with a token nobody registered
    "unproven",  # its address has not answered a HANDSHAKE yet: not heard, or not spoken to
    "session",  # a sealed packet of no session here
    "forged",  # a sealed packet with a wrong tag
    "replayed",  # a sealed packet that came before
    "too-old",  # a sealed packet from behind the replay window
    "future",  # a sealed packet too far ahead
    "path",  # a path of a session that nobody opened
    "fec-field",  # a sealed packet whose FEC field says nothing or lies, or is of no flow here
    "short",  # fewer bytes than a header
    "version",  # a header version this node does not speak
    "malformed",  # FEC field with K of 0 or above 16, or cut off
    "fec-index",  # a FEC index above K
    "oversized",  # more bytes than a tunnel packet may have
    "empty",  # a data packet with no payload and no flag
    "duplicate",  # seen before, or too old to tell
    "rate-packets",  # the client's packets per second
    "rate-bytes",  # the client's bytes per second
    "destination",  # an address or port the policy forbids
    "banned",  # this client is banned for now
    "many-destinations",  # this client opens too many conversations
    "amplification",  # answers far larger than what the client sent
    "max-clients",  # no session left
    "max-flows",  # no flow left for this client
    "no-socket",  # the kernel gave no socket for a new flow
    "loop",  # the answer of a node, this one or another: answering it would never end
    "draining",  # the node is shutting down and takes no new session
    "unsent",  # the kernel would not take the datagram
)


@attrs.define(eq=False)
class Counters:
    """One node's totals since it started. Bytes are UDP payload bytes as seen on the wire."""

    packets_up: int = 0  # tunnel -> game server
    packets_down: int = 0  # game server -> tunnel
    bytes_up: int = 0
    bytes_down: int = 0
    keepalives: int = 0
    handshakes: int = 0
    fins: int = 0
    sessions_created: int = 0
    sessions_closed: int = 0  # by FIN
    sessions_expired: int = 0
    flows_created: int = 0
    flows_closed: int = 0
    fec_source: int = 0
    fec_repair: int = 0
    fec_recovered: int = 0
    fec_repair_sent: int = 0
    fec_feedback: int = 0  # from players: what came of the packets sent to them, asks for more
    fec_feedback_sent: int = 0
    fec_bytes: int = 0  # of repairs and feedback received; tunnel packets whole, as `bytes_up`
    fec_bytes_sent: int = 0
    fec_recovered_late: int = 0  # of `fec_recovered`, after the budget
    fec_lost: int = 0  # source packets that did not come by themselves in time
    fec_unrepaired: int = 0  # of those, never rebuilt
    fec_wasted: int = 0  # repairs received that told nothing new
    fec_unrecoverable: int = 0  # repairs received, and given up: too much was missing
    fec_capped: int = 0  # repairs not sent, because of a cap or the session's limits
    fec_asked: int = 0  # packets asked for again, each time counted
    fec_delayed: int = 0  # source packets not delivered the moment they came
    bans: int = 0
    roams: int = 0  # a session's packets now come from another address
    batches: int = 0  # wake-ups of the uplink loop
    icmp_errors: int = 0  # the kernel reported an unreachable peer
    drops: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(DROP_REASONS, 0))

    def settle(self, outcome: Outcome) -> None:
        """Count what a flow's repair has come to since it was counted last."""
        self.fec_recovered_late += outcome.late
        self.fec_lost += outcome.lost
        self.fec_unrepaired += outcome.unrepaired
        self.fec_wasted += outcome.wasted
        self.fec_unrecoverable += outcome.unrecoverable
        self.fec_capped += outcome.refused
        self.fec_asked += outcome.asked
        self.fec_delayed += outcome.delayed

    @property
    def packets_relayed(self) -> int:
        return self.packets_up + self.packets_down

    @property
    def bytes_relayed(self) -> int:
        return self.bytes_up + self.bytes_down

    @property
    def packets_dropped(self) -> int:
        return sum(self.drops.values())
