"""One end of one flow inside a sealed session: numbers game packets, adds and uses repair.

The session's `SealedEnd` seals and opens; this knows what a flow's packets mean. Nothing here
waits: a source packet leaves at once and is delivered at once, repair only adds. What has to leave
without a game packet (a report, a repair before silence) is for `poll`.
Source: PROTOCOL.md, "Sealed header"; FEC scheme (RFC 6363, 8680 terms) in `fec.window`.
"""

from __future__ import annotations

import math
from typing import Final, Self

import attrs

from .errors import WireError
from .fec.asking import Ask, Asking
from .fec.protection import UNPROTECTED, Protection
from .fec.protector import Protector
from .fec.report import ReceptionLog, Report, ReportSums
from .fec.window import WindowDecoder
from .header import NO_ADDRESSES, microseconds
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
MOST_OWED: Final = 256  # answers to asks that wait for `poll`: then no further ask is answered

_SOURCE: Final = b"\0\0"  # in front of the SSN
_REPORT: Final = 2  # kind of an FEC field, its top two bits; a repair has a flag as well
_ASK: Final = 3


@attrs.frozen
class Outcome:
    """What became of repair at this end since the flow began; two of them subtract."""

    late: int = 0  # packets rebuilt after the budget
    lost: int = 0  # packets that did not come in time by themselves
    unrepaired: int = 0  # of those, never rebuilt; at most this many, and it never shrinks
    wasted: int = 0  # repairs that told nothing new
    unrecoverable: int = 0  # repairs given up
    refused: int = 0  # repairs that the caps held back
    asked: int = 0  # packets asked for again, each time counted
    delayed: int = 0  # source packets not delivered the moment they came

    def __sub__(self, other: Outcome) -> Outcome:
        mine, its = attrs.astuple(self), attrs.astuple(other)
        return Outcome(*(a - b for a, b in zip(mine, its, strict=True)))


NO_OUTCOME: Final = Outcome()


def _from_start() -> WindowDecoder:
    return WindowDecoder(from_start=True)


@attrs.define(eq=False)
class SealedFlow:
    """`addresses` are bytes 8- of the headers this end sends: 12, or 36 for IPv6.

    Byte counts are UDP payloads: `bytes_out` whole datagrams, `payload_bytes_out` the game's.
    With a `log` the peer is told what comes of what it sends, with `asking` it is asked for what
    is missing.
    """

    end: SealedEnd
    addresses: bytes
    protector: Protector
    log: ReceptionLog | None = None
    asking: Asking | None = None
    decoder: WindowDecoder | None = attrs.field(factory=_from_start)  # None: none is needed
    sent_source: int = 0
    sent_repair: int = 0
    sent_feedback: int = 0  # reports and asks
    bytes_out: int = 0
    payload_bytes_out: int = 0
    bytes_in: int = 0
    payload_bytes_in: int = 0
    received: int = 0  # source packets that came or were recovered
    delayed: int = 0
    told: ReportSums = attrs.field(factory=ReportSums)  # to the peer: what came here
    heard: ReportSums = attrs.field(factory=ReportSums)  # from the peer: what came there
    header_bytes: int = attrs.field(init=False)
    _first: int = attrs.field(init=False)
    _owed: list[bytes] = attrs.field(factory=list)  # answers to asks
    _unrepaired: int = 0
    _asked_before: int = 0  # by those that asked before `asking`
    _expected_before: int = 0  # before the peer's last restart
    _lowest: int = 0  # SSN, unwrapped
    _highest: int = -1

    def __attrs_post_init__(self) -> None:
        self._first = (VERSION_SEALED if _is_short(self.addresses) else VERSION_SEALED6) << 4
        self.header_bytes = header_size(self.addresses)

    @classmethod
    def open(
        cls,
        end: SealedEnd,
        addresses: bytes,
        protection: Protection = UNPROTECTED,
        *,
        log: ReceptionLog | None = None,
        asking: bool = False,
    ) -> Self:
        """A new flow; with `asking` either end may ask the other again.

        It counts on from the session's packet number, so that a peer which still knows an earlier
        flow of these addresses takes none of its packets for old ones.
        """
        first_ssn = end.sealer.number & 0xFFFF
        protector = Protector(
            protection, header_size(addresses), first_ssn=first_ssn, asking=asking
        )
        flow = cls(end, addresses, protector)
        flow.listen(log, asking=asking)
        return flow

    def listen(self, log: ReceptionLog | None, *, asking: bool) -> None:
        """Tell the peer by this log what comes from now on."""
        self._asked_before = self.asked
        self.log = log
        self.asking = Asking(log.gaps) if log is not None and asking else None

    @property
    def expected(self) -> int:
        """Source packets the peer has sent, as far as can be known here."""
        return self._expected_before + self._highest - self._lowest + 1

    @property
    def recovered(self) -> int:
        return 0 if self.decoder is None else self.decoder.recovered

    @property
    def asked(self) -> int:
        """Packets asked for again, each time counted."""
        return self._asked_before + (0 if self.asking is None else self.asking.asked)

    def outcome(self) -> Outcome:
        """What the packet path does not count one by one."""
        told, decoder = self.told, self.decoder
        # One that was given up and is rebuilt after all makes up for the next that is not.
        self._unrepaired = max(self._unrepaired, told.lost - told.repaired)
        return Outcome(
            late=told.late,
            lost=told.lost,
            unrepaired=self._unrepaired,
            wasted=0 if decoder is None else decoder.wasted,
            unrecoverable=0 if decoder is None else decoder.unrecoverable,
            refused=self.protector.refused,
            asked=self.asked,
            delayed=self.delayed,
        )

    # -- sending -----------------------------------------------------------------------

    def wrap(self, payload: bytes, timestamp_us: int, now: float) -> tuple[bytes, ...]:
        """The datagrams to send now: the source packet, then perhaps repair packets."""
        fec_field, repairs = self.protector.protect(payload, now)
        source = self.end.sealer.seal(self._first, timestamp_us, self.addresses, fec_field, payload)
        self.sent_source += 1
        self.payload_bytes_out += len(payload)
        self.bytes_out += len(source)
        if not repairs:
            return (source,)
        return (source, *(self._repair(*repair, timestamp_us) for repair in repairs))

    def next_deadline(self) -> float:
        """When `poll` has something; infinity while it has not."""
        return min(self.protector.next_deadline(), self.receiving_deadline())

    def receiving_deadline(self) -> float:
        """The same, as far as packets from the peer move it."""
        log, asking = self.log, self.asking
        if self._owed:
            return -math.inf
        if log is None:
            return math.inf
        if asking is None or not log.gaps.missing:
            return log.next_deadline()
        asking.round_trip_s = self.end.round_trip_s
        return min(log.next_deadline(), asking.next_deadline())

    def poll(self, now: float) -> list[bytes]:
        """Datagrams that are due without a game packet."""
        datagrams, self._owed = self._owed, []
        repair = self.protector.poll(now)
        if repair is not None:
            datagrams.append(self._repair(*repair, microseconds(now)))
        report = None if self.log is None else self.log.poll(now)
        if report is not None:
            self.told.add(report)
            datagrams.append(self._feedback(*report.encode(), now))
        if self.asking is not None:
            self.asking.round_trip_s = self.end.round_trip_s
            if (ask := self.asking.poll(now)) is not None:
                datagrams.append(self._feedback(*ask.encode(), now))
        return datagrams

    def _repair(self, fec_field: bytes, body: bytes, timestamp_us: int) -> bytes:
        datagram = self.end.sealer.seal(
            self._first | REPAIR, timestamp_us, self.addresses, fec_field, body
        )
        self.sent_repair += 1
        self.bytes_out += len(datagram)
        return datagram

    def _feedback(self, fec_field: bytes, body: bytes, now: float) -> bytes:
        """A report or an ask."""
        self.protector.owe(body, now)
        datagram = self.end.sealer.seal(
            self._first, microseconds(now), self.addresses, fec_field, body
        )
        self.sent_feedback += 1
        self.bytes_out += len(datagram)
        return datagram

    # -- receiving ---------------------------------------------------------------------

    def receive(self, opened: Opened, now: float) -> list[bytes]:
        """The payloads to deliver now: the one that came, then what it helped to recover.

        Raises `WireError`: "empty", "duplicate" (recovered before), "fec-field".
        """
        return self.take(opened.flags, opened.fec_field, opened.payload, now)

    def take(self, flags: int, fec_field: bytes, payload: bytes, now: float) -> list[bytes]:
        """As `receive`, for a packet that is not one object."""
        if flags & REPAIR:
            delivered = self._take_repair(fec_field, payload, now)
        elif fec_field[:2] == _SOURCE:
            delivered = self._take_source(fec_field[2] << 8 | fec_field[3], payload, now)
        elif (kind := fec_field[0] >> 6) == _REPORT:
            report = Report.decode(fec_field, payload)
            self.heard.add(report)
            self.protector.report(report, now, self.end.round_trip_s)
            return []
        elif kind == _ASK:
            ask = Ask.decode(fec_field, payload)
            if len(self._owed) < MOST_OWED:
                repairs = self.protector.answer(ask, now)
                self._owed += [self._repair(*repair, microseconds(now)) for repair in repairs]
            return []
        else:
            raise WireError("fec-field")
        self.received += len(delivered)
        self.payload_bytes_in += sum(map(len, delivered))
        return delivered

    def _take_source(self, ssn: int, payload: bytes, now: float) -> list[bytes]:
        if not payload:
            raise WireError("empty")
        self._note(ssn)
        decoder, log = self.decoder, self.log
        if decoder is None:
            if log is not None:
                log.came(ssn, now)
            return [payload]
        delivered = decoder.source(ssn, payload)
        if not delivered:
            if log is not None:
                log.came_again(ssn, now)
            raise WireError("duplicate")
        if delivered[0] is not payload:
            self.delayed += 1
        if log is not None:
            log.came(ssn, now)
            if len(delivered) > 1:
                self._log_rebuilt(decoder, log, now)
        if not decoder.repairs and decoder.sources >= BARE and self.asking is None:
            self.decoder = None  # until the first repair packet
        return delivered

    def _take_repair(self, fec_field: bytes, body: bytes, now: float) -> list[bytes]:
        decoder = self.decoder
        if decoder is None:
            decoder = self.decoder = WindowDecoder()
        delivered = decoder.repair(fec_field, body)
        self._note(fec_field[2] << 8 | fec_field[3])
        if delivered and self.log is not None:
            self._log_rebuilt(decoder, self.log, now)
        return delivered

    def _log_rebuilt(self, decoder: WindowDecoder, log: ReceptionLog, now: float) -> None:
        for ssn in decoder.rebuilt:
            log.recovered(ssn & 0xFFFF, now)

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


def header_size(addresses: bytes) -> int:
    """Bytes of the header in front of packets of these addresses."""
    return SEALED_BYTES if _is_short(addresses) else SEALED6_BYTES


def _is_short(addresses: bytes) -> bool:
    return len(addresses) == len(NO_ADDRESSES)
