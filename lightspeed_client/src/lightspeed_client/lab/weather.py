"""What a bad link does to each packet: drop, hold back, copy. No socket, no clock.

Every packet draws the same number of random values from a stream of its own (kind, lane), so
the n-th source packet of a player meets the same fate with loss repair on and off. Bursts and
blackholes are functions of time alone. Only the rate limit is shared: there repair packets
really compete with source packets.
Source: two-state loss as in Gilbert (1960) and Elliott (1963), here in continuous time.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, Literal, get_args

import attrs

from .packets import Kind

LOWER_LAYERS_BYTES: Final = 28  # IPv4 and UDP headers, which a rate limit also carries
SLACK_S: Final = 1e-5  # timers fire this much after: a virtual clock that rounds would spin

Cause = Literal["loss", "burst", "queue", "blackhole"]  # queue: the rate limit's


def _share(_: object, field: attrs.Attribute[Any], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{field.name} must be between 0 % and 100 %, got {value * 100:g} %")


def _not_negative(_: object, field: attrs.Attribute[Any], value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{field.name} must not be negative, got {value:g}")


@attrs.frozen
class Burst:
    """Bad stretches: `share` of the time, `mean_s` each on average, losing `loss` inside."""

    share: float = attrs.field(validator=_share)
    mean_s: float = attrs.field(validator=_not_negative)
    loss: float = attrs.field(default=1.0, validator=_share)

    def __attrs_post_init__(self) -> None:
        if self.share == 1 or not self.mean_s > 0:
            raise ValueError("a burst needs a share below 100 % and a mean length above 0")


@attrs.frozen
class Blackhole:
    """Nothing passes from `at_s` for `for_s` seconds, counted from the link's beginning."""

    at_s: float = attrs.field(validator=_not_negative)
    for_s: float = attrs.field(validator=_not_negative)


@attrs.frozen(kw_only=True)
class Weather:
    """One direction of one link. The default is a perfect wire."""

    loss: float = attrs.field(default=0.0, validator=_share)
    burst: Burst | None = None
    delay_s: float = attrs.field(default=0.0, validator=_not_negative)
    jitter_s: float = attrs.field(default=0.0, validator=_not_negative)  # uniform 0..this, on top
    reorder: float = attrs.field(default=0.0, validator=_share)  # held back until others passed
    reorder_s: float = attrs.field(default=0.04, validator=_not_negative)  # 2.5 packets at 64/s
    duplicate: float = attrs.field(default=0.0, validator=_share)
    rate_bps: float | None = None  # bytes a second, lower layers included
    bucket_bytes: int = 3000  # what may pass at once: two full packets
    queue_bytes: int = 32_000  # what may wait; beyond it the packet is lost
    blackholes: tuple[Blackhole, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.rate_bps is not None and not self.rate_bps > 0:
            raise ValueError(f"rate must be above 0, got {self.rate_bps:g}")

    def causes(self) -> list[Cause]:
        """What can lose a packet here."""
        on: dict[Cause, bool] = {
            "loss": self.loss > 0,
            "burst": self.burst is not None and self.burst.share > 0,
            "queue": self.rate_bps is not None,
            "blackhole": bool(self.blackholes),
        }
        return [cause for cause, is_on in on.items() if is_on]


@attrs.define(eq=False)
class Link:
    """One direction. Bursts and blackholes count from `began`; before it there are none."""

    weather: Weather
    seed: int | str
    began: float = 0.0
    lost_by: dict[Cause, int] = attrs.field(factory=lambda: dict.fromkeys(get_args(Cause), 0))
    cause: Cause | None = None  # why the latest packet was lost; None when it passed
    _streams: dict[tuple[Kind, int], Random] = attrs.field(factory=dict)
    _latest: dict[tuple[Kind, int], float] = attrs.field(factory=dict)  # arrivals, in order
    _burst_rng: Random | None = None
    _in_burst: bool = False
    _burst_until: float = 0.0  # since `began`
    _busy_until: float = float("-inf")

    def pass_through(self, kind: Kind, size: int, now: float, lane: int = 0) -> list[float]:
        """When the copies of one packet arrive; empty when it is lost.

        `lane` is the player whose packet it is. Packets of one lane stay in order unless
        `reorder` picks them; a repair packet never holds a source packet back.
        """
        rng = self._streams.get((kind, lane))
        if rng is None:
            rng = self._streams[kind, lane] = Random(f"{self.seed}/{kind.value}/{lane}")
        draw: Callable[[], float] = rng.random
        luck, burst_luck, jitter, reorder, copies, copy_jitter = [draw() for _ in range(6)]
        weather = self.weather
        departs = self._leave_queue(size, now)
        reason: Cause | None = None
        if departs is None:
            reason = "queue"
        elif self._in_blackhole(now):
            reason = "blackhole"
        elif (
            weather.burst
            and self._bursting(now, weather.burst)
            and (burst_luck < weather.burst.loss)
        ):
            reason = "burst"
        elif luck < weather.loss:
            reason = "loss"
        self.cause = reason
        if departs is None or reason is not None:
            self.lost_by[reason or "queue"] += 1
            return []
        arrives = departs + weather.delay_s + jitter * weather.jitter_s
        if reorder < weather.reorder:
            arrives += weather.reorder_s
        else:
            arrives = self._in_order(kind, lane, arrives)
        if copies < weather.duplicate:
            return [arrives, arrives + 0.001 + copy_jitter * weather.jitter_s]
        return [arrives]

    def _in_order(self, kind: Kind, lane: int, arrives: float) -> float:
        floor = self._latest.get((kind, lane), arrives)
        if kind is Kind.REPAIR:
            floor = max(floor, self._latest.get((Kind.SOURCE, lane), arrives))
        arrives = max(arrives, floor)
        self._latest[kind, lane] = arrives
        return arrives

    def _leave_queue(self, size: int, now: float) -> float | None:
        rate = self.weather.rate_bps
        if rate is None:
            return now
        size += LOWER_LAYERS_BYTES
        if max(0.0, self._busy_until - now) * rate + size > self.weather.queue_bytes:
            return None
        earliest = now - self.weather.bucket_bytes / rate
        self._busy_until = max(self._busy_until, earliest) + size / rate
        return max(now, self._busy_until)

    def _in_blackhole(self, now: float) -> bool:
        at = now - self.began
        return any(hole.at_s <= at < hole.at_s + hole.for_s for hole in self.weather.blackholes)

    def _bursting(self, now: float, burst: Burst) -> bool:
        if burst.share == 0 or now < self.began:
            return False
        rng = self._burst_rng
        if rng is None:
            rng = self._burst_rng = Random(f"{self.seed}/burst")
            self._in_burst = rng.random() >= burst.share  # the loop below turns it over at once
        at = now - self.began
        while at >= self._burst_until:
            self._in_burst = not self._in_burst
            mean_s = burst.mean_s
            if not self._in_burst:
                mean_s *= (1 - burst.share) / burst.share
            self._burst_until += rng.expovariate(1 / mean_s)
        return self._in_burst
