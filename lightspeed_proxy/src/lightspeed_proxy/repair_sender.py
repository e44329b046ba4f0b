"""What leaves a node beside the game's packets: repairs, reports, asks for what is missing.

They leave a part of the session's limits to the game's packets, so that none is lost for a repair.
Some follow a game packet at once; others are due by time, for whole flows (`Sessions.due`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
from lightspeed_protocol.header import VERSION_FEC
from lightspeed_protocol.seal import REPAIR

from .abuse import DATAGRAM_OVERHEAD, amplifies
from .config import Security
from .counters import Counters
from .rate_limit import REPAIR_BURST_S
from .sessions import Flow, Session, Sessions


@attrs.define(eq=False)
class RepairSender:
    """`security` is replaced by a reload; `wake` is called when `Sessions.due` may be earlier."""

    sessions: Sessions
    counters: Counters
    security: Security
    wake: Callable[[], object]

    def send(self, session: Session, datagram: bytes, now: float) -> None:
        """One repair, report or ask, if there is room for it and an address that is proven."""
        if session.data is None or session.client is None or session.proof is not None:
            return
        size = len(datagram)
        answered = session.bytes_down + size + DATAGRAM_OVERHEAD
        # The grace is left to the game's packets, as half of the bucket is.
        counted = answered + self.security.amplification_grace_bytes
        if amplifies(counted, session.bytes_up, self.security) or (
            session.down.admit(size, now, REPAIR_BURST_S) is not None
        ):
            self.counters.fec_capped += 1
            if session.end is not None:
                session.end.sealer.take_back(datagram)
            return
        session.bytes_down = answered
        counters = self.counters
        try:
            session.data.sendto(datagram, session.client)
        except OSError:
            counters.drops["unsent"] += 1
            return
        counters.bytes_down += size
        counters.fec_bytes_sent += size
        if datagram[0] >> 4 == VERSION_FEC or datagram[0] & REPAIR:
            counters.fec_repair_sent += 1
        else:
            counters.fec_feedback_sent += 1

    def hasten(self, flow: Flow, at: float) -> None:
        """`send_due` is wanted for this flow no later than `at`."""
        if at < math.inf and self.sessions.due.hasten(flow, at):
            self.wake()

    def send_due(self, now: float) -> None:
        """What flows have to send without a game packet."""
        for flow in self.sessions.due.due(now):
            sealed = flow.sealed
            assert sealed is not None
            for datagram in sealed.poll(now):
                self.send(flow.session, datagram, now)
            self.counters.settle(flow.settle())
            self.hasten(flow, sealed.next_deadline())
