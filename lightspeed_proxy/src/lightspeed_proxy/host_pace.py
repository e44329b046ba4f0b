"""How often somebody may do something that costs: a host, of which there are many, or one party."""

from __future__ import annotations

import math
from collections import OrderedDict
from ipaddress import ip_address
from typing import Final

import attrs

from .rate_limit import Meter, Rates

MOST_HOSTS: Final = 4096  # remembered; the one not seen for longest goes first


@attrs.define(eq=False)
class Bucket:
    """`burst` at once, then one every `every_s`. Times are seconds on the caller's clock."""

    every_s: float
    burst: int
    full_at: float = -math.inf  # when the whole burst will be there again

    def admit(self, now: float) -> bool:
        """Counts one; False when it is one too many, which is not counted."""
        full_at = max(self.full_at, now) + self.every_s
        if full_at > now + self.burst * self.every_s + 1e-9:
            return False
        self.full_at = full_at
        return True


@attrs.define(eq=False)
class HostPace:
    """`per_s` times a second for each IPv4 address and each IPv6 network of 64 bits.

    One who has a network of their own has 2^64 addresses in it. Times are seconds on the
    caller's clock.
    """

    per_s: int
    _rates: Rates = attrs.field(init=False)
    _meters: OrderedDict[int | str, Meter] = attrs.field(factory=OrderedDict, init=False)

    def __attrs_post_init__(self) -> None:
        self._rates = Rates(self.per_s, 1)

    def __len__(self) -> int:
        return len(self._meters)

    def admit(self, host: str, now: float) -> bool:
        """Counts one; False when it is one too many. `host` is a numeric address."""
        address = ip_address(host.partition("%")[0])
        house = host if address.version == 4 else int(address) >> 64
        meter = self._meters.pop(house, None) or Meter(self._rates)
        while len(self._meters) >= MOST_HOSTS:
            self._meters.popitem(last=False)
        self._meters[house] = meter
        return meter.admit(0, now) is None
