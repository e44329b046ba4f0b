"""One end of one flow's tunnel: game payloads in, datagrams out, and the way back.

Composes the header, the sequence window and XOR loss repair for versions 1 and 2. The client
holds one for each game socket, the node one for each flow; both behave alike. Nothing here
waits: a source packet leaves at once and is delivered at once, repair only adds.
Source: PROTOCOL.md, "Tunnel header" and "XOR repair".
"""

from __future__ import annotations

from typing import Final

import attrs

from .errors import WireError
from .fec.xor import MAX_PAYLOAD, XorDecoder, XorEncoder
from .header import HEADER_BYTES, PREFIX, VERSION_FEC, VERSION_PLAIN
from .sequence import SequenceWindow

INDEX: Final = HEADER_BYTES + 2  # of the FEC field in a datagram
K: Final = HEADER_BYTES + 3
COPY_US: Final = 60_000_000  # the network brings a copy within a minute
_PLAIN_BYTE: Final = VERSION_PLAIN << 4
_FEC_BYTE: Final = VERSION_FEC << 4


@attrs.define(eq=False)
class Endpoint:
    """`key` is bytes 8-19 of the headers this end sends; `fec_k` None sends version 1.

    Byte counts are UDP payloads: `bytes_out` whole datagrams, `payload_bytes_out` the game's.
    """

    key: bytes
    token: int = 0
    encoder: XorEncoder | None = None
    window: SequenceWindow = attrs.field(factory=SequenceWindow)
    decoder: XorDecoder | None = None  # made when the peer first sends version 2
    sequence: int = 0  # of the next packet
    sent_source: int = 0
    sent_repair: int = 0
    bytes_out: int = 0
    payload_bytes_out: int = 0
    bytes_in: int = 0
    payload_bytes_in: int = 0
    newest_us: int = 0  # the timestamp of the newest packet, microseconds modulo 2^32

    @classmethod
    def open(
        cls, key: bytes, *, fec_k: int | None = None, token: int = 0, first: int = 0
    ) -> Endpoint:
        """An end that protects what it sends with XOR over `fec_k` packets, or not at all.

        `first` numbers the first packet and the first block. A node takes it at random: after
        a restart it must not look to its client like an echo of what it sent before.
        """
        encoder = None if fec_k is None else XorEncoder(fec_k, block=first)
        return cls(key, token, encoder, sequence=first)

    def wrap(self, payload: bytes, timestamp_us: int) -> tuple[bytes, ...]:
        """The datagrams to send now: the source packet, then perhaps a repair packet.

        A payload too large for the code goes out as version 1, unprotected but not lost.
        """
        encoder = self.encoder
        self.sent_source += 1
        self.payload_bytes_out += len(payload)
        if encoder is None or len(payload) > MAX_PAYLOAD:
            datagram = self.wrap_plain(payload, timestamp_us)
            self.bytes_out += len(datagram)
            return (datagram,)
        sequence = self.sequence
        fec_field, repair = encoder.protect(payload)
        source = (
            PREFIX.pack(_FEC_BYTE, self.token, sequence, timestamp_us)
            + self.key
            + fec_field
            + payload
        )
        self.bytes_out += len(source)
        if repair is None:
            self.sequence = (sequence + 1) & 0xFFFF
            return (source,)
        self.sequence = (sequence + 2) & 0xFFFF
        protection = (
            PREFIX.pack(_FEC_BYTE, self.token, (sequence + 1) & 0xFFFF, timestamp_us)
            + self.key
            + repair
        )
        self.sent_repair += 1
        self.bytes_out += len(protection)
        return source, protection

    def wrap_plain(self, payload: bytes, timestamp_us: int) -> bytes:
        """One version 1 datagram, and no counting: what `wrap` does without loss repair."""
        sequence = self.sequence
        self.sequence = (sequence + 1) & 0xFFFF
        return PREFIX.pack(_PLAIN_BYTE, self.token, sequence, timestamp_us) + self.key + payload

    def unwrap(self, datagram: bytes) -> list[bytes]:
        """The payloads to deliver now, the arrived one first, then what it helped to recover.

        For data packets of a whole header and version 1 or 2; flags are the caller's business.
        Raises `WireError`: "empty", "duplicate", "malformed", "fec-index".
        """
        fresh = self._is_news(datagram)
        self.bytes_in += len(datagram)
        if datagram[0] < _FEC_BYTE:
            payload = datagram[HEADER_BYTES:]
            if not payload:
                raise WireError("empty")
            if not fresh:
                raise WireError("duplicate")
            self.payload_bytes_in += len(payload)
            return [payload]
        decoder = self.decoder
        if decoder is None:
            decoder = self.decoder = XorDecoder()
        stale = decoder.stale
        sequence = datagram[2] << 8 | datagram[3]
        stamp = int.from_bytes(datagram[4:8], "big")
        delivered = decoder.receive(datagram[HEADER_BYTES:], sequence, stamp)
        if datagram[INDEX] < datagram[K]:
            # Not by the sequence alone: only the decoder knows what it has recovered, and the
            # original's repair packets need not have a number of their own.
            if not delivered or (not fresh and decoder.stale != stale):
                raise WireError("duplicate")
            if delivered == [b""]:
                raise WireError("empty")
        self.payload_bytes_in += sum(map(len, delivered))
        return [payload for payload in delivered if payload]

    def _is_news(self, datagram: bytes) -> bool:
        """Whether this is no copy of a packet that came before.

        A number seen before is not enough: a peer that was restarted counts afresh, and the
        original may count twice over in one session. A copy also has a timestamp of the recent
        past; anything else is news. A peer that writes no timestamps is judged by numbers.
        """
        stamp = int.from_bytes(datagram[4:8], "big")
        age_us = (self.newest_us - stamp) & 0xFFFFFFFF  # huge when newer
        accepted = self.window.accept(datagram[2] << 8 | datagram[3])
        if age_us < COPY_US:
            return accepted
        self.newest_us = stamp
        return True

    def answer_with_fec(self, k: int) -> None:
        """From now on protect what this end sends, as the peer does: XOR over `k` packets."""
        self.encoder = XorEncoder(k, block=self.sequence)
