"""The fast path: what happens to every packet of a flow after its first.

Look up, check, strip or wrap, forward, count, in batches. What it has no entry for it punts:
hands back to the slow path in `relay`, which decides and perhaps makes an entry.
On this path: no await, no log line, and nothing allocated that is not sent.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import attrs
from lightspeed_protocol.endpoint import INDEX, K
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.fec.window_plan import GF256
from lightspeed_protocol.header import (
    ADDRESSES,
    FRAGMENT,
    HEADER_BYTES,
    VERSION_FEC,
    VERSION_PLAIN,
    microseconds,
)
from lightspeed_protocol.runtime.udp import LARGEST_BYTES
from lightspeed_protocol.seal import (
    ADDRESSES6,
    REPAIR,
    SEALED6_BYTES,
    SEALED_BYTES,
    SESSION,
    SESSION6,
    VERSION_SEALED,
    VERSION_SEALED6,
)

from .abuse import DATAGRAM_OVERHEAD
from .config import Security
from .counters import Counters
from .rate_limit import BURST_S, REPAIR_BURST_S
from .repair_sender import RepairSender
from .sessions import Address, Flow, Session, Sessions
from .whereabouts import ask, follow, send_unproven

BATCH: Final = 64  # datagrams per wake-up, so one busy socket cannot starve the rest
FEW: Final = 4  # sockets ready at once that are still worth reading until empty

# The first byte of a data packet: version 1 or 2; the reserved FRAGMENT flag changes nothing.
PLAIN: Final = VERSION_PLAIN << 4
FEC: Final = VERSION_FEC << 4
DATA: Final = frozenset({PLAIN, PLAIN | FRAGMENT, FEC, FEC | FRAGMENT})
SEALED: Final = VERSION_SEALED << 4
SEALED6: Final = VERSION_SEALED6 << 4

LARGEST_ANSWER: Final = LARGEST_BYTES - 4  # leaves room for what a repair packet adds
NONE: Final[list[bytes]] = []
MOST_WRONG: Final = 8  # tokens from the port of a version 1 or 2 client, until it is asked again


class Punt(NamedTuple):
    """A packet for the slow path; one with a session has proved to be that session's."""

    datagram: bytes
    source: Address
    session: Session | None = None


class FlowTable(Protocol):
    """What the relay needs; this module's is the reference, a compiled one may replace it."""

    def drain_up(self, data: socket.socket, now: float) -> list[Punt]:
        """Take what has arrived from clients, up to `BATCH`; forward hits, return the rest."""

    def drain_down(self, ready: Sequence[int], now: float) -> None:
        """Take what game servers have answered on these descriptors and send it home."""


@attrs.define(eq=False)
class PythonFlowTable:
    """Works directly on `sessions`; `security` is replaced by a reload."""

    sessions: Sessions
    counters: Counters
    security: Security
    extras: RepairSender
    last_traffic: float = 0.0

    def drain_up(self, data: socket.socket, now: float) -> list[Punt]:
        recvfrom = data.recvfrom
        by_client = self.sessions.by_client
        counters = self.counters
        drops = counters.drops
        packets = total = 0
        punts: list[Punt] = []
        for _ in range(BATCH):
            try:
                datagram, source = recvfrom(LARGEST_BYTES + 1)
            except BlockingIOError:
                break
            except OSError:
                counters.icmp_errors += 1  # the answer to something sent to a client now gone
                continue
            size = len(datagram)
            if size and datagram[0] >= SEALED:
                if size > LARGEST_BYTES:
                    drops["oversized"] += 1
                elif (punt := self._take_sealed(data, datagram, source, now)) is not None:
                    punts.append(punt)
                continue
            session = by_client.get(source)
            if session is None or not HEADER_BYTES <= size <= LARGEST_BYTES:
                punts.append(Punt(datagram, source))
                continue
            if session.token >= 0 and (datagram[1] != session.token or session.wrong >= MOST_WRONG):
                punts.append(Punt(datagram, source))
                continue
            flow = session.latest
            if flow is None or flow.key != datagram[ADDRESSES]:
                flow = session.latest = session.flows.get(datagram[ADDRESSES])
            if flow is None:
                punts.append(Punt(datagram, source))
            elif datagram[0] != PLAIN or size == HEADER_BYTES:
                if datagram[0] in DATA:
                    self.carry_up(flow, datagram, now)
                else:
                    punts.append(Punt(datagram, source))
            elif (reason := session.up.admit(size, now)) is not None:
                drops[reason] += 1
            elif flow.window is None or not flow.window.accept(datagram[2] << 8 | datagram[3]):
                drops["duplicate"] += 1
            else:
                flow.last_up = session.last_heard = now
                session.packets_up += 1
                session.bytes_up += size + DATAGRAM_OVERHEAD
                try:
                    flow.sock.send(datagram[HEADER_BYTES:])
                except OSError:
                    drops["unsent"] += 1
                else:
                    packets += 1
                    total += size - HEADER_BYTES
        counters.batches += 1
        if packets:
            counters.packets_up += packets
            counters.bytes_up += total
            self.last_traffic = now
        return punts

    def carry_up(self, flow: Flow, datagram: bytes, now: float) -> None:
        """One data packet of a known flow to the game server, with what it recovers.

        What `drain_up` does for a version 1 packet in place, for every kind.
        """
        counters = self.counters
        drops = counters.drops
        session = flow.session
        reason = session.up.admit(len(datagram), now)
        if reason is not None:
            drops[reason] += 1
            return
        endpoint = flow.endpoint
        assert endpoint is not None
        try:
            payloads = endpoint.unwrap(datagram)
        except WireError as error:
            drops[error.reason] += 1
            return
        if datagram[0] >= FEC:
            if endpoint.encoder is None:
                endpoint.answer_with_fec(datagram[K])
            self._count_fec(datagram, len(payloads))
        self._deliver(flow, payloads, len(datagram), now)

    def _deliver(self, flow: Flow, payloads: list[bytes], size: int, now: float) -> None:
        """What one tunnel packet of `size` bytes held or recovered, to the game server."""
        counters, session = self.counters, flow.session
        flow.last_up = session.last_heard = self.last_traffic = now
        session.packets_up += 1
        session.bytes_up += size + DATAGRAM_OVERHEAD
        for payload in payloads:
            try:
                flow.sock.send(payload)
            except OSError:
                counters.drops["unsent"] += 1
            else:
                counters.packets_up += 1
                counters.bytes_up += len(payload)

    def _take_sealed(
        self, data: socket.socket, datagram: bytes, source: Address, now: float
    ) -> Punt | None:
        """One packet of version 8 or 9: prove it, then carry it or hand it to the slow path."""
        first = datagram[0]
        drops = self.counters.drops
        if first < SEALED6:
            size, id_at, key_at = SEALED_BYTES, SESSION, ADDRESSES
        elif first < SEALED6 + 16:
            size, id_at, key_at = SEALED6_BYTES, SESSION6, ADDRESSES6
        else:
            drops["version"] += 1
            return None
        if len(datagram) < size:
            drops["short"] += 1
            return None
        session = self.sessions.by_id.get(datagram[id_at])
        if session is None or session.end is None:
            drops["session"] += 1
            return None
        opener = session.end.opener
        try:
            opener.open(datagram, size, now)
        except WireError as error:
            drops[error.reason] += 1
            return None
        if datagram[1]:
            drops["path"] += 1
            return None
        if opener.newest and (session.client != source or session.data is not data):
            # The newest packet says where its sender is; an older one may be a late copy.
            follow(session, data, source, self.counters)
        if session.proof is not None and session.client == source:
            ask(session, len(datagram), now, self.counters)
        session.last_heard = now
        key = datagram[key_at]
        flow = session.latest
        if flow is None or flow.key != key:
            flow = session.latest = session.flows.get(key)
        if flow is None or first & ~REPAIR & 15:
            return Punt(datagram, source, session)
        # An FEC field of a source packet begins with 0.
        burst_s = REPAIR_BURST_S if datagram[size - 16] else BURST_S
        if (reason := session.up.admit(len(datagram), now, burst_s)) is not None:
            drops[reason] += 1
        else:
            self.carry_sealed(flow, datagram, now)
        return None

    def carry_sealed(self, flow: Flow, datagram: bytes, now: float) -> None:
        """An authentic and admitted packet of a known flow, and what it recovers."""
        sealed = flow.sealed
        assert sealed is not None
        size = sealed.header_bytes
        flags, field = datagram[0] & 15, datagram[size - 16 : size - 12]
        recovered = sealed.recovered
        try:
            payloads = sealed.take(flags, field, datagram[size:], now)
        except WireError as error:
            self.counters.drops[error.reason] += 1
            return
        if flags:
            counters = self.counters
            counters.fec_repair += 1
            counters.fec_bytes += len(datagram)
            counters.fec_recovered += sealed.recovered - recovered
            if flow.session.repair.down is None and not field[0] & GF256 << 4:
                sealed.protector.change(flow.session.repair.mirrored(field[1]))
        elif field[0]:
            self._heard_feedback(flow, len(datagram))
            self.extras.hasten(flow, sealed.next_deadline())
            return
        elif sealed.decoder is not None and sealed.decoder.repairs:
            self.counters.fec_source += 1
            self.counters.fec_recovered += sealed.recovered - recovered
        if sealed.log is not None:
            self.extras.hasten(flow, sealed.receiving_deadline())
        self._deliver(flow, payloads, len(datagram), now)

    def _heard_feedback(self, flow: Flow, size: int) -> None:
        """What a client says of our packets, or asks for again, keeps no conversation alive."""
        flow.session.packets_up += 1
        flow.session.bytes_up += size + DATAGRAM_OVERHEAD
        self.counters.fec_feedback += 1
        self.counters.fec_bytes += size

    def drain_down(self, ready: Sequence[int], now: float) -> None:
        by_descriptor = self.sessions.by_descriptor
        counters = self.counters
        drops = counters.drops
        grace, ratio = self.security.amplification_grace_bytes, self.security.max_amplification
        # One read each, and the next round comes back for more: trying each until it is empty
        # would cost a failed call for every packet when many flows have one.
        burst = BATCH if len(ready) <= FEW else 1
        timestamp_us = microseconds(now)
        packets = total = 0
        for descriptor in ready:
            flow = by_descriptor.get(descriptor)
            if flow is None:
                continue  # closed while this batch was on its way
            session, endpoint, sealed = flow.session, flow.endpoint, flow.sealed
            to, data = session.client, session.data
            if to is None or data is None:
                self._discard(flow)  # its client has registered from elsewhere and not spoken yet
                continue
            header = HEADER_BYTES if sealed is None else sealed.header_bytes
            recv = flow.sock.recv
            for _ in range(burst):
                try:
                    payload = recv(LARGEST_BYTES)
                except BlockingIOError:
                    break
                except OSError:
                    counters.icmp_errors += 1  # nobody listens at the game server's port
                    continue
                size = len(payload) + header
                if not header < size <= LARGEST_ANSWER:
                    drops["empty" if size == header else "oversized"] += 1
                    continue
                if (reason := session.down.admit(size, now)) is not None:
                    drops[reason] += 1
                    continue
                answered = session.bytes_down + size + DATAGRAM_OVERHEAD
                # `abuse.amplifies`, in place: this is once a packet
                if answered > grace + ratio * session.bytes_up:
                    drops["amplification"] += 1
                    continue
                session.bytes_down = answered
                if sealed is not None:
                    source, *repairs = sealed.wrap(payload, timestamp_us, now)
                    if sealed.protector.watched:
                        self.extras.hasten(flow, sealed.protector.next_deadline())
                else:
                    assert endpoint is not None
                    if endpoint.encoder is None:
                        source, repairs = endpoint.wrap_plain(payload, timestamp_us), NONE
                    else:
                        source, *repairs = endpoint.wrap(payload, timestamp_us)
                if session.proof is not None:
                    if send_unproven(session, source, counters):
                        packets += 1
                        session.packets_down += 1
                        total += len(source)
                    continue
                try:
                    data.sendto(source, to)
                except OSError:
                    drops["unsent"] += 1
                else:
                    packets += 1
                    session.packets_down += 1
                    total += len(source)
                for repair in repairs:
                    self.extras.send(session, repair, now)
        if packets:
            counters.packets_down += packets
            counters.bytes_down += total
            self.last_traffic = now

    def _discard(self, flow: Flow) -> None:
        """Read what has come for a client that is nowhere, or it would be ready for ever."""
        try:
            flow.sock.recv(LARGEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.counters.icmp_errors += 1
        else:
            self.counters.drops["unproven"] += 1

    def _count_fec(self, datagram: bytes, delivered: int) -> None:
        counters = self.counters
        if datagram[INDEX] < datagram[K]:
            counters.fec_source += 1
            counters.fec_recovered += delivered - 1
        else:
            counters.fec_repair += 1
            counters.fec_recovered += delivered
