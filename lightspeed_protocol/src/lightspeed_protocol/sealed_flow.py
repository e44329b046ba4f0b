"""One end of one flow inside a sealed session: numbers game packets, adds and uses repair.

The session's `SealedEnd` seals and opens; this knows what a flow's packets mean. Nothing here
waits: a source packet leaves at once and is delivered at once, repair only adds.
Source: PROTOCOL.md, "Sealed header"; FEC scheme (RFC 6363, 8680 terms) in `fec.window`.
"""

from __future__ import annotations

from typing import Final, Self

import attrs

from .errors import WireError
from .fec.window import Plan, WindowDecoder, WindowEncoder
from .header import NO_ADDRESSES
from .seal import (
    REPAIR,
    SEALED6_BYTES,
    SEALED_BYTES,
    VERSION_SEALED,
    VERSION_SEALED6,
    Opened,
    SealedEnd,
)
from .sequence import JUMP, distance

BARE: Final = 64  # source packets without a repair: then none is expected

_SOURCE: Final = 0  # kind of an FEC field, its top two bits


def _from_start() -> WindowDecoder:
    return WindowDecoder(from_start=True)


@attrs.define(eq=False)
class SealedFlow:
    """`addresses` are bytes 8- of the headers this end sends: 12, or 36 for IPv6.

    Byte counts are UDP payloads: `bytes_out` whole datagrams, `payload_bytes_out` the game's.
    """

    end: SealedEnd
    addresses: bytes
    encoder: WindowEncoder
    decoder: WindowDecoder | None = attrs.field(factory=_from_start)  # None: none is needed
    sent_source: int = 0
    sent_repair: int = 0
    bytes_out: int = 0
    payload_bytes_out: int = 0
    bytes_in: int = 0
    payload_bytes_in: int = 0
    received: int = 0  # source packets that came or were recovered
    header_bytes: int = attrs.field(init=False)
    _first: int = attrs.field(init=False)
    _expected_before: int = 0  # before the peer's last restart
    _lowest: int = 0  # SSN, unwrapped
    _highest: int = -1

    def __attrs_post_init__(self) -> None:
        short = len(self.addresses) == len(NO_ADDRESSES)
        self._first = (VERSION_SEALED if short else VERSION_SEALED6) << 4
        self.header_bytes = SEALED_BYTES if short else SEALED6_BYTES

    @classmethod
    def open(cls, end: SealedEnd, addresses: bytes, plan: Plan | None = None) -> Self:
        """A new flow. It counts on from the session's packet number, so that a peer which still
        knows an earlier flow of these addresses takes none of its packets for old ones.
        """
        return cls(end, addresses, WindowEncoder(plan, first_ssn=end.sealer.number & 0xFFFF))

    @property
    def expected(self) -> int:
        """Source packets the peer has sent, as far as can be known here."""
        return self._expected_before + self._highest - self._lowest + 1

    @property
    def recovered(self) -> int:
        return 0 if self.decoder is None else self.decoder.recovered

    def wrap(self, payload: bytes, timestamp_us: int) -> tuple[bytes, ...]:
        """The datagrams to send now: the source packet, then perhaps repair packets."""
        seal, first, addresses = self.end.sealer.seal, self._first, self.addresses
        fec_field, repairs = self.encoder.protect(payload)
        source = seal(first, timestamp_us, addresses, fec_field, payload)
        self.sent_source += 1
        self.payload_bytes_out += len(payload)
        self.bytes_out += len(source)
        if not repairs:
            return (source,)
        datagrams = [source]
        for fec_field, body in repairs:
            datagrams.append(seal(first | REPAIR, timestamp_us, addresses, fec_field, body))
            self.sent_repair += 1
            self.bytes_out += len(datagrams[-1])
        return tuple(datagrams)

    def receive(self, opened: Opened) -> list[bytes]:
        """The payloads to deliver now: the one that came, then what it helped to recover.

        Raises `WireError`: "empty", "duplicate" (recovered before), "fec-field".
        """
        return self.take(opened.flags, opened.fec_field, opened.payload)

    def take(self, flags: int, fec_field: bytes, payload: bytes) -> list[bytes]:
        """As `receive`, for a packet that is not one object."""
        decoder = self.decoder
        if flags & REPAIR:
            if decoder is None:
                decoder = self.decoder = WindowDecoder()
            delivered = decoder.repair(fec_field, payload)
            self._note(fec_field[2] << 8 | fec_field[3])
        else:
            if fec_field[0] >> 6 != _SOURCE:
                raise WireError("fec-field")
            if not payload:
                raise WireError("empty")
            ssn = fec_field[2] << 8 | fec_field[3]
            self._note(ssn)
            if decoder is None:
                delivered = [payload]
            else:
                delivered = decoder.source(ssn, payload)
                if not delivered:
                    raise WireError("duplicate")
                if not decoder.repairs and decoder.sources >= BARE:
                    self.decoder = None  # until the first repair packet
        self.received += len(delivered)
        self.payload_bytes_in += sum(map(len, delivered))
        return delivered

    def _note(self, ssn: int) -> None:
        """How far the peer has counted; a repair packet vouches for what it covers."""
        if self._highest < 0:
            self._lowest = self._highest = 0x10000 + ssn
            return
        ahead = distance(self._highest & 0xFFFF, ssn)
        if abs(ahead) >= JUMP:  # another flow of these addresses, or an outage
            self._expected_before = self.expected
            self._lowest = self._highest = 0x10000 + ssn
            return
        at = self._highest + ahead
        self._highest = max(self._highest, at)
        self._lowest = min(self._lowest, at)
