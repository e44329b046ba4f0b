"""How much one client may send: token buckets for packets and for bytes.

Each bucket is kept as the one time at which it would be full again (the virtual scheduling
form of the generic cell rate algorithm, ITU-T I.371 annex A): a packet passes while that time
is not further ahead than the bucket is deep. Times are seconds on the caller's clock.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

BURST_S: Final = 1.0  # a bucket holds this many seconds of its rate
REPAIR_BURST_S: Final = 0.5  # of it, for repairs, reports and asks: the rest waits for the game's


@attrs.define(eq=False)
class Rates:
    """Shared by all clients; a reload writes into it, and the next packet obeys."""

    packet_s: float = attrs.field(init=False)  # seconds of allowance one packet uses up
    byte_s: float = attrs.field(init=False)
    packets_per_s: int
    bytes_per_s: int

    def __attrs_post_init__(self) -> None:
        self.set(self.packets_per_s, self.bytes_per_s)

    def set(self, packets_per_s: int, bytes_per_s: int) -> None:
        self.packets_per_s = packets_per_s
        self.bytes_per_s = bytes_per_s
        self.packet_s = 1 / packets_per_s
        self.byte_s = 1 / bytes_per_s


@attrs.define(eq=False)
class Meter:
    """One client's two buckets in one direction; full at the start."""

    rates: Rates
    _packets_full_at: float = -math.inf
    _bytes_full_at: float = -math.inf

    def admit(self, size: int, now: float, burst_s: float = BURST_S) -> str | None:
        """None to let a datagram of `size` bytes pass, else the drop reason.

        A refused datagram uses up nothing. One larger than the whole bucket never passes.
        `burst_s`: how much of the bucket it may use up, 0 to `BURST_S`.
        """
        rates = self.rates
        packets = self._packets_full_at
        if packets < now:
            packets = now
        packets += rates.packet_s
        limit = now + burst_s + 1e-9  # rounding must not cost the last packet of a burst
        if packets > limit:
            return "rate-packets"
        bytes_ = self._bytes_full_at
        if bytes_ < now:
            bytes_ = now
        bytes_ += rates.byte_s * size
        if bytes_ > limit:
            return "rate-bytes"
        self._packets_full_at = packets
        self._bytes_full_at = bytes_
        return None
