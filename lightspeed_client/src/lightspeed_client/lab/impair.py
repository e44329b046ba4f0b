"""A UDP relay between client and node that treats every packet as the weather says.

The client talks to the relay as if it were the node; the node sees one address for each of the
client's sockets. Lanes number the conversations, one for each player, in the order of their first
source packet, so that a second run with the same seed deals the same fates to the same players. A
sealed tunnel carries them all over one socket, so there they are told apart by what the header
names. The data port and the control port may share one link: two relays, the same `Link` objects.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Final, Literal

import attrs
import trio
from lightspeed_protocol.header import swap_addresses
from lightspeed_protocol.runtime.udp import Address, Datagram, UdpPort

from .packets import Kind, Packet, read_packet
from .weather import SLACK_S, Cause, Link, Weather

Direction = Literal["up", "down"]
Label = tuple[int, int]  # (player, number): what a game packet is called

MAX_CLIENTS: Final = 256
MAX_WAITING: Final = 20_000  # datagrams in the air: a second of 10 000 packets/s, twice
MAX_LOG: Final = 4_000_000  # fates kept: an hour of eight players at 64/s each way


@attrs.define(eq=False)
class Fate:
    """What happened to one packet. `label` is the game's own name for it, where there is one.

    Times are the relay's clock, seconds.
    """

    direction: Direction
    lane: int
    kind: Kind
    index: int  # of this direction, lane and kind, from 0
    label: Label | None
    came_at: float  # to the relay
    lost: bool
    cause: Cause | None = None  # of the loss
    released_at: float | None = None  # when its first copy really left the relay


@attrs.define(eq=False)
class Counts:
    """One direction, datagrams and their bytes (UDP payloads)."""

    received: dict[Kind, int] = attrs.field(factory=lambda: dict.fromkeys(Kind, 0))
    lost: dict[Kind, int] = attrs.field(factory=lambda: dict.fromkeys(Kind, 0))
    bytes: dict[Kind, int] = attrs.field(factory=lambda: dict.fromkeys(Kind, 0))
    payload_bytes: int = 0  # the game's, inside source packets
    released: int = 0  # copies handed on
    unsent: int = 0  # copies the kernel would not take
    overflow: int = 0  # copies that found no room among those in the air


@attrs.frozen(eq=False)
class Links:
    """Both directions of the way between a client and its node."""

    up: Link
    down: Link

    @classmethod
    def make(cls, up: Weather, down: Weather, seed: int | str) -> Links:
        """Before `begin`: losses and delays, but no burst and no blackhole yet."""
        return cls(Link(up, f"{seed}/up", math.inf), Link(down, f"{seed}/down", math.inf))

    def begin(self, now: float) -> None:
        """Bursts and blackholes count from here."""
        self.up.began = self.down.began = now


@attrs.define(eq=False)
class _Client:
    address: Address
    upstream: UdpPort
    lane: int | None = None  # of what is no control packet, where it is one conversation
    control_lane: int | None = None


@attrs.define(eq=False)
class ImpairedRelay:
    """Made by `open_relay`. `front` is where the client must think the node is."""

    front: UdpPort
    node: Address
    links: Links
    _nursery: trio.Nursery
    _stack: ExitStack
    _clock: Callable[[], float]
    _read: Callable[[bytes], Packet]
    _label_of: Callable[[bytes], Label | None]
    counts: dict[Direction, Counts] = attrs.field(
        factory=lambda: {"up": Counts(), "down": Counts()}
    )
    log: list[Fate] = attrs.field(factory=list)
    refused: int = 0  # datagrams of clients beyond `MAX_CLIENTS`
    strangers: int = 0  # datagrams towards a client that did not come from the node
    _clients: dict[Address, _Client] = attrs.field(factory=dict)
    _conversations: dict[bytes, int] = attrs.field(factory=dict)  # as the client names it -> lane
    _index: dict[tuple[Direction, Kind, int], int] = attrs.field(factory=dict)
    _lanes: int = 0
    _control_lanes: int = 0
    _air: list[tuple[float, int, bytes, UdpPort, Address, Fate, Counts]] = attrs.field(factory=list)
    _tie: itertools.count[int] = attrs.field(factory=itertools.count)
    _timer: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def waiting(self) -> int:
        """Datagrams in the air."""
        return len(self._air)

    async def run_up(self) -> None:
        """Client to node."""
        while True:
            batch = await self.front.receive()
            now = self._clock()
            for datagram, source in batch:
                client = self._clients.get(source) or self._admit(source)
                if client is not None:
                    self._take("up", client, datagram, client.upstream, self.node, now)
            self._set_timer()

    async def run_down(self, client: _Client) -> None:
        """Node to one client."""
        while True:
            batch: list[Datagram] = await client.upstream.receive()
            now = self._clock()
            for datagram, source in batch:
                if source == self.node:
                    self._take("down", client, datagram, self.front, client.address, now)
                else:
                    self.strangers += 1
            self._set_timer()

    async def run_timer(self) -> None:
        """Lets go of what is due; one task for everything in the air."""
        while True:
            self._timer = trio.CancelScope()
            self._set_timer()
            with self._timer:
                await trio.sleep_forever()
            self._release_due(self._clock())

    def _admit(self, source: Address) -> _Client | None:
        if len(self._clients) >= MAX_CLIENTS:
            self.refused += 1
            return None
        try:
            upstream = self._stack.enter_context(UdpPort.bind(("127.0.0.1", 0)))
        except OSError:  # out of file descriptors: no room either
            self.refused += 1
            return None
        client = self._clients[source] = _Client(source, upstream)
        self._nursery.start_soon(self.run_down, client)
        return client

    def _take(
        self,
        direction: Direction,
        client: _Client,
        datagram: bytes,
        port: UdpPort,
        to: Address,
        now: float,
    ) -> None:
        kind, conversation, payload = self._read(datagram)
        if direction == "down" and conversation:
            conversation = swap_addresses(conversation)
        lane = self._lane(client, kind, conversation)
        index = self._index.get((direction, kind, lane), 0)
        self._index[direction, kind, lane] = index + 1
        link = self.links.up if direction == "up" else self.links.down
        counts = self.counts[direction]
        counts.received[kind] += 1
        counts.bytes[kind] += len(datagram)
        arrivals = link.pass_through(kind, len(datagram), now, lane)
        label = None
        if kind is Kind.SOURCE:
            counts.payload_bytes += len(payload)
            label = self._label_of(payload)
        fate = Fate(direction, lane, kind, index, label, now, not arrivals, link.cause)
        if len(self.log) < MAX_LOG:
            self.log.append(fate)
        if not arrivals:
            counts.lost[kind] += 1
        for due in arrivals:
            if due <= now:
                self._release(datagram, port, to, fate, counts, now)
            elif len(self._air) >= MAX_WAITING:
                counts.overflow += 1
            else:
                heapq.heappush(self._air, (due, next(self._tie), datagram, port, to, fate, counts))

    def _lane(self, client: _Client, kind: Kind, conversation: bytes) -> int:
        if kind is Kind.CONTROL or kind is Kind.QUIC:
            if client.control_lane is None:
                client.control_lane = self._control_lanes
                self._control_lanes += 1
            return client.control_lane
        known = self._conversations.get(conversation) if conversation else client.lane
        if known is not None:
            return known
        lane = self._lanes
        self._lanes += 1
        if conversation:
            self._conversations[conversation] = lane
        else:
            client.lane = lane
        return lane

    def _release(
        self, datagram: bytes, port: UdpPort, to: Address, fate: Fate, counts: Counts, now: float
    ) -> None:
        if fate.released_at is None:
            fate.released_at = now
        if port.send(datagram, to):
            counts.released += 1
        else:
            counts.unsent += 1

    def _release_due(self, now: float) -> None:
        while self._air and self._air[0][0] <= now:
            _, _, datagram, port, to, fate, counts = heapq.heappop(self._air)
            self._release(datagram, port, to, fate, counts, now)

    def _set_timer(self) -> None:
        if self._air:
            wait_s = self._air[0][0] - self._clock() + SLACK_S
            self._timer.deadline = trio.current_time() + wait_s


@asynccontextmanager
async def open_relay(
    front: UdpPort,
    node: Address,
    links: Links,
    *,
    read: Callable[[bytes], Packet] = read_packet,
    label_of: Callable[[bytes], Label | None] = lambda _payload: None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[ImpairedRelay]:
    """A relay in front of `node` for the body's time. `front` stays the caller's."""
    with ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            relay = ImpairedRelay(front, node, links, nursery, stack, clock, read, label_of)
            nursery.start_soon(relay.run_up)
            nursery.start_soon(relay.run_timer)
            yield relay
            nursery.cancel_scope.cancel("relay closed")
