"""The client's side of a control connection: who is at the other end, then questions and answers.

The node is known by its public key, which the invite names, and by nothing else: not by a name,
an authority or a date, because a player's clock may be wrong and a node's certificate is its own.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import ssl
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import attrs
import trio
from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription

from ..errors import LinkDown, Refused, WireError
from .quic import ALPN, Application, QuicLink
from .quic_connection import NO_ALPN, ClientConnection, configuration
from .udp import Address, Port, UdpPort

log = logging.getLogger(__name__)

SERVER_NAME: Final = "lightspeed-proxy"  # what the original asks for
PING_S: Final = 10.0  # NATs keep a UDP entry for 30 s and more, a node a silent client for 60 s
LARGEST_ANSWER: Final = 65538  # bytes: the largest framed message, and one to see an excess by
NODE_STREAM: Final = 3  # the first stream in one direction that a server opens
UNI_STREAMS: Final = 3  # that a node may have open: one of ours, or the three of HTTP/3
BAD_CERTIFICATE: Final = int(QuicErrorCode.CRYPTO_ERROR) + AlertDescription.bad_certificate


class PinMismatch(Refused):
    """Somebody else answers at the node's address."""


class OwnPort(Port, Protocol):
    """A socket that is ours to close."""

    def close(self) -> None: ...


@attrs.define(eq=False)
class _Answer:
    """What has come on one stream so far."""

    largest: int
    data: bytearray = attrs.field(factory=bytearray)
    complete: bool = False
    error: str = ""
    done: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class QuicClient:
    """An established connection; made by `open_client`."""

    address: Address
    _pin: bytes | None
    _port: Port
    _bind: Callable[[Address], OwnPort]
    _on_node_stream: Callable[[bytes], None] | None
    _own: OwnPort | None = None  # the socket, where we opened it
    _link: QuicLink | None = None
    _stranger: bytes | None = None  # the pin of whoever answered instead of the node
    _failure: Exception | None = None  # ours, which ended the connection
    _answers: dict[int, _Answer] = attrs.field(factory=dict)
    _ready: trio.Event = attrs.field(factory=trio.Event)  # established, or ended before that
    _gone: trio.Event = attrs.field(factory=trio.Event)
    _timer: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _reading: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def link(self) -> QuicLink:
        assert self._link is not None
        return self._link

    async def request(
        self, data: bytes, *, timeout_s: float = 5.0, largest: int = LARGEST_ANSWER
    ) -> bytes:
        """Send `data` on a stream of its own and read the answer to its end.

        Raises `LinkDown` when the connection is gone, `trio.TooSlowError` after `timeout_s`,
        `WireError` when the node resets the stream ("reset") or says too much ("oversized").
        """
        self._check_up()
        link = self.link
        stream = link.open_stream()
        answer = self._answers[stream] = _Answer(largest)
        try:
            link.send(stream, data, end=True)
            with trio.fail_after(timeout_s):
                await answer.done.wait()
        finally:
            del self._answers[stream]
            if not answer.complete:
                link.reset(stream)
        if answer.error:
            raise WireError(answer.error)
        if not answer.complete:
            self._check_up()
        return bytes(answer.data)

    async def wait_closed(self) -> tuple[int, str]:
        """How the connection ended, once it has: error code and words."""
        await self._gone.wait()
        assert self.link.end is not None
        return self.link.end

    def rebind(self, local: Address | None = None) -> None:
        """Go on from a new socket, after this machine's address has changed. Raises `OSError`.

        The connection and what is under way on it stay.
        """
        port = self._bind(local or any_address(self.address))
        old, self._own = self._own, port
        self.set_port(port)
        if old is not None:
            old.close()

    def set_port(self, port: Port) -> None:
        """Go on from another socket, which stays the caller's to close."""
        self._port = self.link.port = port
        self._reading.cancel("another socket")
        self.link.quic.change_connection_id()  # the two addresses shall not look like one client
        self.link.ping()  # the node learns of the new address now

    # What a `QuicLink` asks of its owner and says to its application.

    def established(self, link: QuicLink, alpn: str | None) -> Application | None:
        pin = link.peer_pin()
        if self._pin is not None and pin != self._pin:
            self._stranger = pin or b""
            link.close(BAD_CERTIFICATE, "not the key that was expected")
            return None
        return self

    def connection_id(self, link: QuicLink, cid: bytes, *, live: bool) -> None:
        """Nothing to do: whatever comes to this socket is for the one connection."""

    def failed(self, link: QuicLink, error: Exception) -> None:
        self._failure = error
        log.warning("the connection to %s failed", place(self.address), exc_info=error)

    def settled(self, link: QuicLink) -> None:
        if link is not self._link:
            return
        self._timer.deadline = link.deadline
        if link.established or link.closed:
            self._ready.set()

    def handle(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            answer = self._answers.get(event.stream_id)
            if answer is not None:
                self._add(answer, event.data, event.end_stream)
            elif event.stream_id == NODE_STREAM and self._on_node_stream is not None:
                self._on_node_stream(event.data)
            else:
                self.link.stop_reading(event.stream_id)
        elif isinstance(event, StreamReset):
            answer = self._answers.get(event.stream_id)
            if answer is not None:
                answer.error = "reset"
                answer.done.set()

    def closed(self, code: int, reason: str) -> None:
        for answer in self._answers.values():
            answer.done.set()
        self._gone.set()

    # Insides.

    def _add(self, answer: _Answer, data: bytes, end: bool) -> None:
        answer.data += data
        if len(answer.data) > answer.largest:
            answer.error = "oversized"
            answer.done.set()
        elif end:
            answer.complete = True
            answer.done.set()

    def _check_up(self) -> None:
        if self.link.end is not None:
            raise LinkDown(
                f"the connection to {place(self.address)} is gone: {_words(self.link)}"
            ) from self._failure

    async def _connect(self, alpn: str | None) -> None:
        """Until established or refused. A node that speaks no such protocol is asked without."""
        for offered in dict.fromkeys((alpn, None)):
            config = configuration(is_client=True, alpn=offered)
            config.server_name = SERVER_NAME
            config.verify_mode = ssl.CERT_NONE  # the key is checked, in `established`
            connection = ClientConnection(configuration=config, streams=0, uni_streams=UNI_STREAMS)
            self._ready = trio.Event()
            self._link = link = QuicLink(connection, self._port, self)
            connection.connect(self.address, now=trio.current_time())
            link.flush()
            await self._ready.wait()
            if link.end is None or link.end[0] != NO_ALPN:
                return

    def _check_established(self, timeout_s: float) -> None:
        link, there = self.link, place(self.address)
        if link.established and not link.closed:
            return
        if self._stranger is not None:
            raise PinMismatch(
                f"{there} is not the node this invite is for: its key is "
                f"{_shown(self._stranger)}, the invite says {_shown(self._pin or b'')}. Nothing "
                "was sent to it. If its operator has made a new key, ask for a new invite; else "
                "somebody stands between you and the node"
            )
        if link.closed:
            raise LinkDown(f"no connection to {there}: {_words(link)}") from self._failure
        if link.unsent:
            raise LinkDown(f"nothing can be sent to {there}: is this machine on a network?")
        raise LinkDown(
            f"no answer from {there} within {timeout_s:g} s: is the node running, and does its "
            f"firewall let UDP port {self.address[1]} in?"
        )

    async def _receive(self) -> None:
        while True:
            with trio.CancelScope() as self._reading:
                while True:
                    for payload, source in await self._port.receive():
                        self.link.receive(payload, source, trio.current_time())

    async def _run_timer(self) -> None:
        while True:
            deadline = math.inf if self._link is None else self._link.deadline
            with trio.CancelScope(deadline=deadline) as self._timer:
                await trio.sleep_forever()
            self.link.fire(trio.current_time())

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(PING_S)
            self.link.ping()


@asynccontextmanager
async def open_client(
    address: Address,
    *,
    pin: bytes | None,
    alpn: str | None = ALPN,
    port: Port | None = None,
    bind: Callable[[Address], OwnPort] = UdpPort.bind,
    timeout_s: float = 5.0,
    on_node_stream: Callable[[bytes], None] | None = None,
) -> AsyncIterator[QuicClient]:
    """A connection to the node at `address`, a numeric one; closed on leaving.

    Nothing is said to whoever answers before its key has been compared with `pin`; None takes any
    key. `on_node_stream` gets what the node says by itself, in the chunks it comes in. The body is
    not disturbed when the connection ends: see `wait_closed`. Raises `LinkDown`, `PinMismatch`,
    and `OSError` when there is no socket to be had.
    """
    address = str(ipaddress.ip_address(address[0])), address[1]  # spelled as answers come
    own = None
    if port is None:
        port = own = bind(any_address(address))
    client = QuicClient(address, pin, port, bind, on_node_stream, own)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._receive)
            nursery.start_soon(client._run_timer)
            try:
                with trio.move_on_after(timeout_s):
                    await client._connect(alpn)
                client._check_established(timeout_s)
                nursery.start_soon(client._keep_alive)
                yield client
            finally:
                client.link.close(QuicErrorCode.NO_ERROR, "")
                nursery.cancel_scope.cancel("the connection is closed")
        return
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        alone = group.exceptions[0]  # what was raised in the body, as it was raised
    finally:
        if client._own is not None:
            client._own.close()
    raise alone


def any_address(peer: Address) -> Address:
    """Where to bind to reach this peer: any port of any address of its family."""
    return ("::" if ":" in peer[0] else "0.0.0.0", 0)


def place(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _words(link: QuicLink) -> str:
    code, words = link.end or (0, "")
    if code == NO_ALPN:
        return "what answers there is no LightSpeed node"
    return words or ("it was closed" if code == 0 else f"closed with error {code:#x}")


def _shown(pin: bytes) -> str:
    """As it stands in an invite."""
    return urlsafe_b64encode(pin).decode().rstrip("=")
