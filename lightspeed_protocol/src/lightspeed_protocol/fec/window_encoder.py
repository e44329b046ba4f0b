"""The sending end of the window code: which packets a repair is made from, and when.

Source packets are numbered and leave as they are; what is remembered of them is what the plan
reaches back to, at most 128 payloads; and the newest 128 where the peer may ask for them again.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .gf256 import SCALED
from .window_plan import (
    GF256,
    KEYS,
    LENGTH_BYTES,
    MAX_PAYLOAD,
    MAX_WINDOW,
    XOR,
    Plan,
    RepairHead,
    source_field,
)

KEPT: Final = 128  # payloads for who asks again, a power of 2
MOST_COPIES: Final = 2  # of each

Repair = tuple[bytes, bytes]  # its FEC field and its body

_NO_REPAIRS: Final[tuple[Repair, ...]] = ()


class WindowEncoder:
    """Numbers one flow's source packets in one direction and makes its repairs.

    The flow must keep its encoder for as long as the peer keeps its decoder; where it cannot,
    the next encoder's `first_ssn` must be far (thousands) from the last one's numbers.
    """

    __slots__ = (
        "_bare",
        "_copies",
        "_covers",
        "_kept",
        "_key",
        "_largest",
        "_mask",
        "_plan",
        "_recent",
        "_since",
        "_ssn",
        "sent_repair",
    )

    def __init__(
        self,
        plan: Plan | None,
        *,
        first_ssn: int = 0,
        largest_payload: int = MAX_PAYLOAD,
        asking: bool = False,
    ) -> None:
        """No plan: packets are numbered, no repair is made. `asking`: as `keep`.

        A repair is 4 bytes longer than the longest packet it covers, so a path that carries
        payloads up to n bytes takes `largest_payload` n - 4. Never above 1400.
        """
        self.sent_repair = 0
        self._ssn = first_ssn & 0xFFFF  # of the next source packet
        self._key = 0
        self._largest = min(largest_payload, MAX_PAYLOAD)
        self._recent: deque[bytes] = deque(maxlen=0)  # symbols up to the newest, without a gap
        self._since = 0  # source packets since the last repair
        self._bare = 0  # bit i: the packet i before the newest is in no repair
        self._plan: Plan | None = None
        self._mask = self._covers = 0
        # By SSN modulo 128: payloads, None if it cannot be copied, and how often each was.
        self._kept: list[bytes | None] = []
        self._copies = bytearray()
        if asking:
            self.keep()
        self.plan = plan

    @property
    def plan(self) -> Plan | None:
        """May be replaced between any two packets; the receiver need not know."""
        return self._plan

    @plan.setter
    def plan(self, plan: Plan | None) -> None:
        self._plan = plan
        if plan is None:
            self._recent = deque(maxlen=0)
            self._mask = self._covers = self._bare = self._since = 0
            return
        self._recent = deque(self._recent, maxlen=plan.reach)
        self._mask = (1 << plan.reach) - 1
        self._covers = sum(1 << plan.delay + i * plan.stride for i in range(plan.window))
        self._bare &= self._mask

    def protect(self, payload: bytes) -> tuple[bytes, tuple[Repair, ...]]:
        """The FEC field of this source packet, and the repairs to send right after it.

        Takes any length, because no game packet may be lost to a check in here. One that is too
        large for a repair ends the run: a last repair for the packets before it, and the next
        windows begin behind it, as at the start of the flow.
        """
        ssn = self._ssn
        self._ssn = ssn + 1 & 0xFFFF
        if kept := self._kept:
            kept[ssn % KEPT] = payload if len(payload) <= self._largest else None
            self._copies[ssn % KEPT] = 0
        plan = self._plan
        if plan is None:
            return source_field(ssn), _NO_REPAIRS
        if len(payload) > self._largest:
            return source_field(ssn), self._end_run(ssn)
        self._recent.append(_symbol(payload))
        self._bare = (self._bare << 1 | 1) & self._mask
        self._since += 1
        if self._since < plan.every:
            return source_field(ssn), _NO_REPAIRS
        covered = range(plan.delay, len(self._recent), plan.stride)[: plan.window]
        if not covered:
            return source_field(ssn), _NO_REPAIRS  # the flow is younger than the delay
        self._bare &= ~self._covers
        return source_field(ssn), (self._repair(ssn, covered, plan.stride),)

    def keep(self) -> None:
        """From now on `copy` is of use."""
        if not self._kept:
            self._kept, self._copies = [None] * KEPT, bytearray(KEPT)

    def copy(self, ssn: int) -> Repair | None:
        """A repair over this packet (u16) alone, for a peer that asks for it again.

        None if it is not one of the newest 128, is too large for a repair, or was copied twice.
        """
        at = ssn % KEPT
        if not self._kept or (self._ssn - 1 - ssn & 0xFFFF) >= KEPT:
            return None
        payload = self._kept[at]
        if payload is None or self._copies[at] == MOST_COPIES:
            return None
        self._copies[at] += 1
        self.sent_repair += 1
        field, head = RepairHead(XOR, 1, ssn).encode()
        return field, head + _symbol(payload)

    def pending(self) -> bool:
        """Whether a packet that the plan still reaches is in no repair: `flush` protects it."""
        return self._bare != 0

    def flush(self, *, again: bool = False) -> Repair | None:
        """One repair over the newest packets that are in no repair yet; None if there are none.

        For a sender that falls silent: the last packets get no later repair. With `again`, one
        more even if all are in a repair, over as many as the plan's window; without a plan a copy
        of the last packet, which shows a peer that asks what it has missed.
        """
        if self._plan is None and again:
            return self.copy(self._ssn - 1 & 0xFFFF)
        return self._flush(self._ssn - 1 & 0xFFFF, again=again)

    def _flush(self, newest: int, *, again: bool) -> Repair | None:
        plan = self._plan
        width = self._bare.bit_length()
        if again and plan is not None:
            width = max(width, plan.window)
        width = min(width, len(self._recent), MAX_WINDOW)
        if not width:
            return None
        self._bare = 0
        return self._repair(newest, range(width), 1)

    def _end_run(self, large: int) -> tuple[Repair, ...]:
        last = self._flush(large - 1 & 0xFFFF, again=False)
        self._recent.clear()
        self._bare = self._since = 0
        return _NO_REPAIRS if last is None else (last,)

    def _repair(self, sent: int, covered: range, stride: int) -> Repair:
        """The repair over the packets so many before `sent`, the newest of `_recent`."""
        plan = self._plan
        assert plan is not None
        recent, key = self._recent, self._key
        total = longest = 0
        for back in covered:
            symbol = recent[-1 - back]
            if len(symbol) > longest:
                longest = len(symbol)
            if plan.field == GF256:
                symbol = symbol.translate(SCALED[(key ^ sent - back) & 127])
            total ^= int.from_bytes(symbol, "little")
        self._key = (key + 1) % KEYS
        self._since = 0
        self.sent_repair += 1
        newest = sent - covered[0] & 0xFFFF
        field, head = RepairHead(plan.field, len(covered), newest, key, stride).encode()
        return field, head + total.to_bytes(longest, "little")


def _symbol(payload: bytes) -> bytes:
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload
