"""One game's conversation through an open tunnel (header versions 1 and 2), sans-IO.

Game packets in, datagrams out, and the way back; what breaks the format is counted and dropped.
The shell in `open_tunnel` gives each flow its own tunnel socket, because a node tells version 1
and 2 sessions apart by nothing but the tunnel's source port.
Source: PROTOCOL.md, "Tunnel header" and "XOR repair".
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

import attrs
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.header import (
    FIN,
    HANDSHAKE,
    HEADER_BYTES,
    KEEPALIVE,
    VERSION_FEC,
    VERSION_PLAIN,
    Address,
    control_packet,
    microseconds,
)
from lightspeed_protocol.sequence import distance

from .flows import LARGEST_TUNNEL_BYTES, Tally

HANDSHAKE_S: Final = 5.0  # between answers to a HANDSHAKE on one flow
LARGEST_PAYLOAD_BYTES: Final = LARGEST_TUNNEL_BYTES - HEADER_BYTES


@attrs.define(eq=False)
class SourceCensus:
    """How many source packets the node has sent with FEC, seen from block ids and indexes.

    Sequence gaps cannot tell a lost source packet from a lost repair packet; this can.
    """

    _expected_before: int = 0
    _k: int = 0
    _block: int = 0  # newest, unwrapped
    _lowest: int = 0
    _highest: int = -1

    def note(self, block: int, index: int, k: int) -> None:
        """A packet of the block came. A repair packet (index k) vouches for all k sources."""
        ahead = distance(self._block & 0xFFFF, block)
        if k != self._k or not -64 <= ahead <= 64:  # new stream, or the peer began afresh
            self._expected_before = self.expected
            self._k, self._block = k, block
            self._lowest, self._highest = block * k + (index if index < k else 0), -1
            ahead = 0
        at = (self._block + ahead) * k + min(index, k - 1)
        self._block = max(self._block, self._block + ahead)
        self._highest = max(self._highest, at)
        self._lowest = min(self._lowest, at)

    @property
    def expected(self) -> int:
        return self._expected_before + max(0, self._highest - self._lowest + 1)


@attrs.define(eq=False)
class OpenFlow:
    """One local game socket's conversation with the game server."""

    game: Address
    endpoint: Endpoint
    last_game_at: float  # when the game last sent
    drops: Counter[str]  # shared by all flows: reason -> packets
    received: int = 0
    duplicates: int = 0
    plain_in: int = 0  # version 1 packets handed to the game
    repair_received: int = 0
    ended_by_node: bool = False  # a FIN came
    owed: bytes | None = None  # the answer to a HANDSHAKE, for the shell to send
    _handshake_at: float = -math.inf
    _census: SourceCensus = attrs.field(factory=SourceCensus)

    def from_game(self, payload: bytes, now: float, timestamp_us: int) -> tuple[bytes, ...]:
        """The datagrams to send to the node at once; none when the packet cannot be carried."""
        self.last_game_at = now
        if not payload:
            self.drops["empty-from-game"] += 1  # nodes refuse a packet without payload
            return ()
        if len(payload) > LARGEST_PAYLOAD_BYTES:
            self.drops["oversize-from-game"] += 1
            return ()
        return tuple(self.endpoint.wrap(payload, timestamp_us))

    def from_node(self, datagram: bytes, now: float) -> list[bytes]:
        """Payloads for the game. Keepalives, HANDSHAKE and FIN never are."""
        size = len(datagram)
        if size < HEADER_BYTES:
            self.drops["short"] += 1
            return []
        first = datagram[0]
        if first >> 4 not in (VERSION_PLAIN, VERSION_FEC):
            self.drops["version"] += 1
            return []
        if size > LARGEST_TUNNEL_BYTES:
            self.drops["oversize-from-node"] += 1
            return []
        flags = first & 15
        if flags:
            if flags & FIN:
                self.ended_by_node = True
            elif flags & HANDSHAKE:
                self._answer_handshake(datagram, now)
            elif not flags & KEEPALIVE:
                self.drops["flags"] += 1
            return []
        try:
            payloads = self.endpoint.unwrap(datagram)
        except WireError as exc:
            self.drops[exc.reason] += 1
            self.duplicates += exc.reason == "duplicate"
            return []
        if first >> 4 == VERSION_FEC:
            self._census.note(datagram[20] << 8 | datagram[21], datagram[22], datagram[23])
            self.repair_received += datagram[22] >= datagram[23]
        else:
            self.plain_in += len(payloads)
        self.received += len(payloads)
        return payloads

    def _answer_handshake(self, datagram: bytes, now: float) -> None:
        """Prove that we are at our address: same token, same sequence.

        Not more often than `HANDSHAKE_S`, or two ends that answer each other never stop.
        """
        if now - self._handshake_at < HANDSHAKE_S:
            return
        self._handshake_at = now
        sequence = datagram[2] << 8 | datagram[3]
        self.owed = control_packet(
            HANDSHAKE, token=datagram[1], sequence=sequence, timestamp_us=microseconds(now)
        )

    def tally(self) -> Tally:
        endpoint, decoder = self.endpoint, self.endpoint.decoder
        window = endpoint.window
        return Tally(
            sent=endpoint.sent_source,
            received=self.received,
            repair_sent=endpoint.sent_repair,
            repaired=0 if decoder is None else decoder.recovered,
            game_bytes_out=endpoint.payload_bytes_out,
            game_bytes_in=endpoint.payload_bytes_in,
            tunnel_bytes_out=endpoint.bytes_out,
            tunnel_bytes_in=endpoint.bytes_in,
            expected_down=window.expected,
            arrived_down=window.received,
            # unprotected packets in a protected stream: known only if they came
            wanted_down=window.expected
            if decoder is None
            else self._census.expected + self.plain_in,
            duplicates=self.duplicates,
            repair_received=self.repair_received,
        )
