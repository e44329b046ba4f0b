"""What one client is answered over QUIC, and what the node says to it by itself.

Each stream a client opens carries one request and gets one answer. Streams that hold no message,
messages no client sends, and more requests than `REQUESTS_PER_S` get their stream reset and are
counted; the connection lives. What the node has to say unasked goes over one stream of its own, if
the client registered that it listens there. Source: PROTOCOL.md, "Control messages".
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final, Protocol

import attrs
from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset
from lightspeed_protocol.control import FrameReader, encode, frame
from lightspeed_protocol.control_messages import (
    ControlMessage,
    Disconnect,
    DisconnectReason,
    Peer,
    Peers,
    PeersRequest,
    Ping,
    Pong,
    Probe,
    ProbeMethod,
    ProbeResult,
    Register,
    Rekey,
    ServerInfo,
)
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.extensions import Feature, RefusalCode, decode_refusal
from lightspeed_protocol.invite import Invite as NodeLine
from lightspeed_protocol.runtime.quic_door import host_of

from .admission import Granted, Member
from .flows import leased
from .rate_limit import Meter, Rates
from .refusals import TEXTS, refusal
from .sessions import plain_host
from .state import NodeState

REQUESTS: Final = Rates(20, 1)  # a second on one connection: a Ping each 100 ms, and some more
PROBES: Final = Rates(2, 1)
LARGEST_REQUEST: Final = 1024  # bytes; a Register with all it may hold has under 200
MOST_PEERS: Final = 64  # told; they must fit one frame
INFO_S: Final = 30.0  # between two ServerInfo the node says by itself

# Why a stream was reset.
MALFORMED: Final = 1
TOO_OFTEN: Final = 2
UNEXPECTED: Final = 3


class Link(Protocol):
    """What is used of `runtime.quic.QuicLink`."""

    @property
    def address(self) -> tuple[str, int]: ...
    @property
    def closed(self) -> bool: ...
    def open_stream(self, *, unidirectional: bool = ...) -> int: ...
    def send(self, stream: int, data: bytes, *, end: bool = ...) -> None: ...
    def reset(self, stream: int, code: int = ...) -> None: ...
    def stop_reading(self, stream: int, code: int = ...) -> None: ...
    def close(self, code: int = ..., reason: str = ...) -> None: ...
    async def watch(self, task: Callable[[], Awaitable[object]]) -> None: ...


class Desk(Protocol):
    """What connections share; `control_server.ControlServer` is the real one."""

    state: NodeState

    def now(self) -> float: ...
    def permits(self, host: str, port: int) -> bool: ...
    def probe(self, link: Link, message: Probe, answer: Callable[[ControlMessage], object]) -> bool:
        """Measure for `link` and call `answer`; False when too many run already."""

    def left(self, app: ControlApp) -> None: ...


@attrs.define(eq=False)
class ControlApp:
    """One connection's `Application`, and the `Connection` of its member."""

    link: Link
    desk: Desk
    member: Member | None = None
    house: str = attrs.field(init=False)  # the host it came from
    quiet_since: float = attrs.field(init=False)  # when it last held a session, or came
    _streams: dict[int, FrameReader | None] = attrs.field(factory=dict)  # None: answered
    _own_stream: int | None = None
    _requests: Meter = attrs.field(factory=lambda: Meter(REQUESTS))
    _probes: Meter = attrs.field(factory=lambda: Meter(PROBES))
    _info_at: float = math.inf
    _rekey_at: float = math.inf
    _close_at: float = math.inf
    _close_text: str = ""

    def __attrs_post_init__(self) -> None:
        self.house = host_of(self.link.address)
        self.quiet_since = self.desk.now()

    # -- what the connection brings -------------------------------------------------------

    def handle(self, event: QuicEvent) -> None:
        match event:
            case StreamDataReceived(data=data, end_stream=end, stream_id=stream):
                if stream & 2:  # unidirectional: nothing could be answered there
                    self.desk.state.control.malformed += 1
                    self.link.stop_reading(stream, UNEXPECTED)
                else:
                    self._read(stream, data, end)
            case StreamReset(stream_id=stream):
                if self._streams.pop(stream, None) is not None:
                    self.link.reset(stream)
            case _:
                pass

    def closed(self, code: int, reason: str) -> None:
        self.desk.state.admission.lost(self, self.desk.now())
        self.desk.left(self)

    # -- what the node says by itself -----------------------------------------------------

    def ended(self, message: Disconnect) -> None:
        """The session was taken away. A client that does not listen is told by the close."""
        if not self.tell(message):
            self.link.close(message.reason, decode_refusal(message.extensions).text)

    def tell(self, message: ControlMessage) -> bool:
        """Say something unasked; False when the client does not listen."""
        if self._own_stream is None:
            return False
        self.link.send(self._own_stream, frame(encode(message)))
        return True

    def tick(self, now: float) -> None:
        """Say and do what is due."""
        if self.member is not None:
            self.quiet_since = now
        if now >= self._close_at:
            self.link.close(DisconnectReason.RATE_LIMITED, self._close_text)
        if now >= self._info_at:
            self._info_at = now + INFO_S
            self.tell(server_info(self.desk.state))
        if now >= self._rekey_at and self.member is not None:
            epoch = self.member.epoch
            message = self._rekey(self.member, now)
            if message.epoch != epoch:  # else the client has not used the last one yet
                self.tell(message)

    # -- requests -------------------------------------------------------------------------

    def _read(self, stream: int, data: bytes, end: bool) -> None:
        reader = self._streams.setdefault(stream, FrameReader(LARGEST_REQUEST))
        if reader is not None:
            found = reader.feed(data)
            if found or end:
                self._streams[stream] = None
                self._take(stream, found[0] if found else WireError("cut"))
        if end:
            self._streams.pop(stream, None)

    def _take(self, stream: int, found: ControlMessage | WireError) -> None:
        counters = self.desk.state.control
        if isinstance(found, WireError):
            counters.malformed += 1
            self.link.reset(stream, MALFORMED)
        elif self._requests.admit(0, self.desk.now()) is not None:
            counters.too_often += 1
            self.link.reset(stream, TOO_OFTEN)
        else:
            counters.requests += 1
            try:
                self._answer(stream, found)
            except WireError:
                counters.malformed += 1
                self.link.reset(stream, MALFORMED)

    def _answer(self, stream: int, message: ControlMessage) -> None:
        match message:
            case Ping(timestamp_us):
                self._send(stream, Pong(timestamp_us, time.time_ns() // 1000))
            case Register():
                self._register(stream, message)
            case Disconnect(reason):
                if self.member is not None:
                    self.desk.state.admission.end(self.member, "left")
                self._rekey_at = math.inf
                self._send(stream, Disconnect(reason))
            case ServerInfo():
                self._send(stream, server_info(self.desk.state))
            case PeersRequest():
                peers = Peers(known_peers(self.desk.state.config.node.peers))
                self._send(stream, peers if self._may_ask() else NOBODY)
            case Probe():
                self._probe(stream, message)
            case Rekey():
                member = self.member
                if member is None or not member.sealed:
                    self._send(stream, NOBODY)
                else:
                    self._send(stream, self._rekey(member, self.desk.now()))
            case _:
                self.desk.state.control.unexpected += 1
                self.link.reset(stream, UNEXPECTED)

    def _send(self, stream: int, message: ControlMessage) -> None:
        self.link.send(stream, frame(encode(message)), end=True)

    def _register(self, stream: int, message: Register) -> None:
        now = self.desk.now()
        host = plain_host(self.link.address[0])
        result = self.desk.state.admission.register(message, host, self, now, time.time())
        if not isinstance(result, Granted):
            self._send(stream, result.disconnect)
            if result.code is RefusalCode.TOO_OFTEN and self.member is None:
                self._close_at = now  # by the next tick: closed at once, the answer would be lost
                self._close_text = result.text or TEXTS[result.code]
            return
        self._send(stream, result.ack)
        if Feature.NODE_STREAM in result.features:
            if self._own_stream is None:
                self._own_stream = self.link.open_stream(unidirectional=True)
            self._info_at = now  # the first one at once
            if result.member.sealed:
                self._rekey_at = now + self.desk.state.config.security.rekey_s
            self.tick(now)

    def _rekey(self, member: Member, now: float) -> Rekey:
        self._rekey_at = now + self.desk.state.config.security.rekey_s
        return self.desk.state.admission.rekey(member)

    def _may_ask(self) -> bool:
        return self.member is not None or self.desk.state.dev

    def _probe(self, stream: int, message: Probe) -> None:
        if not self._may_ask():
            self._send(stream, NOBODY)
            return
        lease = None if self.member is None else self.member.lease
        permitted = self.desk.permits(message.address, message.port)
        if not permitted or not leased(lease, message.address):
            self._send(stream, ProbeResult(ProbeMethod.NOTHING, 0, 0, 0, 0))  # nothing was sent
            return

        def answer(result: ControlMessage) -> None:
            self._send(stream, result)

        if self._probes.admit(0, self.desk.now()) is not None or not self.desk.probe(
            self.link, message, answer
        ):
            self._send(stream, refusal(RefusalCode.TOO_OFTEN, BUSY))


BUSY: Final = "the node measures for others right now: ask again in a second"
NOBODY: Final = refusal(RefusalCode.NO_CREDENTIAL, "register first: only players may ask for that")


def server_info(state: NodeState) -> ServerInfo:
    capacity = state.config.limits.max_clients
    active = state.relay.sessions
    return ServerInfo(min(100, 100 * active // capacity), active, capacity)


@lru_cache(maxsize=2)
def known_peers(lines: tuple[str, ...]) -> tuple[Peer, ...]:
    """The nodes that the settings name, in lines without token. Their region is not known here."""
    nodes = map(NodeLine.parse, lines[:MOST_PEERS])
    return tuple(Peer(node.name or node.host, "", node.host, node.port, node.pin) for node in nodes)
