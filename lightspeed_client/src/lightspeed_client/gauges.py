"""Derives the figures from what was counted: recent shares, rates, and a session's totals.

Sans-IO. It reads the flow table, the prober and the node's state; it changes none of them.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs
from lightspeed_protocol.header import HEADER_BYTES
from lightspeed_protocol.keepalive import Prober

from .figures import ControlState, Figures, Totals
from .flows import FlowTable, Tally
from .node_state import CARRYING_S, NodeState

__all__ = ["CARRYING_S", "SAMPLE_S", "Gauges"]

WINDOW_S: Final = 15.0
RATE_S: Final = 3.0  # rates are means over this long
SAMPLE_S: Final = 1.0


@attrs.define(eq=False)
class Meter:
    """Keeps one tally a second so that recent shares and rates can be told from totals."""

    _samples: deque[tuple[float, Tally]] = attrs.field(factory=deque)

    def sample(self, now: float, tally: Tally) -> None:
        """Call about once a second."""
        self._samples.append((now, tally))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_S:
            self._samples.popleft()

    def since(self, now: float, tally: Tally, span_s: float) -> tuple[float, Tally] | None:
        """(seconds, what happened) over about `span_s`; None before the first sample."""
        chosen: tuple[float, Tally] | None = None
        for when, old in self._samples:
            if chosen is not None and now - when < span_s:
                break
            chosen = (when, old)
        if chosen is None or now - chosen[0] < SAMPLE_S / 2:
            return None
        return now - chosen[0], tally - chosen[1]


def down_losses(recent: Tally) -> tuple[float | None, float | None]:
    """(before repair, after repair), each 0..1, None when nothing was due."""
    before = share(recent.expected_down - recent.arrived_down, recent.expected_down)
    after = share(recent.wanted_down - recent.received, recent.wanted_down)
    return before, after


def up_losses(recent: Tally) -> tuple[float | None, float | None]:
    """(before repair, lost or late after it), each 0..1, None where the node has told nothing."""
    before = share(recent.lost_up, recent.reported_up)
    left = recent.lost_up - recent.repaired_up + recent.late_up
    return before, share(left, recent.reported_up)


def describe_down(recent: Tally) -> str | None:
    """What the node does against loss, as it looks from here; None when nothing came."""
    before, after = down_losses(recent)
    if before is None or after is None or not recent.received:
        return None
    lost = f"{100 * before:.1f} % lost, {100 * after:.1f} % left"
    if not recent.repair_received:
        return f"no repair: {lost}"
    sources = max(recent.wanted_down, 1)
    return f"{recent.repair_received / sources:.2f} repairs per packet: {lost}"


def up_loss(round_trip: float | None, down: float | None) -> float | None:
    """What a round trip's loss leaves for the way up, if the two ways lose independently."""
    if round_trip is None or down is None or down >= 1.0:
        return None
    return min(1.0, max(0.0, 1.0 - (1.0 - round_trip) / (1.0 - down)))


def overhead(recent: Tally, keepalives: int, keepalive_bytes: int) -> float | None:
    """See `Figures`; None without game bytes."""
    if recent.game_bytes_out <= 0:
        return None
    tunnel = recent.tunnel_bytes_out + keepalives * keepalive_bytes
    return (tunnel - recent.game_bytes_out) / recent.game_bytes_out


def share(part: int, whole: int) -> float | None:
    """part / whole within 0..1; None of nothing. Late arrivals can make `part` negative."""
    return min(1.0, max(0.0, part / whole)) if whole > 0 else None


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000.0


def round_trip(prober: Prober) -> dict[str, float | None]:
    """The RTT fields. While the path is dead only the best stays: old ones would mislead."""
    rtt = prober.rtt
    best = {"rtt_min_ms": milliseconds(rtt.min_s)}
    if prober.dead:
        return best | dict.fromkeys(("rtt_ms", "rtt_p95_ms", "jitter_ms"))
    return best | {
        "rtt_ms": milliseconds(rtt.smoothed_s),
        "rtt_p95_ms": milliseconds(rtt.percentile(0.95)),
        "jitter_ms": milliseconds(rtt.jitter_s),
    }


@attrs.define(eq=False)
class Gauges:
    """Call `sample` each `SAMPLE_S`; ask `figures` and `totals` at any moment."""

    table: FlowTable
    prober: Prober
    started_at: float
    keepalive_bytes: int = HEADER_BYTES
    node: NodeState = attrs.field(factory=NodeState)
    meter: Meter = attrs.field(factory=Meter)

    def sample(self, now: float) -> None:
        self.meter.sample(now, self.table.tally())

    def figures(
        self,
        now: float,
        *,
        strangers: int,
        notice: str | None,
        repair_up: str | None = None,
        control: ControlState | None = None,
        session: str | None = None,
    ) -> Figures:
        tally = self.table.tally()
        recent = self.meter.since(now, tally, WINDOW_S)
        loss = down = after = up = left_up = None
        words: str | None = None
        if not self.prober.dead:  # a dead path loses everything or nothing: that is not known
            loss = self.prober.lost_fraction
        if recent is not None and not self.prober.dead:
            down, after = down_losses(recent[1])
            up, left_up = up_losses(recent[1])
            words = describe_down(recent[1])
        return Figures(
            state=self.node.state(self.table.game_silent_s(now)),
            path="node",
            elapsed_s=now - self.started_at,
            loss=loss,
            loss_down=down,
            loss_up=up_loss(loss, down) if up is None else up,
            loss_up_estimated=up is None,
            residual_down=after,
            residual_up=left_up,
            repaired=tally.repaired,
            repaired_late=tally.repaired_late,
            repair_sent=tally.repair_sent,
            repair_received=tally.repair_received,
            repair_wasted=tally.repair_wasted,
            repair_given_up=tally.repair_given_up,
            repair_asked=tally.repair_asked,
            delayed=tally.delayed,
            repair_up=repair_up,
            repair_down=words,
            sent=tally.sent,
            received=tally.received,
            overhead=overhead(tally, self.prober.sent, self.keepalive_bytes),
            duplicates=tally.duplicates,
            strangers=strangers,
            dropped=self.table.drops.total(),
            flows=len(self.table.flows),
            notice=notice,
            control=control,
            session=session,
            **round_trip(self.prober),
            **self._rates(now, tally),
        )

    def totals(
        self,
        now: float,
        *,
        strangers: int,
        server: str,
        node: str,
        not_found: str = "",
        control: ControlState | None = None,
        session: str | None = None,
    ) -> Totals:
        tally = self.table.tally()
        down, after = down_losses(tally)
        up, left_up = up_losses(tally)
        rtt, prober = self.prober.rtt, self.prober
        return Totals(
            seconds=now - self.started_at,
            server=server,
            node=node,
            fec=str(self.table.fec),
            flows=self.table.opened,
            sent=tally.sent,
            received=tally.received,
            repaired=tally.repaired,
            repair_sent=tally.repair_sent,
            game_bytes_out=tally.game_bytes_out,
            game_bytes_in=tally.game_bytes_in,
            tunnel_bytes_out=tally.tunnel_bytes_out,
            tunnel_bytes_in=tally.tunnel_bytes_in,
            overhead=overhead(tally, prober.sent, self.keepalive_bytes),
            keepalives_sent=prober.sent,
            keepalives_answered=prober.answers,
            loss=share(prober.lost, prober.lost + prober.answers),
            loss_down=down,
            residual_down=after,
            loss_up=up,
            residual_up=left_up,
            repaired_late=tally.repaired_late,
            repair_received=tally.repair_received,
            repair_wasted=tally.repair_wasted,
            repair_given_up=tally.repair_given_up,
            repair_capped=tally.repair_capped,
            repair_asked=tally.repair_asked,
            delayed=tally.delayed,
            rtt_min_ms=milliseconds(rtt.min_s),
            rtt_median_ms=milliseconds(rtt.percentile(0.5)),
            rtt_p95_ms=milliseconds(rtt.percentile(0.95)),
            jitter_ms=milliseconds(rtt.jitter_s),
            duplicates=tally.duplicates,
            strangers=strangers,
            drops=dict(self.table.drops),
            outages=self.node.outages,
            outage_s=self.node.outage_s(now),
            not_found=not_found,
            control=control,
            session=session,
        )

    def _rates(self, now: float, tally: Tally) -> dict[str, float | None]:
        lately = self.meter.since(now, tally, RATE_S)
        if lately is None:
            return dict.fromkeys(
                ("sent_per_s", "received_per_s", "bytes_out_per_s", "bytes_in_per_s")
            )
        span_s, done = lately
        return {
            "sent_per_s": done.sent / span_s,
            "received_per_s": done.received / span_s,
            "bytes_out_per_s": done.tunnel_bytes_out / span_s,
            "bytes_in_per_s": done.tunnel_bytes_in / span_s,
        }
