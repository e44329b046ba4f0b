"""One QUIC connection between aioquic and the socket: whoever touches it also sends what is due.

Every way in (a datagram, the timer, a call of the application's) is one turn: do it, hand over
what it brought, send, tell the owner. A turn never waits. What goes wrong in a turn ends this
connection and no other.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    HandshakeCompleted,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from aioquic.quic.packet import QuicErrorCode
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509 import Certificate

from .quic_connection import ALPN, BoundedConnection, spki_pin
from .udp import Address, Port

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicConnection

__all__ = ["ALPN", "Application", "LinkOwner", "QuicLink", "ServerIdentity"]

# Fired exactly on time, aioquic's loss timer can round to "not yet" and ask for the same instant
# again; a virtual clock stands still, so that would never end.
SLACK_S: Final = 1e-4

UNSENT_BYTES: Final = 1 << 18  # kept for a peer that does not acknowledge
REASON_CHARACTERS: Final = 200  # of a peer's words

_INTERNAL: Final = (int(QuicErrorCode.INTERNAL_ERROR), "internal error")


@attrs.frozen(eq=False)
class ServerIdentity:
    """What a node proves itself with. `chain` is what follows the certificate, if anything."""

    certificate: Certificate
    chain: list[Certificate]
    private_key: CertificateIssuerPrivateKeyTypes = attrs.field(repr=False)

    @property
    def spki_pin(self) -> bytes:
        return spki_pin(self.certificate)


class Application(Protocol):
    """What one connection speaks; made when its handshake is complete."""

    def handle(self, event: QuicEvent) -> None:
        """A chunk of a stream, its reset, or the peer's wish that we stop sending on it."""

    def closed(self, code: int, reason: str) -> None:
        """The connection is gone, by either side's will or none. Called exactly once."""


class LinkOwner(Protocol):
    """The server or client that a connection belongs to."""

    def established(self, link: QuicLink, alpn: str | None) -> Application | None: ...
    def connection_id(self, link: QuicLink, cid: bytes, *, live: bool) -> None: ...
    def failed(self, link: QuicLink, error: Exception) -> None: ...
    def settled(self, link: QuicLink) -> None:
        """A turn is over: the deadline may have moved, the connection may have ended."""


@attrs.define(eq=False)
class QuicLink:
    """One connection. Calls on a closed one do nothing."""

    _connection: BoundedConnection
    port: Port
    _owner: LinkOwner
    alpn: str | None = None
    end: tuple[int, str] | None = None  # how it ended: error code and words
    overfull: bool = False  # ended because the peer did not take what it asked for
    unsent: int = 0  # datagrams the kernel would not take
    _app: Application | None = None
    _established: bool = False
    _busy: bool = False
    _leaving: bool = False  # ended by us: what still comes is not of interest

    @property
    def quic(self) -> QuicConnection:
        """For aioquic's HTTP/3; whoever uses it calls `flush` afterwards."""
        return self._connection

    @property
    def address(self) -> Address:
        """Where the peer last proved to hear us; it may move.

        Not where its last datagram said to come from: anybody can write any source on one.
        """
        return self._connection.proven_address or ("", 0)

    def peer_pin(self) -> bytes | None:
        """The pin of the key the peer has shown, if it has."""
        return self._connection.peer_pin()

    @property
    def established(self) -> bool:
        """The handshake was completed and the owner content with it."""
        return self._established

    @property
    def closed(self) -> bool:
        return self.end is not None

    @property
    def deadline(self) -> float:
        at = math.inf if self.closed else self._connection.get_timer()
        return math.inf if at is None else at + SLACK_S

    def open_stream(self, *, unidirectional: bool = False) -> int:
        stream = self._connection.get_next_available_stream_id(unidirectional)
        if not self.closed:
            self._connection.send_stream_data(stream, b"")  # takes the number
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send on one stream. Does nothing where the peer no longer wants it."""
        if self.closed or self._leaving or not self._connection.can_send(stream):
            return
        self._connection.send_stream_data(stream, data, end)
        self.flush()

    def reset(self, stream: int, code: int = 0) -> None:
        """Give a stream up in both directions."""
        if self.closed or self._leaving:
            return
        if self._connection.can_stop(stream):
            self._connection.stop_stream(stream, code)
        if self._connection.can_send(stream) and self._connection._stream_can_send(stream):
            self._connection.reset_stream(stream, code)
        self.flush()

    def stop_reading(self, stream: int, code: int = 0) -> None:
        """Ask the peer to send no more on a stream."""
        if not self.closed and self._connection.can_stop(stream):
            self._connection.stop_stream(stream, code)
            self.flush()

    def ping(self) -> None:
        """Have the peer acknowledge something: keeps the connection and its NAT entry alive."""
        self._turn(partial(self._connection.send_ping, 0))

    def close(self, code: int = 0, reason: str = "") -> None:
        """End the connection and tell the peer; then the application hears `closed`.

        Called by the application itself in a turn: when that turn ends, else before this returns.
        """
        self._turn(partial(self._leave, code, reason))

    def receive(self, payload: bytes, source: Address, now: float) -> None:
        self._turn(partial(self._connection.receive_datagram, payload, source, now))

    def fire(self, now: float) -> None:
        """The deadline has come."""
        self._turn(partial(self._connection.handle_timer, now))

    def flush(self) -> None:
        """Send what is due."""
        self._turn(_nothing)

    async def watch(self, task: Callable[[], Awaitable[object]]) -> None:
        """Run what the application has to wait for; if it fails, that ends this connection."""
        try:
            await task()
        except Exception as error:  # the event callback, later: this connection's trouble alone
            self._owner.failed(self, error)
            self._turn(self._give_up)

    def _turn(self, step: Callable[[], object]) -> None:
        if self.closed:
            return
        if self._busy:  # called by the application: the turn it is part of sends for it
            step()
            return
        self._busy = True
        for attempt in (partial(self._do, step), partial(self._do, self._give_up), self._finish):
            try:
                attempt()
                break
            except Exception as error:  # the event callback: this connection's trouble alone
                self._owner.failed(self, error)
        self._busy = False
        self._owner.settled(self)
        if self.end is not None:
            self._app = None
            self._connection.dismantle()

    def _do(self, step: Callable[[], object]) -> None:
        """One step, the events it brought, and what is to be sent; sending may cause events."""
        connection = self._connection
        step()
        while True:
            event = connection.next_event()
            if event is None:
                self._send_all()
                event = connection.next_event()
                if event is None:
                    break
            self._hand_over(event)
        if connection.ending is not None:
            self._finish()

    def _send_all(self) -> None:
        connection = self._connection
        for payload, to in connection.datagrams_to_send(trio.current_time()):
            self.unsent += not self.port.send(payload, (to[0], to[1]))
        if not self._leaving and connection.unsent_bytes > UNSENT_BYTES:
            self.overfull = True
            self._leave(QuicErrorCode.APPLICATION_ERROR, "what was sent is not taken")
            self._send_all()

    def _finish(self) -> None:
        if self.end is None:
            code, words = self._connection.ending or _INTERNAL
            self.end = int(code), _printable(words)
            if self._app is not None:
                self._app.closed(*self.end)

    def _hand_over(self, event: QuicEvent) -> None:
        match event:
            case StreamDataReceived() | StreamReset() | StopSendingReceived():
                if self._app is not None and not self._leaving:
                    self._app.handle(event)
            case HandshakeCompleted(alpn_protocol=alpn):
                self.alpn = alpn
                self._connection.trim()
                self._app = self._owner.established(self, alpn)
                self._established = self._app is not None
            case ConnectionIdIssued(connection_id=cid):
                self._owner.connection_id(self, cid, live=True)
            case ConnectionIdRetired(connection_id=cid):
                self._owner.connection_id(self, cid, live=False)
            case _:
                pass  # an answer to a ping; the protocol's name, which comes again

    def _leave(self, code: int, reason: str) -> None:
        self._leaving = True
        self._connection.close(error_code=code, reason_phrase=reason)

    def _give_up(self) -> None:
        self._leave(*_INTERNAL)


def _nothing() -> None:
    """Only the sending that ends a turn."""


def _printable(words: str) -> str:
    kept = words[:REASON_CHARACTERS]
    return "".join(letter if letter.isprintable() else "?" for letter in kept)
