"""The slow path of sealed packets, which have proved whose they are: new flows and answers.

Source: PROTOCOL.md, "Sealed header".
"""

from __future__ import annotations

import math
from typing import Final

import attrs
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.header import (
    ADDRESSES,
    FIN,
    HANDSHAKE,
    KEEPALIVE,
    microseconds,
    swap_addresses,
)
from lightspeed_protocol.keepalive import PROBE_BYTES, decode_probe
from lightspeed_protocol.seal import ADDRESSES6, SEALED6_BYTES, SEALED_BYTES

from .abuse import DATAGRAM_OVERHEAD
from .flows import Flows
from .sessions import Session
from .table import SEALED6, PythonFlowTable
from .whereabouts import prove

LARGEST_ECHO: Final = 64  # payload bytes of a KEEPALIVE or HANDSHAKE
FEEDBACK: Final = 0x80  # first byte of the FEC field of a report, or more: an ask


@attrs.define(eq=False)
class SealedPath:
    flows: Flows
    table: PythonFlowTable

    def first(self, session: Session, datagram: bytes, now: float) -> None:
        """A packet the table has no flow for, or one with a flag.

        Raises `WireError` with the drop reason.
        """
        reason = session.up.admit(len(datagram), now)
        if reason is not None:
            raise WireError(reason)
        size, addresses = (
            (SEALED_BYTES, ADDRESSES) if datagram[0] < SEALED6 else (SEALED6_BYTES, ADDRESSES6)
        )
        key, flags = datagram[addresses], datagram[0]
        if flags & FIN:
            self._end(session, key, now)
        elif flags & HANDSHAKE and prove(session, datagram[size:], self.flows.counters):
            self.flows.counters.handshakes += 1
        elif flags & (KEEPALIVE | HANDSHAKE):
            self._echo(session, flags, datagram[size:], now)
        elif len(datagram) == size:
            raise WireError("empty")
        else:
            # the same batch may have held two first packets
            flow = session.flows.get(key)
            if flow is None:
                if datagram[size - 16] >= FEEDBACK:
                    raise WireError("fec-field")
                flow = self.flows.open(session, key, now)
            self.table.carry_sealed(flow, datagram, now)

    def _echo(self, session: Session, flags: int, payload: bytes, now: float) -> None:
        if self.flows.draining:
            raise WireError("draining")  # an answer would say: still here
        if len(payload) > LARGEST_ECHO:
            raise WireError("oversized")
        assert session.end is not None
        assert session.data is not None
        flag = KEEPALIVE if flags & KEEPALIVE else HANDSHAKE
        if flag == KEEPALIVE:
            self.flows.counters.keepalives += 1
            if len(payload) == PROBE_BYTES and (measured := decode_probe(payload)[1]):
                session.end.round_trip_s = measured
        else:
            self.flows.counters.handshakes += 1
        if session.proof is not None and session.asked_at == -math.inf:
            return  # the question comes first
        answer = session.end.control(flag, microseconds(now), payload)
        if session.spend(len(answer) + DATAGRAM_OVERHEAD):
            self.flows.send(session.data, answer, session.client)

    def _end(self, session: Session, key: bytes, now: float) -> None:
        """FIN of a flow, or with no addresses of the whole session."""
        counters = self.flows.counters
        counters.fins += 1
        self.flows.say_fin(session, now, swap_addresses(key))
        flow = session.flows.get(key)
        if flow is not None:
            self.flows.end(flow)
        elif not any(key):
            self.flows.end_all(session)
            self.flows.sessions.dismiss(session)
            counters.sessions_closed += 1
            if session.on_end is not None:
                session.on_end(session, "fin")
