"""The node's QUIC port: datagrams to connections by connection id, one timer for all of them.

A connection is known by its ids, never by its address, so a client whose NAT or network changes
keeps it. Datagrams are handled one at a time with a checkpoint after each that cost something:
a handshake's steps and the data plane's packets take turns.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable
from typing import Final

import attrs
import trio
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode

from ..cookie import RetryCookies
from ..deadlines import Deadlines
from .quic import ALPN, Application, QuicLink, ServerIdentity
from .quic_connection import NO_ALPN, ServerConnection, configuration
from .quic_door import Admitted, Door, QuicCounters, QuicLimits, destination
from .udp import Address, Port

__all__ = ["QuicCounters", "QuicLimits", "QuicServer"]

log = logging.getLogger(__name__)

CHEAP: Final = 8  # datagrams dropped or answered without a connection, then a checkpoint
TRACEBACK_S: Final = 60.0  # between two in the log; every failure is counted

_OVER_LIMITS: Final = (
    QuicErrorCode.FLOW_CONTROL_ERROR,
    QuicErrorCode.STREAM_LIMIT_ERROR,
    QuicErrorCode.CRYPTO_BUFFER_EXCEEDED,
)


def _nothing() -> None:
    """Where nobody else needs the processor."""


@attrs.define(eq=False)
class _Place:
    """What the server keeps for one connection besides the connection."""

    guest: Admitted
    give_up_at: float  # math.inf once established
    ids: set[bytes]


@attrs.define(eq=False)
class QuicServer:
    """Serves on `port`, which stays open after it. Several may follow each other on one port.

    `breathe` is called in the midst of handshakes, for what cannot wait for their end.
    """

    _port: Port
    _identity: ServerIdentity
    _make_app: Callable[[QuicLink], Application]
    alpns: tuple[str, ...] = attrs.field(default=(ALPN,), kw_only=True)
    counters: QuicCounters = attrs.field(factory=QuicCounters, kw_only=True)
    limits: QuicLimits = attrs.field(factory=QuicLimits, kw_only=True)
    breathe: Callable[[], object] = attrs.field(default=_nothing, kw_only=True)
    _random: Callable[[int], bytes] = attrs.field(default=secrets.token_bytes, kw_only=True)
    _door: Door = attrs.field(init=False)
    _configuration: QuicConfiguration = attrs.field(init=False)
    _links: dict[bytes, QuicLink] = attrs.field(factory=dict, init=False)  # by connection id
    _places: dict[QuicLink, _Place] = attrs.field(factory=dict, init=False)
    _deadlines: Deadlines[QuicLink] = attrs.field(factory=Deadlines, init=False)
    _timer: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _logged_at: float = attrs.field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        cookies = RetryCookies(self._random)
        self._door = Door(cookies, self._random, self.limits, self.counters)
        self.use_identity(self._identity)

    @property
    def connections(self) -> int:
        """Half-open ones included."""
        return self._door.connections

    @property
    def half_open(self) -> int:
        return self._door.half_open

    def use_identity(self, identity: ServerIdentity) -> None:
        """Show this certificate to those who connect from now on."""
        config = configuration(is_client=False)
        config.certificate = identity.certificate
        config.certificate_chain = list(identity.chain)
        config.private_key = identity.private_key
        self._configuration = config
        self._identity = identity

    def set_alpns(self, alpns: tuple[str, ...]) -> None:
        """Speak these, most wanted first, with those who connect from now on."""
        self.alpns = alpns

    def set_limits(self, limits: QuicLimits) -> None:
        self.limits = self._door.limits = limits

    async def run(
        self, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Never returns. When cancelled, every peer is told that its connection is over."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_timer)
                task_status.started(self._port.address)
                await self._receive()
        finally:
            for link in list(self._places):
                link.close(QuicErrorCode.NO_ERROR, "the node is stopping")

    def datagram(self, payload: bytes, source: Address, now: float) -> bool:
        """Take one datagram in. True if it went to a connection, which costs something."""
        link = self._links.get(destination(payload))
        if link is not None:
            self.counters.datagrams += 1
            link.receive(payload, source, now)
            return True
        verdict = self._door.knock(payload, source, now)
        if verdict is None:
            return False
        if isinstance(verdict, bytes):
            self.counters.unsent += not self._port.send(verdict, source)
            return False
        self._open(verdict, payload, source, now)
        return True

    # What a `QuicLink` asks of its owner.

    def established(self, link: QuicLink, alpn: str | None) -> Application | None:
        place = self._places[link]
        place.give_up_at = math.inf
        self._door.established(place.guest)
        self.counters.handshakes += 1
        return self._make_app(link)

    def connection_id(self, link: QuicLink, cid: bytes, *, live: bool) -> None:
        place = self._places[link]
        if live:
            self._links[cid] = link
            place.ids.add(cid)
        else:
            self._links.pop(cid, None)
            place.ids.discard(cid)

    def failed(self, link: QuicLink, error: Exception) -> None:
        self.counters.failed += 1
        now = trio.current_time()
        if now - self._logged_at >= TRACEBACK_S:
            self._logged_at = now
            log.warning("a QUIC connection failed and was closed", exc_info=error)

    def settled(self, link: QuicLink) -> None:
        place = self._places.get(link)
        if place is None:
            return
        if link.closed:
            self._forget(link)
            return
        self._deadlines.set(link, min(link.deadline, place.give_up_at))
        self._timer.deadline = self._deadlines.next_deadline()

    # Insides.

    def _open(self, guest: Admitted, payload: bytes, source: Address, now: float) -> None:
        connection = ServerConnection(
            configuration=self._configuration,
            alpns=self.alpns,
            streams=self.limits.streams,
            uni_streams=self.limits.uni_streams,
            odcid=guest.odcid,
            rscid=guest.rscid,
            breathe=self.breathe,
        )
        link = QuicLink(connection, self._port, self)
        self._places[link] = _Place(guest, now + self.limits.half_open_s, set())
        self.connection_id(link, guest.rscid, live=True)
        self.connection_id(link, connection.host_cid, live=True)
        link.receive(payload, source, now)
        if not connection.authentic and not link.closed:  # nothing in it was readable
            self._forget(link)

    def _forget(self, link: QuicLink) -> None:
        place = self._places.pop(link)
        for cid in place.ids:
            self._links.pop(cid, None)
        self._deadlines.drop(link)
        half_open = place.give_up_at < math.inf
        self._door.left(place.guest, half_open=half_open)
        counters = self.counters
        counters.unsent += link.unsent
        code = link.end[0] if link.end is not None else None
        if half_open:
            counters.handshakes_failed += 1
            counters.refused_alpn += code == NO_ALPN
        else:
            counters.closed += 1
            counters.over_limits += link.overfull or code in _OVER_LIMITS

    async def _receive(self) -> None:
        cheap = 0
        while True:
            for payload, source in await self._port.receive():
                if self.datagram(payload, source, trio.current_time()):
                    cheap = 0
                    await give_way()
                elif (cheap := cheap + 1) % CHEAP == 0:
                    await give_way()

    async def _run_timer(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._deadlines.next_deadline()) as self._timer:
                await trio.sleep_forever()
            for link in self._deadlines.due(trio.current_time()):
                self._fire(link, trio.current_time())
                await give_way()

    def _fire(self, link: QuicLink, now: float) -> None:
        place = self._places.get(link)
        if place is None:
            return  # closed while others had their turn
        if now >= place.give_up_at:
            self.counters.half_open_expired += 1
            self._forget(link)
        else:
            link.fire(now)


async def give_way() -> None:
    """Everything that has arrived at other sockets is seen to before this returns.

    One checkpoint does not do that: trio looks at the sockets and then runs all who are ready in
    any order, whoever called it perhaps first, and its next turn may take milliseconds.
    """
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
