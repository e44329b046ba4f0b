"""Decides when a path is probed, what its answers say, and when it is dead.

Probes are KEEPALIVE packets; their numbers run from 60000 to 65535 and begin again there.
Source: PROTOCOL.md, "Keepalive". Times are seconds on the caller's clock.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from typing import Final

import attrs

from .rtt import RttEstimator

FIRST_NUMBER: Final = 60000
LAST_NUMBER: Final = 65535
TIMEOUT_S: Final = 2.0  # a probe unanswered this long is lost
WINDOW_S: Final = 15.0  # loss is the share of probes lost in this much of the past
DEAD_AFTER_S: Final = 3.0  # of silence, or `PATIENCE` intervals where that is more
PATIENCE: Final = 3

# A sealed KEEPALIVE's payload: the probe's number, and the round trip that its sender has
# measured, in units of 100 us, 0 if none yet. So both ends know it.
_PROBE: Final = struct.Struct("!HH")
PROBE_BYTES: Final = _PROBE.size
_TICK_S: Final = 1e-4


def encode_probe(number: int, round_trip_s: float | None) -> bytes:
    """The 4 bytes. A round trip over 6.5 s says 6.5 s."""
    ticks = 0 if round_trip_s is None else min(max(round(round_trip_s / _TICK_S), 1), 0xFFFF)
    return _PROBE.pack(number, ticks)


def decode_probe(payload: bytes) -> tuple[int, float | None]:
    """Number and round trip in seconds, of `PROBE_BYTES` bytes."""
    number, ticks = _PROBE.unpack(payload)
    return number, ticks * _TICK_S if ticks else None


@attrs.frozen
class SendProbe:
    """Send a KEEPALIVE with this sequence number now."""

    sequence: int


@attrs.frozen
class PathDead:
    """Nothing has been heard for `silent_s` seconds. Said once per silence."""

    silent_s: float


@attrs.define(eq=False)
class Prober:
    """Ask `next_deadline`; at that time call `poll`; tell it `answered`, and `heard` for data.

    20 % loss each way loses a probe in 36 %; twelve in a row (3 s at four a second) in 5e-6, so
    an hour of it, 14 400 probes, stays below one false alarm in ten.
    """

    interval_s: float
    last_heard: float  # when anything last came over the path
    rtt: RttEstimator = attrs.field(factory=RttEstimator)
    sent: int = 0
    answers: int = 0
    dead: bool = False
    _unanswered: int = 0  # probes since anything was heard
    _probe_at: float = -math.inf
    _number: int = FIRST_NUMBER - 1
    _flying: dict[int, float] = attrs.field(factory=dict)  # number -> when sent, oldest first
    _fates: deque[tuple[float, bool]] = attrs.field(factory=deque)  # (when known, was it lost)

    def heard(self, now: float) -> None:
        """Anything from the peer proves the path, not only the answer to a probe."""
        self.last_heard = now
        self._unanswered = 0
        self.dead = False

    def answered(self, sequence: int, now: float) -> float | None:
        """The round trip in seconds; None for an answer to no probe of ours, or a second one."""
        sent_at = self._flying.pop(sequence, None)
        if sent_at is None:
            return None
        self.answers += 1
        self.heard(now)
        self.rtt.add(now - sent_at)
        self._fates.append((now, False))
        return now - sent_at

    def next_deadline(self) -> float:
        """When `poll` next has something to say."""
        return self._probe_at

    def poll(self, now: float) -> list[SendProbe | PathDead]:
        """Due probes, at most one, and the news that the path has died."""
        if now < self._probe_at:
            return []
        events: list[SendProbe | PathDead] = []
        self._forget(now)
        silent_s = now - self.last_heard
        patience_s = max(DEAD_AFTER_S, PATIENCE * self.interval_s)
        if not self.dead and silent_s >= patience_s and self._unanswered >= PATIENCE:
            self.dead = True
            events.append(PathDead(silent_s))
        self._number = FIRST_NUMBER if self._number >= LAST_NUMBER else self._number + 1
        self._flying[self._number] = now
        self._probe_at = now + self.interval_s
        self._unanswered += 1
        self.sent += 1
        events.append(SendProbe(self._number))
        return events

    @property
    def lost_fraction(self) -> float | None:
        """Share of round trips lost within `WINDOW_S`, 0..1; None until a fate is known."""
        if not self._fates:
            return None
        return sum(lost for _, lost in self._fates) / len(self._fates)

    @property
    def lost(self) -> int:
        """Probes known to be lost since the beginning."""
        return self.sent - self.answers - len(self._flying)

    def _forget(self, now: float) -> None:
        while self._flying:
            number, sent_at = next(iter(self._flying.items()))
            if now - sent_at < TIMEOUT_S:
                break
            del self._flying[number]
            self._fates.append((now, True))
        while self._fates and now - self._fates[0][0] > WINDOW_S:
            self._fates.popleft()
