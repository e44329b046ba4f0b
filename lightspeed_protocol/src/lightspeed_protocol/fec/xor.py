"""XOR repair: one repair packet per block of K source packets rebuilds any one of them.

A repair payload is the XOR of the source payloads, each padded with zeros to the longest, then
the XOR of their lengths as 2 bytes. Read little-endian, a payload padded at its end is the same
number as the payload itself, so one running integer per block is all the arithmetic there is.

The decoder hands every source packet on at once and remembers which it has handed on. It trusts
no peer to number well: the original node can run two encoders per session which number alike,
so two different packets under one (block, index) are both delivered and their block is never
used for recovery again.

Source: PROTOCOL.md, "XOR repair".
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ..errors import WireError
from ..sequence import distance
from .header import FEC_BYTES, FIELD, LARGEST_K

DEFAULT_K: Final = 4
SMALLEST_K: Final = 2
MAX_PAYLOAD: Final = 1400  # larger ones travel as version 1, beside FEC
WINDOW: Final = 64  # blocks remembered
SPREAD: Final = 4  # blocks that may be on their way at once, reordering included
RESTART: Final = 8  # stale packets in a row that mean the peer numbers afresh
TICKS: Final = 61  # 4 s: further apart in the sender's time, two packets are not of one block

# The original passes payloads up to its 2048-byte buffer. Larger ones are delivered but never
# kept, which bounds what a peer can make us hold.
_LARGEST_KEPT: Final = 2048
_LENGTH_BYTES: Final = 2


class XorEncoder:
    """Numbers source packets and makes the repair packet that closes each block.

    `protect` takes any length, because a game packet must never be lost to a check in here; the
    caller sends what is over `MAX_PAYLOAD` as version 1 and does not call it.
    """

    __slots__ = ("_block", "_count", "_lengths", "_longest", "_xor", "k")

    def __init__(self, k: int = DEFAULT_K, *, block: int = 0) -> None:
        """`block` is the first id; one far from an earlier encoder's keeps the two apart."""
        self.k = min(max(k, SMALLEST_K), LARGEST_K)
        self._block = block & 0xFFFF
        self._count = 0  # source packets in the open block
        self._xor = self._lengths = self._longest = 0

    @property
    def block(self) -> int:
        """The block that the next source packet joins."""
        return self._block

    def protect(self, payload: bytes) -> tuple[bytes, bytes | None]:
        """The FEC field for this source packet and, when it closed its block, the repair body.

        The repair body is complete: its own FEC field and its payload.
        """
        count, k = self._count, self.k
        field = FIELD.pack(self._block, count, k)
        length = len(payload)
        self._xor ^= int.from_bytes(payload, "little")
        self._lengths ^= length
        if length > self._longest:
            self._longest = length
        self._count = count + 1
        return field, self._close() if count + 1 == k else None

    def flush(self) -> bytes | None:
        """Close an open block early: its repair body, or None when no block is open.

        Its K is the number of source packets the block got. Only for a peer that negotiated it:
        the original invents an empty packet from it.
        """
        return self._close() if self._count else None

    def _close(self) -> bytes:
        count = self._count
        body = (
            FIELD.pack(self._block, count, count)
            + self._xor.to_bytes(self._longest, "little")
            + self._lengths.to_bytes(_LENGTH_BYTES, "big")
        )
        self._block = (self._block + 1) & 0xFFFF
        self._count = self._xor = self._lengths = self._longest = 0
        return body


class _Open:
    """A block that may still need recovery.

    `have` and `hashes` are kept per index; `xor`, `lengths` and `longest` cover the source
    packets that agree on `nominal`, the K they name (0 until one has come).
    """

    __slots__ = (
        "block",
        "hashes",
        "have",
        "lengths",
        "longest",
        "nominal",
        "place",
        "repair",
        "repair_k",
        "xor",
    )

    def __init__(self, block: int, place: int | None) -> None:
        self.block = block
        self.place = place or 0  # of the packet that came first
        self.nominal = self.have = self.hashes = 0
        self.xor = self.lengths = self.longest = 0
        self.repair: bytes | None = None
        self.repair_k = 0  # a flushed block's repair names fewer than its sources did

    def closed(self) -> int:
        """What is remembered afterwards, in one integer: place, indexes, 32-bit hashes."""
        return self.place | self.have << 32 | self.hashes << 48


class XorDecoder:
    """Turns the bodies of version 2 packets into payloads for the game.

    Memory: at most `WINDOW` blocks; an open one holds one running sum and one repair payload, a
    closed one a single integer.
    """

    __slots__ = (
        "_loose",
        "_newest",
        "_ring",
        "_stale_at",
        "_stale_run",
        "conflicts",
        "duplicates",
        "lies",
        "recovered",
        "repair",
        "source",
        "stale",
        "unrecoverable",
    )

    def __init__(self) -> None:
        self.source = 0
        self.repair = 0
        self.recovered = 0
        self.duplicates = 0  # same block, index and bytes as one delivered: dropped
        self.conflicts = 0  # packets that contradict what their block already holds
        self.stale = 0  # packets from behind the window
        self.lies = 0  # recoveries thrown away: length or padding was wrong
        self.unrecoverable = 0  # blocks given up with a repair and more than one missing
        self._newest = -1
        self._ring: list[_Open | int | None] = []  # by block modulo WINDOW; int: closed
        # (index, hash) of what was handed on, from all blocks that a jump can displace
        self._loose: deque[tuple[int, int]] = deque(maxlen=WINDOW * LARGEST_K)
        self._stale_run = 0
        self._stale_at = 0

    @property
    def open_blocks(self) -> int:
        """Blocks begun, neither complete nor given up."""
        return sum(type(entry) is _Open for entry in self._ring)

    @property
    def failures(self) -> int:
        """Blocks whose repair packet came and could not help (yet)."""
        waiting = sum(type(e) is _Open and e.repair is not None for e in self._ring)
        return self.unrecoverable + self.lies + waiting

    def receive(
        self, body: bytes, sequence: int | None = None, timestamp_us: int = 0
    ) -> list[bytes]:
        """What the game gets now: the packet itself, then what it helped to recover.

        `body` is the datagram from byte 20 on; `sequence` and `timestamp_us` are its header's:
        packets of one block lie close together in both, and one from far away is of another
        encoder's block of that id.
        Raises `WireError` "malformed" (FEC field cut short or K out of range, repair payload of
        impossible length) or "fec-index" (index above K), and changes nothing then.
        """
        if len(body) < FEC_BYTES:
            raise WireError("malformed")
        block, index, k = FIELD.unpack_from(body)
        if not 1 <= k <= LARGEST_K:
            raise WireError("malformed")
        payload = body[FEC_BYTES:]
        place = None if sequence is None else sequence | timestamp_us >> 16 << 16
        if index < k:
            return self._receive_source(block, index, k, payload, place)
        if index > k:
            raise WireError("fec-index")
        if not _LENGTH_BYTES <= len(payload) <= _LARGEST_KEPT + _LENGTH_BYTES:
            raise WireError("malformed")
        recovered = self._receive_repair(block, k, payload, place)
        return [] if recovered is None else [recovered]

    def _receive_source(
        self, block: int, index: int, k: int, payload: bytes, place: int | None
    ) -> list[bytes]:
        self.source += 1
        if not self._admit(block):
            self._loose.append((index, hash(payload) & 0xFFFFFFFF))
            return [payload]
        slot = block % WINDOW
        if self._is_foreign(slot, k, place):
            self._displace(slot)
        entry = self._ring[slot]
        digest = hash(payload) & 0xFFFFFFFF
        if entry is None:
            entry = self._ring[slot] = _Open(block, place)
        elif type(entry) is int:
            if not entry >> 32 >> index & 1:
                self._ring[slot] = entry | 1 << 32 + index | digest << 48 + 32 * index
            elif entry >> 48 + 32 * index & 0xFFFFFFFF == digest:
                self.duplicates += 1
                return []
            else:
                self.conflicts += 1
                self._loose.append((index, digest))
            return [payload]
        assert type(entry) is _Open

        bit = 1 << index
        if entry.have & bit:
            if entry.hashes >> 32 * index & 0xFFFFFFFF == digest:
                self.duplicates += 1
                return []
            self.conflicts += 1
            self._loose.append((index, digest))
            self._ring[slot] = entry.closed()
            return [payload]
        entry.have |= bit
        entry.hashes |= digest << 32 * index
        if not entry.nominal:
            entry.nominal = k
        elif k != entry.nominal:
            self.conflicts += 1
            if index < entry.nominal:  # in a place of this block, yet of another
                self._ring[slot] = entry.closed()
            return [payload]
        length = len(payload)
        if length > _LARGEST_KEPT:
            self._ring[slot] = entry.closed()
            return [payload]
        entry.xor ^= int.from_bytes(payload, "little")
        entry.lengths ^= length
        if length > entry.longest:
            entry.longest = length

        if entry.repair is None:
            full = (1 << k) - 1
            if entry.have & full == full:
                self._ring[slot] = entry.closed()
            return [payload]
        recovered = self._settle(entry)
        return [payload] if recovered is None else [payload, recovered]

    def _receive_repair(
        self, block: int, k: int, payload: bytes, place: int | None
    ) -> bytes | None:
        self.repair += 1
        if not self._admit(block):
            return None
        slot = block % WINDOW
        entry = self._ring[slot]
        if type(entry) is int or self._is_foreign(slot, k, place):
            return None
        if entry is None:
            entry = self._ring[slot] = _Open(block, place)
        assert type(entry) is _Open
        if entry.repair is None:
            entry.repair = payload
            entry.repair_k = k
            return self._settle(entry)
        if entry.repair == payload and entry.repair_k == k:
            self.duplicates += 1
        else:
            self.conflicts += 1
            self._ring[slot] = entry.closed()
        return None

    def _is_foreign(self, slot: int, k: int, place: int | None) -> bool:
        """Whether this packet's slot holds another encoder's block, or an old one's."""
        entry = self._ring[slot]
        if entry is None or place is None:
            return False
        known = entry & 0xFFFFFFFF if isinstance(entry, int) else entry.place
        numbers = abs(distance(known & 0xFFFF, place & 0xFFFF))
        if numbers <= SPREAD * k + WINDOW // 4 and abs(distance(known >> 16, place >> 16)) <= TICKS:
            return False
        self.conflicts += 1
        return True

    def _displace(self, slot: int) -> None:
        """Make room for another block, but remember what this one has handed on."""
        entry = self._ring[slot]
        self._ring[slot] = None
        if entry is not None:
            known = entry if isinstance(entry, int) else entry.closed()
            self._loose.extend(
                (index, known >> 48 + 32 * index & 0xFFFFFFFF)
                for index in range(LARGEST_K)
                if known >> 32 + index & 1
            )

    def _settle(self, entry: _Open) -> bytes | None:
        """Close a block that has its repair, if that is possible now; what it recovered."""
        k = entry.repair_k
        full = (1 << k) - 1
        slot = entry.block % WINDOW
        covered = (1 << entry.nominal) - 1
        if entry.nominal and (k > entry.nominal or entry.have & covered & ~full):
            self.conflicts += 1  # this repair is not of these source packets
            self._ring[slot] = entry.closed()
            return None
        missing = full & ~entry.have
        if missing & (missing - 1):
            return None
        payload = None
        if missing:
            payload = _recover(entry)
            index = missing.bit_length() - 1
            if payload is None:
                self.lies += 1
            elif (index, hash(payload) & 0xFFFFFFFF) in self._loose:
                self.duplicates += 1  # it came while its block had no place here
                payload = None
            else:
                self.recovered += 1
                entry.have |= missing
                entry.hashes |= (hash(payload) & 0xFFFFFFFF) << 32 * index
        self._ring[slot] = entry.closed()
        return payload

    def _admit(self, block: int) -> bool:
        """Move the window where `block` is news; False when it lies behind the window."""
        newest = self._newest
        if block != newest:
            if newest < 0:
                self._ring = [None] * WINDOW
                self._newest = block
                return True
            ahead = distance(newest, block)
            if ahead > 0:
                self._leave(min(ahead, WINDOW))
                self._newest = block
            elif ahead <= -WINDOW:
                if not self._began_afresh(block):
                    self.stale += 1
                    return False
                self._leave(WINDOW)
                self._newest = block
        self._stale_run = 0
        return True

    def _leave(self, count: int) -> None:
        """Empty the places of the next `count` blocks, the oldest first."""
        for block in range(self._newest + 1, self._newest + 1 + count):
            entry = self._ring[block % WINDOW]
            if type(entry) is _Open and entry.repair is not None:
                self.unrecoverable += 1
            if count > SPREAD:  # a jump: these may be too young to be forgotten
                self._displace(block % WINDOW)
            else:
                self._ring[block % WINDOW] = None

    def _began_afresh(self, block: int) -> bool:
        """Whether this stale packet ends a run of `RESTART` that count upwards."""
        step = (block - self._stale_at) & 0xFFFF
        self._stale_run = self._stale_run + 1 if step < WINDOW else 1
        self._stale_at = block
        return self._stale_run >= RESTART


def _recover(entry: _Open) -> bytes | None:
    """The one missing payload; None when the symbol cannot be the sum of these packets."""
    assert entry.repair is not None
    symbol = entry.repair[:-_LENGTH_BYTES]
    length = entry.lengths ^ int.from_bytes(entry.repair[-_LENGTH_BYTES:], "big")
    if max(length, entry.longest) != len(symbol):
        return None  # a symbol is exactly as long as the longest packet it covers
    value = entry.xor ^ int.from_bytes(symbol, "little")
    if value.bit_length() > 8 * length:
        return None
    return value.to_bytes(length, "little")
