"""What a node does with a datagram of no connection it knows: answer, admit or drop it.

Nothing is kept for an address, and it gets no more bytes than it sent, until it has shown a Retry
cookie, which opens one connection. From then on it costs a handshake, so those are paced and what
is half-open is bounded, both for the node and for each host: else a single machine could keep
everybody out.
Source: RFC 8999 (what all versions of QUIC share), RFC 9000 §5.2.2, §6, §8.1, §14.1.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs
from aioquic._buffer import Buffer
from aioquic.quic.packet import (
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)

from ..cookie import RetryCookies
from .quic_connection import ID_BYTES, VERSIONS
from .udp import Address

SMALLEST_BYTES: Final = 1200  # of a datagram that opens a connection
MOST_HOSTS: Final = 8192  # whose pace is remembered; the one not seen for longest goes first
SHORTEST_FIRST_ID: Final = 8  # of what a client calls us before we have answered

DROPS: Final = (
    "malformed",  # no QUIC
    "short",  # too short a datagram to be answered
    "version",  # a version we do not speak, in a datagram too short to be told
    "unknown",  # of a connection we do not have
    "spent",  # its cookie has opened a connection before
    "paced",  # more handshakes a second than the node does, here or with this host
    "half-open",  # too many handshakes under way, here or with this host
    "full",  # too many connections, here or with this host
)


@attrs.frozen(kw_only=True)
class QuicLimits:
    handshakes_per_s: float = 100.0  # one costs 2 to 3 ms of CPU (2-core virtual machine)
    handshakes_per_s_per_host: float = 50.0
    handshakes_burst_per_host: int = 64
    half_open: int = 96
    half_open_per_host: int = 32
    half_open_s: float = 5.0
    connections: int = 4096
    connections_per_host: int = 1024  # players behind one address of their provider's
    streams: int = 16  # that a client has open at a time
    uni_streams: int = 8  # HTTP/3 takes three


@attrs.define(eq=False)
class QuicCounters:
    """One server's totals since it started. Every datagram that came is in one of the first."""

    datagrams: int = 0  # handed to the connection they are of
    admitted: int = 0  # with a good cookie: opened a connection
    retries_sent: int = 0
    version_negotiations: int = 0
    dropped: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(DROPS, 0))
    unproven_bytes_in: int = 0  # in datagrams of addresses that had proved nothing
    unproven_bytes_out: int = 0  # in answers to them
    cookies_refused: int = 0  # forged, too old, of another address or connection
    handshakes: int = 0  # completed
    half_open_expired: int = 0
    handshakes_failed: int = 0
    refused_alpn: int = 0  # of those: offered only protocols we do not speak
    closed: int = 0  # connections that had been established
    over_limits: int = 0  # of those: the peer exceeded what it may send or have kept for it
    failed: int = 0  # connections ended by an error of ours or aioquic's
    unsent: int = 0  # datagrams the kernel would not take


@attrs.frozen
class Admitted:
    odcid: bytes
    rscid: bytes
    host: str


@attrs.define(eq=False)
class Guests:
    """How many connections one host has."""

    half_open: int = 0
    connections: int = 0  # half-open ones included


@attrs.define(eq=False)
class Door:
    """Core: no socket, no clock. Whoever gets an `Admitted` says `left` once for it."""

    _cookies: RetryCookies
    _random: Callable[[int], bytes]
    limits: QuicLimits
    counters: QuicCounters
    half_open: int = 0
    connections: int = 0
    _hosts: dict[str, Guests] = attrs.field(factory=dict)
    _allowance: float = 0.0
    _filled_at: float | None = None
    _rested_at: OrderedDict[str, float] = attrs.field(factory=OrderedDict)

    def knock(self, payload: bytes, source: Address, now: float) -> Admitted | bytes | None:
        """What to do with a datagram of no known connection: admit it, answer this, or nothing."""
        verdict = self._judge(payload, source, now)
        if isinstance(verdict, Admitted):
            return verdict
        counters = self.counters
        counters.unproven_bytes_in += len(payload)
        if isinstance(verdict, str):
            counters.dropped[verdict] += 1
            return None
        counters.unproven_bytes_out += len(verdict)
        return verdict

    def _judge(self, payload: bytes, source: Address, now: float) -> Admitted | bytes | str:
        """An answer only goes out for `SMALLEST_BYTES`, and is less than half of that."""
        header = long_header(payload)
        if header is None:
            is_short_header = len(payload) > ID_BYTES and payload[0] & 0xC0 == 0x40
            return "unknown" if is_short_header else "malformed"
        version, to, sender = header
        if version == 0:  # never answer a version negotiation: two nodes would play ping-pong
            return "malformed"
        if version not in VERSIONS:
            if len(payload) < SMALLEST_BYTES:
                return "version"
            self.counters.version_negotiations += 1
            return encode_quic_version_negotiation(to, sender, VERSIONS)
        try:
            first = pull_quic_header(Buffer(data=payload), host_cid_length=ID_BYTES)
        except ValueError:
            return "malformed"
        if first.packet_type is not QuicPacketType.INITIAL:
            return "unknown"
        if len(payload) < SMALLEST_BYTES:
            return "short"
        if len(to) < SHORTEST_FIRST_ID:
            return "malformed"
        proof = self._cookies.check(first.token, source, now) if first.token else None
        if proof is None or proof[1] != to:
            self.counters.cookies_refused += bool(first.token)
            self.counters.retries_sent += 1
            rscid = self._random(ID_BYTES)
            cookie = self._cookies.make(source, to, rscid, now)
            return encode_quic_retry(version, rscid, sender, to, cookie)
        if self._cookies.is_spent(to, now):
            return "spent"
        verdict = self._admit(Admitted(proof[0], proof[1], host_of(source)), now)
        if isinstance(verdict, Admitted):  # else the same packet may succeed a moment later
            self._cookies.spend(to, now)
        return verdict

    def established(self, guest: Admitted) -> None:
        """Its handshake is complete."""
        self.half_open -= 1
        self._hosts[guest.host].half_open -= 1

    def left(self, guest: Admitted, *, half_open: bool) -> None:
        host = self._hosts[guest.host]
        self.connections -= 1
        host.connections -= 1
        self.half_open -= half_open
        host.half_open -= half_open
        if host.connections == 0:
            del self._hosts[guest.host]

    def _admit(self, guest: Admitted, now: float) -> Admitted | str:
        limits = self.limits
        host = self._hosts.get(guest.host) or Guests()
        if (
            self.connections >= limits.connections
            or host.connections >= limits.connections_per_host
        ):
            return "full"
        if self.half_open >= limits.half_open or host.half_open >= limits.half_open_per_host:
            return "half-open"
        # A second's worth at most, and as much to begin with.
        rate = limits.handshakes_per_s
        gone = 1.0 if self._filled_at is None else now - self._filled_at
        self._allowance = min(max(rate, 1.0), self._allowance + gone * rate)
        self._filled_at = now
        if self._allowance < 1.0 or not self._pace(guest.host, now):
            return "paced"
        self._allowance -= 1.0
        self._hosts[guest.host] = host
        self.connections += 1
        host.connections += 1
        self.half_open += 1
        host.half_open += 1
        self.counters.admitted += 1
        return guest

    def _pace(self, host: str, now: float) -> bool:
        """Counts a handshake of this host. Kept: when its whole burst would be there again."""
        limits, kept = self.limits, self._rested_at
        while kept and next(iter(kept.values())) <= now:
            kept.popitem(last=False)
        each_s = 1 / limits.handshakes_per_s_per_host
        rested_at = max(kept.get(host, -math.inf), now) + each_s
        if rested_at > now + limits.handshakes_burst_per_host * each_s + 1e-9:
            return False
        if host not in kept and len(kept) >= MOST_HOSTS:
            kept.popitem(last=False)
        kept[host] = rested_at
        kept.move_to_end(host)
        return True


def destination(payload: bytes) -> bytes:
    """The connection id a datagram is for; empty where there is none to be had."""
    if not payload or payload[0] & 0x80 == 0:
        return payload[1 : 1 + ID_BYTES]
    return payload[6 : 6 + payload[5]] if len(payload) > 5 else b""


def long_header(payload: bytes) -> tuple[int, bytes, bytes] | None:
    """(version, destination id, source id), as every version of QUIC has them."""
    if len(payload) < 7 or payload[0] & 0x80 == 0:
        return None
    start = 7 + payload[5]  # of the source id, after its length
    if start > len(payload):
        return None
    end = start + payload[start - 1]
    if end > len(payload):
        return None
    return int.from_bytes(payload[1:5], "big"), payload[6 : start - 1], payload[start:end]


def host_of(source: Address) -> str:
    """What counts as one host: an IPv4 address, or the /64 that an IPv6 subscriber has."""
    address = ipaddress.ip_address(source[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64))
    return str(address)
