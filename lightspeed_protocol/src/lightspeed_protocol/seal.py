"""The sealed header of versions 8 and 9: readable on the wire, but nobody else can write it.

     0      1       2-3       4-7       8-19 (v9: 8-43)   then 4      then 4     then 8
    ┌──────┬───────┬─────────┬─────────┬────────────────┬───────────┬──────────┬───────┐
    │ver|fl│ path  │ number  │timestamp│ addresses      │ FEC field │ session  │ tag   │
    │ 4|4  │ id    │ low 16  │ us      │ and ports      │           │ id       │       │
    └──────┴───────┴─────────┴─────────┴────────────────┴───────────┴──────────┴───────┘

The tag covers the upper 32 bits of the packet number, the header before it and the payload.
`Sealer` numbers and seals one direction of one session, `Opener` checks the other, `SealedEnd`
is both, with the session's keys. A packet that fails changes nothing.
Source: PROTOCOL.md, "Sealed header"; number inference as RFC 3711 §3.3.1, replay window as
RFC 4303 §3.4.3, BLAKE2s RFC 7693, roaming as WireGuard.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import blake2s
from hmac import compare_digest
from typing import Final, Self

import attrs

from .errors import WireError
from .header import NO_ADDRESSES, PREFIX

VERSION_SEALED: Final = 8  # IPv4 inside
VERSION_SEALED6: Final = 9  # IPv6 inside

REPAIR: Final = 8  # the flag that v1 and v2 reserve

SEALED_BYTES: Final = 36
SEALED6_BYTES: Final = 60
TAG_BYTES: Final = 8
KEY_BYTES: Final = 16  # of a session key

# What the packet loops use directly: where a version 8 packet has its parts.
FEC_FIELD: Final = slice(20, 24)
SESSION: Final = slice(24, 28)
ADDRESSES6: Final = slice(8, 44)
FEC_FIELD6: Final = slice(44, 48)
SESSION6: Final = slice(48, 52)

WINDOW: Final = 1024  # packet numbers remembered
PREVIOUS_S: Final = 30.0  # for which a replaced key is still good
NO_FEC: Final = bytes(4)
ROUND_TRIP_S: Final = 0.1  # until one has been measured

_ID: Final = struct.Struct("!I")
_SEEN_ALL: Final = (1 << WINDOW) - 1
_WRAP: Final = 0x10000
_LAST: Final = (1 << 48) - 1


def direction_keys(session_key: bytes, session_id: int) -> tuple[bytes, bytes]:
    """The keys of the two directions, 32 bytes each: client to node, node to client."""
    if len(session_key) != KEY_BYTES:
        raise ValueError(f"a session key has {KEY_BYTES} bytes, got {len(session_key)}")
    number = _ID.pack(session_id)
    up, down = (
        blake2s(number, digest_size=32, key=session_key, person=way).digest()
        for way in (b"LS up", b"LS down")
    )
    return up, down


def header_bytes(datagram: bytes) -> int:
    """Length of this packet's header. Raises `WireError` "version" or "short"."""
    if not datagram:
        raise WireError("short", got=0, need=SEALED_BYTES)
    version = datagram[0] >> 4
    if version not in (VERSION_SEALED, VERSION_SEALED6):
        raise WireError("version", got=version)
    size = SEALED_BYTES if version == VERSION_SEALED else SEALED6_BYTES
    if len(datagram) < size:
        raise WireError("short", got=len(datagram), need=size)
    return size


class Sealer:
    """Numbers and seals what one end sends. `key` is a direction's, `session` its 4-byte id."""

    __slots__ = ("_keyed", "number", "path", "session")

    def __init__(self, key: bytes, session: bytes, *, path: int = 0) -> None:
        self.session = session
        self.path = path
        self.number = 0  # of the next packet, 48 bits
        self.use(key)

    def use(self, key: bytes) -> None:
        """Seal with another key from now on; the numbers go on."""
        self._keyed = blake2s(digest_size=TAG_BYTES, key=key)

    def seal(
        self, first: int, timestamp_us: int, addresses: bytes, fec_field: bytes, payload: bytes
    ) -> bytes:
        """One datagram. `first` is version and flags; 12 address bytes go with 8, 36 with 9."""
        number = self.number
        self.number = number + 1
        head = (
            PREFIX.pack(first, self.path, number & 0xFFFF, timestamp_us)
            + addresses
            + fec_field
            + self.session
        )
        tag = self._keyed.copy()
        tag.update((number >> 16).to_bytes(4, "big") + head + payload)
        return head + tag.digest() + payload

    def take_back(self, datagram: bytes) -> None:
        """The packet sealed last was not sent: the next one has its number, and none is missing."""
        if datagram[2] << 8 | datagram[3] == self.number - 1 & 0xFFFF:
            self.number -= 1


class Opener:
    """Checks what the peer sealed, each number once.

    It holds up to three keys, so that a change of keys loses no packet: the current one, the
    next (offered, not used by the peer yet), and for `PREVIOUS_S` the one before.
    `on_promote` is called when the peer has begun to use the next key.
    """

    __slots__ = (
        "_before_until",
        "_current",
        "_next",
        "_previous",
        "_seen",
        "duplicates",
        "highest",
        "lowest",
        "newest",
        "on_promote",
        "received",
    )

    def __init__(self, key: bytes) -> None:
        self._current = blake2s(digest_size=TAG_BYTES, key=key)
        self._next: blake2s | None = None
        self._previous: blake2s | None = None
        self._before_until = 0.0  # when the previous key ends
        self._seen = 0  # bit i: number (highest - i) came
        self.highest = -1  # authenticated packet number
        self.lowest = 0
        self.received = 0
        self.duplicates = 0  # authentic, but seen before or too old to tell
        self.newest = False  # whether the last packet opened was ahead of all others
        self.on_promote: Callable[[], object] = _nothing

    @property
    def expected(self) -> int:
        """Numbers the peer has used since the first that came."""
        return self.highest - self.lowest + 1 if self.highest >= 0 else 0

    @property
    def lost(self) -> int:
        """Numbers that have not come (yet)."""
        return self.expected - self.received

    @property
    def waits(self) -> bool:
        """Whether a key has been offered that the peer has not used yet."""
        return self._next is not None

    def offer(self, key: bytes, now: float) -> None:
        """Take packets under this key as well; the first of them makes it the current one.

        A key offered before and never seen in use counts as used: its successor proves that
        the peer knows it.
        """
        if self._next is not None:
            self._promote(now)
        self._next = blake2s(digest_size=TAG_BYTES, key=key)

    def open(self, datagram: bytes, size: int, now: float) -> int:
        """Check a packet whose header has `size` bytes; its packet number.

        Raises `WireError`: "forged", "replayed" (this number came before), "too-old" (behind
        the replay window), "future" (authentic, but over 32 767 numbers ahead).
        """
        highest = self.highest
        number = highest + ((datagram[2] << 8 | datagram[3]) - highest + 0x8000) % _WRAP - 0x8000
        if number < 0:
            number += _WRAP
        elif number > _LAST:
            raise WireError("future")
        covered = datagram[: size - TAG_BYTES] + datagram[size:]
        tag = datagram[size - TAG_BYTES : size]
        keyed = self._current.copy()
        keyed.update((number >> 16).to_bytes(4, "big") + covered)
        if not compare_digest(keyed.digest(), tag) and not self._other_key(
            number, covered, tag, now
        ):
            ahead = self._current.copy()
            ahead.update(((number >> 16) + 1 & 0xFFFFFFFF).to_bytes(4, "big") + covered)
            raise WireError("future" if compare_digest(ahead.digest(), tag) else "forged")
        ahead_by = number - highest
        if ahead_by == 1:
            self._seen = (self._seen << 1 | 1) & _SEEN_ALL
        elif ahead_by > 1:
            if highest < 0:
                self.lowest = number
            self._seen = (self._seen << ahead_by | 1) & _SEEN_ALL if ahead_by < WINDOW else 1
        else:
            self.newest = False
            if ahead_by <= -WINDOW:
                self.duplicates += 1
                raise WireError("too-old")
            bit = 1 << -ahead_by
            if self._seen & bit:
                self.duplicates += 1
                raise WireError("replayed")
            self._seen |= bit
            self.received += 1
            if number < self.lowest:
                self.lowest = number
            return number
        self.highest = number
        self.newest = True
        self.received += 1
        return number

    def _other_key(self, number: int, covered: bytes, tag: bytes, now: float) -> bool:
        upper = (number >> 16).to_bytes(4, "big")
        if self._next is not None:
            keyed = self._next.copy()
            keyed.update(upper + covered)
            if compare_digest(keyed.digest(), tag):
                self._promote(now)
                self.on_promote()
                return True
        if self._previous is not None:
            if now >= self._before_until:
                self._previous = None
                return False
            keyed = self._previous.copy()
            keyed.update(upper + covered)
            return compare_digest(keyed.digest(), tag)
        return False

    def _promote(self, now: float) -> None:
        if self._next is not None:
            self._previous, self._current, self._next = self._current, self._next, None
            self._before_until = now + PREVIOUS_S


def _nothing() -> None:
    pass


@attrs.frozen
class Opened:
    """One authentic packet, taken apart. `addresses` has 12 bytes, or 36 for IPv6."""

    flags: int
    number: int
    timestamp_us: int
    addresses: bytes
    fec_field: bytes
    payload: bytes
    newest: bool  # ahead of all that came before: its source address is the peer's


@attrs.define(eq=False)
class SealedEnd:
    """One end of a sealed session: its sealer, its opener, and the change of keys."""

    session_id: int
    sealer: Sealer
    opener: Opener
    _node: bool
    round_trip_s: float = ROUND_TRIP_S  # between the two ends, as far as it is known
    offered: bytes | None = None  # at a node: the session key the client has not used yet

    @classmethod
    def client(cls, session_id: int, session_key: bytes) -> Self:
        up, down = direction_keys(session_key, session_id)
        return cls(session_id, Sealer(up, _ID.pack(session_id)), Opener(down), False)

    @classmethod
    def node(cls, session_id: int, session_key: bytes) -> Self:
        up, down = direction_keys(session_key, session_id)
        end = cls(session_id, Sealer(down, _ID.pack(session_id)), Opener(up), True)
        end.opener.on_promote = end._used
        return end

    def control(
        self,
        flag: int,
        timestamp_us: int,
        payload: bytes = b"",
        addresses: bytes = NO_ADDRESSES,
    ) -> bytes:
        """A KEEPALIVE, HANDSHAKE or FIN."""
        version = VERSION_SEALED if len(addresses) == len(NO_ADDRESSES) else VERSION_SEALED6
        return self.sealer.seal(version << 4 | flag, timestamp_us, addresses, NO_FEC, payload)

    def open(self, datagram: bytes, now: float) -> Opened:
        """Check a packet and take it apart.

        Raises `WireError`: "short", "version", "session" (another session's) and those of
        `Opener.open`.
        """
        size = header_bytes(datagram)
        if datagram[size - 12 : size - TAG_BYTES] != self.sealer.session:
            raise WireError("session")
        number = self.opener.open(datagram, size, now)
        return Opened(
            datagram[0] & 15,
            number,
            int.from_bytes(datagram[4:8], "big"),
            datagram[8 : size - 16],
            datagram[size - 16 : size - 12],
            datagram[size:],
            self.opener.newest,
        )

    def rekey(self, session_key: bytes, now: float) -> bool:
        """Begin to change to another session key, without losing a packet.

        A client seals with it at once, because the node gave it and so knows it. A node only
        offers it and seals with it once the client does; False while an earlier one is unused.
        """
        up, down = direction_keys(session_key, self.session_id)
        if not self._node:
            self.sealer.use(up)
            self.opener.offer(down, now)
            return True
        if self.opener.waits:
            return False
        self.opener.offer(up, now)
        self.offered = session_key
        return True

    def _used(self) -> None:
        if self.offered is not None:
            self.sealer.use(direction_keys(self.offered, self.session_id)[1])
            self.offered = None
