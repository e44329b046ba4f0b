"""The fast path: what happens to every packet of a flow after its first.

Look up, check, strip or wrap, forward, count, in batches. What it has no entry for it punts:
hands back to the slow path in `relay`, which decides and perhaps makes an entry.
On this path: no await, no log line, and nothing allocated that is not sent.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final, Protocol

import attrs
from lightspeed_protocol.endpoint import INDEX, K
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.header import (
    ADDRESSES,
    FRAGMENT,
    HEADER_BYTES,
    VERSION_FEC,
    VERSION_PLAIN,
    microseconds,
)
from lightspeed_protocol.runtime.udp import LARGEST_BYTES

from .abuse import DATAGRAM_OVERHEAD, amplifies
from .config import Security
from .counters import Counters
from .sessions import Flow, Session, Sessions

Address = tuple[str, int]
Punt = tuple[bytes, Address]

BATCH: Final = 64  # datagrams per wake-up, so one busy socket cannot starve the rest
FEW: Final = 4  # sockets ready at once that are still worth reading until empty
LARGEST_ANSWER: Final = LARGEST_BYTES - 4  # leaves room for the FEC field

# The first byte of a data packet: version 1 or 2; the reserved FRAGMENT flag changes nothing.
PLAIN: Final = VERSION_PLAIN << 4
FEC: Final = VERSION_FEC << 4
DATA: Final = frozenset({PLAIN, PLAIN | FRAGMENT, FEC, FEC | FRAGMENT})


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
            session = by_client.get(source)
            size = len(datagram)
            if session is None or size > LARGEST_BYTES:
                punts.append((datagram, source))
                continue
            flow = session.latest
            if flow is None or flow.key != datagram[ADDRESSES]:
                flow = session.latest = session.flows.get(datagram[ADDRESSES])
            if flow is None:
                punts.append((datagram, source))
            elif datagram[0] != PLAIN or size == HEADER_BYTES:
                if datagram[0] in DATA:
                    self.carry_up(flow, datagram, now)
                else:
                    punts.append((datagram, source))
            elif (reason := session.up.admit(size, now)) is not None:
                drops[reason] += 1
            elif not flow.window.accept(datagram[2] << 8 | datagram[3]):
                drops["duplicate"] += 1
            else:
                flow.last_up = now
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
        try:
            payloads = endpoint.unwrap(datagram)
        except WireError as error:
            drops[error.reason] += 1
            return
        if datagram[0] >= FEC:
            if endpoint.encoder is None:
                endpoint.answer_with_fec(datagram[K])
            self._count_fec(datagram, len(payloads))
        flow.last_up = self.last_traffic = now
        session.bytes_up += len(datagram) + DATAGRAM_OVERHEAD
        for payload in payloads:
            try:
                flow.sock.send(payload)
            except OSError:
                drops["unsent"] += 1
            else:
                counters.packets_up += 1
                counters.bytes_up += len(payload)

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
            session, endpoint = flow.session, flow.endpoint
            recv = flow.sock.recv
            for _ in range(burst):
                try:
                    payload = recv(LARGEST_BYTES)
                except BlockingIOError:
                    break
                except OSError:
                    counters.icmp_errors += 1  # nobody listens at the game server's port
                    continue
                size = len(payload) + HEADER_BYTES
                if not HEADER_BYTES < size <= LARGEST_ANSWER:
                    drops["empty" if size == HEADER_BYTES else "oversized"] += 1
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
                if endpoint.encoder is None:
                    repair = None
                    source = endpoint.wrap_plain(payload, timestamp_us)
                else:
                    source, *rest = endpoint.wrap(payload, timestamp_us)
                    repair = rest[0] if rest else None
                try:
                    session.data.sendto(source, session.client)
                except OSError:
                    drops["unsent"] += 1
                else:
                    packets += 1
                    total += len(source)
                if repair is not None:
                    self._send_repair(session, repair, now)
        if packets:
            counters.packets_down += packets
            counters.bytes_down += total
            self.last_traffic = now

    def _send_repair(self, session: Session, repair: bytes, now: float) -> None:
        """Within the same limits; they are the game packets' first, so nothing is lost here."""
        size = len(repair)
        answered = session.bytes_down + size + DATAGRAM_OVERHEAD
        if session.down.admit(size, now) is not None or amplifies(
            answered, session.bytes_up, self.security
        ):
            return
        session.bytes_down = answered
        try:
            session.data.sendto(repair, session.client)
        except OSError:
            self.counters.drops["unsent"] += 1
        else:
            self.counters.fec_repair_sent += 1
            self.counters.bytes_down += size

    def _count_fec(self, datagram: bytes, delivered: int) -> None:
        counters = self.counters
        if datagram[INDEX] < datagram[K]:
            counters.fec_source += 1
            counters.fec_recovered += delivered - 1
        else:
            counters.fec_repair += 1
            counters.fec_recovered += delivered
