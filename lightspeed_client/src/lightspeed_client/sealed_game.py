"""One game's conversation through a sealed tunnel, sans-IO: it outlives the session's keys.

A registration, resumed or new, gives fresh keys and counts from 0; the flow then goes on with
a fresh `SealedFlow`, and what the one before it counted stays counted.
Source: PROTOCOL.md, "Sealed header".
"""

from __future__ import annotations

from collections import Counter

import attrs
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.window import WindowDecoder
from lightspeed_protocol.header import Address
from lightspeed_protocol.seal import (
    Opened,
    SealedEnd,
)
from lightspeed_protocol.sealed_flow import SealedFlow, header_size

from .fec_choice import RepairTerms
from .flows import NOTHING, Tally


@attrs.define(eq=False)
class SealedGame:
    """`label` is what `labels.label` says; `largest_bytes` is of one tunnel packet."""

    game: Address
    label: bytes
    last_game_at: float
    drops: Counter[str]  # shared by all flows: reason -> packets
    _flow: SealedFlow
    _room: int  # for a game packet
    duplicates: int = 0
    _late: SealedFlow | None = None  # under the keys before these
    _before: Tally = NOTHING  # under still earlier ones

    @classmethod
    def open(
        cls,
        game: Address,
        label: bytes,
        now: float,
        drops: Counter[str],
        *,
        end: SealedEnd,
        terms: RepairTerms,
        largest_bytes: int,
    ) -> SealedGame:
        flow = SealedFlow.open(end, label, terms.up, log=terms.log(), asking=terms.asking)
        return cls(game, label, now, drops, flow, room(label, largest_bytes))

    def renew(self, end: SealedEnd, terms: RepairTerms, largest_bytes: int) -> None:
        """Go on under the keys of another registration; what is known of the path still holds."""
        if self._late is not None:
            self._before += _tally(self._late)
        self._late = late = self._flow
        # Where the node counts on, what it sent before may have come under the keys before.
        self._flow = SealedFlow(end, self.label, late.protector, decoder=WindowDecoder())
        self._flow.listen(terms.log(), asking=terms.asking)
        self._flow.protector.change(terms.up, asking=terms.asking)
        late.listen(None, asking=False)
        self._room = room(self.label, largest_bytes)

    def from_game(self, payload: bytes, now: float, timestamp_us: int) -> tuple[bytes, ...]:
        """The datagrams to send to the node at once; none when the packet cannot be carried."""
        self.last_game_at = now
        if not payload:
            self.drops["empty-from-game"] += 1  # nodes refuse a packet without payload
            return ()
        if len(payload) > self._room:
            self.drops["oversize-from-game"] += 1
            return ()
        return self._flow.wrap(payload, timestamp_us, now)

    def from_node(self, opened: Opened, now: float, *, late: bool = False) -> list[bytes]:
        """Payloads for the game, out of an authentic packet of this conversation.

        `late`: it was sealed under the keys before these.
        """
        flow = self._late if late and self._late is not None else self._flow
        flow.bytes_in += flow.header_bytes + len(opened.payload)
        try:
            return flow.receive(opened, now)
        except WireError as exc:
            self.drops[exc.reason] += 1
            self.duplicates += exc.reason == "duplicate"
            return []

    def next_deadline(self) -> float:
        """When `poll` has something; infinity while it has not."""
        return self._flow.next_deadline()

    def poll(self, now: float) -> list[bytes]:
        """Datagrams for the node that are due without a packet from the game."""
        return self._flow.poll(now)

    def explain(self) -> str:
        """How what the game sends is protected, and why, in one line."""
        return self._flow.protector.explain()

    def tally(self) -> Tally:
        capped = self._flow.protector.refused  # one for all keys
        own = Tally(duplicates=self.duplicates, repair_capped=capped)
        total = self._before + _tally(self._flow) + own
        return total if self._late is None else total + _tally(self._late)


def _tally(flow: SealedFlow) -> Tally:
    outcome, heard = flow.outcome(), flow.heard
    return Tally(
        sent=flow.sent_source,
        received=flow.received,
        repair_sent=flow.sent_repair,
        repaired=flow.recovered,
        game_bytes_out=flow.payload_bytes_out,
        game_bytes_in=flow.payload_bytes_in,
        tunnel_bytes_out=flow.bytes_out,
        tunnel_bytes_in=flow.bytes_in,
        wanted_down=flow.expected,
        repair_received=0 if flow.decoder is None else flow.decoder.repairs,
        repaired_late=outcome.late,
        repair_wasted=outcome.wasted,
        repair_given_up=outcome.unrecoverable,
        repair_asked=outcome.asked,
        delayed=outcome.delayed,
        reported_up=heard.received + heard.lost,
        lost_up=heard.lost,
        repaired_up=heard.repaired,
        late_up=heard.late,
    )


def room(label: bytes, largest_bytes: int) -> int:
    """Bytes of a game packet that a tunnel packet holds."""
    return largest_bytes - header_size(label)
