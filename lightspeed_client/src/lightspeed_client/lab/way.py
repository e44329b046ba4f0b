"""What one direction of a match came to: its packets, their delays, and what it took in bytes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import attrs
from lightspeed_protocol.rtt import percentile

from .impair import Counts, Label
from .packets import Kind
from .receipts import LATE_S
from .weather import LOWER_LAYERS_BYTES, Cause


@attrs.frozen(kw_only=True)
class Wire:
    """One direction's bytes before loss, IP and UDP headers included.

    `feedback`, reports and asks, is about the packets of the other direction.
    """

    source: int = 0
    repair: int = 0
    feedback: int = 0

    @classmethod
    def of(cls, counts: Sequence[Counts]) -> Wire:
        """Summed over the relays."""
        source, repair, feedback = (
            sum(each.bytes[kind] + each.received[kind] * LOWER_LAYERS_BYTES for each in counts)
            for kind in (Kind.SOURCE, Kind.REPAIR, Kind.FEEDBACK)
        )
        return cls(source=source, repair=repair, feedback=feedback)

    def over_source(self, part: int) -> float | None:
        """A part over source packets alone; None without any."""
        return part / self.source if self.source else None

    @property
    def ratio(self) -> float | None:
        """All three over source packets alone, in the same header version."""
        return self.over_source(self.source + self.repair + self.feedback)


@attrs.frozen(kw_only=True)
class Way:
    """One direction: inputs go up, states come down. Bytes are UDP payloads before loss.

    `late` packets came more than `budget_s` after their time.
    """

    sent_by: dict[int, int]  # player -> how many; their numbers are 1 to that
    delivered: frozenset[Label]
    dropped: frozenset[Label]  # by the link, as source packets
    repair_delays_s: tuple[float, ...] = ()
    own_transits_s: tuple[float, ...] = ()  # of packets that needed no repair
    budget_s: float = LATE_S
    late: int = 0
    repaired_late: int = 0  # of those, the ones that repair brought back
    bound: int = 0  # the least any code could have left unknown with as many repair packets
    lost_by: dict[Cause, int] = attrs.field(factory=dict)  # of `dropped`; only what was on
    duplicates: int = 0
    corrupt: int = 0
    freeze_s: float = 0.0
    game_bytes: int = 0
    tunnel_bytes: int = 0
    repair_packets: int = 0
    wire: Wire = Wire()

    @property
    def sent(self) -> int:
        return sum(self.sent_by.values())

    @property
    def arrived(self) -> int:
        return len(self.delivered)

    @property
    def repaired(self) -> int:
        return len(self.delivered & self.dropped)

    @property
    def lost(self) -> int:
        """After repair."""
        return self.sent - self.arrived

    @property
    def unknown(self) -> int:
        """Lost or late: not known within the budget."""
        return self.lost + self.late

    @property
    def lost_elsewhere(self) -> int:
        """Lost although the link let them pass: a limit, a full buffer, or a fault."""
        return self.lost - len(self.dropped - self.delivered)

    def to_json(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "arrived": self.arrived,
            "lost_before_repair": len(self.dropped),
            "repaired": self.repaired,
            "lost_after_repair": self.lost,
            "lost_elsewhere": self.lost_elsewhere,
            "lost_by": dict(self.lost_by),
            "budget_ms": round(self.budget_s * 1000),
            "late": self.late,
            "repaired_late": self.repaired_late,
            "unknown": self.unknown,
            "unknown_share": rounded(self.unknown / self.sent if self.sent else None),
            "bound": self.bound,
            "bound_share": rounded(self.bound / self.sent if self.sent else None),
            "duplicates": self.duplicates,
            "corrupt": self.corrupt,
            "longest_freeze_ms": round(self.freeze_s * 1000, 1),
            "repair_delay_mean_ms": mean_in_ms(self.repair_delays_s),
            "repair_delay_p50_ms": in_ms(self.repair_delays_s, 0.5),
            "repair_delay_p95_ms": in_ms(self.repair_delays_s, 0.95),
            "own_transit_p50_ms": in_ms(self.own_transits_s, 0.5),
            "own_transit_p95_ms": in_ms(self.own_transits_s, 0.95),
            "game_bytes": self.game_bytes,
            "tunnel_bytes": self.tunnel_bytes,
            "repair_packets": self.repair_packets,
            "source_ip_bytes": self.wire.source,
            "repair_ip_bytes": self.wire.repair,
            "feedback_ip_bytes": self.wire.feedback,
            "bytes_over_source": rounded(self.wire.ratio),
        }


def in_ms(samples_s: Sequence[float], share: float) -> float | None:
    """A percentile in milliseconds; None without samples."""
    return round(percentile(samples_s, share) * 1000, 2) if samples_s else None


def mean_in_ms(samples_s: Sequence[float]) -> float | None:
    """None without samples."""
    return round(statistics.fmean(samples_s) * 1000, 2) if samples_s else None


def rounded(value: float | None) -> float | None:
    """As JSON has it."""
    return None if value is None else round(value, 6)
