"""What the node answers over HTTP/3 on its control port: /health, /metrics and /nodes, to read.

On by `[control] h3`. /health answers whoever connects, the other two `[http] allow`, as over TCP.
Bounded: no QPACK table (a few bytes could name many large entries of it), `LARGEST_REQUEST` bytes
a request, `REQUESTS` a second on one connection; `control_server` ends one that asks nothing.
Source: RFC 9114, RFC 9204.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

import attrs
import pylsqpack
import trio
from aioquic.h3.connection import ErrorCode, H3Connection, Setting
from aioquic.h3.events import HeadersReceived
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset
from lightspeed_protocol.control_messages import Peer
from lightspeed_protocol.runtime.quic import UNSENT_BYTES
from lightspeed_protocol.runtime.quic_connection import BoundedConnection
from lightspeed_protocol.runtime.quic_door import host_of
from prometheus_client import CollectorRegistry

from .control import known_peers
from .health import choose_encoder, health_fields, is_allowed
from .metrics import in_pieces
from .rate_limit import Meter, Rates
from .sessions import plain_host
from .state import NodeState

REQUESTS: Final = Rates(10, 1)
LARGEST_REQUEST: Final = 8192  # bytes, frames included; a browser's head has under 2000
LARGEST_OTHER: Final = 65536  # of a unidirectional stream, over the connection's whole life

Headers = list[tuple[bytes, bytes]]


class Link(Protocol):
    """What is used of `runtime.quic.QuicLink`."""

    @property
    def address(self) -> tuple[str, int]: ...
    @property
    def closed(self) -> bool: ...
    @property
    def quic(self) -> QuicConnection: ...
    def flush(self) -> None: ...
    async def watch(self, task: Callable[[], Awaitable[object]]) -> None: ...
    def stop_reading(self, stream: int, code: int = ...) -> None: ...
    def close(self, code: int = ..., reason: str = ...) -> None: ...


class BareH3(H3Connection):
    """Without a QPACK table in the direction that strangers write."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._decoder = pylsqpack.Decoder(0, 0)

    def _get_local_settings(self) -> dict[int, int]:
        return {
            Setting.QPACK_MAX_TABLE_CAPACITY: 0,
            Setting.QPACK_BLOCKED_STREAMS: 0,
            Setting.MAX_FIELD_SECTION_SIZE: LARGEST_REQUEST,
        }


@attrs.define(eq=False)
class H3App:
    """One connection's `Application`. `spawn` runs a task that ends with the control plane."""

    link: Link
    state: NodeState
    registry: CollectorRegistry
    spawn: Callable[[Link, Callable[[], Awaitable[None]]], object]
    left: Callable[[H3App], object]
    house: str = attrs.field(init=False)  # the host it came from
    quiet_since: float = attrs.field(init=False)  # its last request, to begin with its arrival
    _http: BareH3 = attrs.field(init=False)
    _taken: dict[int, int] = attrs.field(factory=dict)  # bytes by stream
    _requests: Meter = attrs.field(factory=lambda: Meter(REQUESTS))

    def __attrs_post_init__(self) -> None:
        self.house = host_of(self.link.address)
        self.quiet_since = trio.current_time()
        self._http = BareH3(self.link.quic)
        self.link.flush()

    def handle(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and not self._within_bounds(event):
            return
        if isinstance(event, StreamReset) and self._gave_up(event.stream_id):
            return
        for happened in self._http.handle_event(event):
            if isinstance(happened, HeadersReceived):
                self._take(happened.stream_id, dict(happened.headers))

    def closed(self, code: int, reason: str) -> None:
        self._taken.clear()
        self.left(self)

    def _within_bounds(self, event: StreamDataReceived) -> bool:
        """Counts what comes on a stream; what is over the limit is never kept."""
        stream = event.stream_id
        before = self._taken.get(stream, 0)
        taken = self._taken[stream] = before + len(event.data)
        if stream & 2:
            if taken > LARGEST_OTHER:
                self.state.control.h3_refused += 1
                self.link.close(ErrorCode.H3_EXCESSIVE_LOAD, "too much besides requests")
            return taken <= LARGEST_OTHER
        if taken > LARGEST_REQUEST:
            if before <= LARGEST_REQUEST:
                self.state.control.h3_refused += 1
                self._http.handle_event(StreamReset(ErrorCode.H3_EXCESSIVE_LOAD, stream))
                self.link.stop_reading(stream, ErrorCode.H3_EXCESSIVE_LOAD)
            return False
        if event.end_stream:
            del self._taken[stream]
        return True

    def _gave_up(self, stream: int) -> bool:
        """Whether a stream that is over now was too much before."""
        return self._taken.pop(stream, 0) > LARGEST_REQUEST and not stream & 2

    def _take(self, stream: int, head: dict[bytes, bytes]) -> None:
        if b":method" not in head:
            return  # trailers
        self.quiet_since = trio.current_time()
        if not self.state.config.control.h3:  # a reload has ended it
            self.link.close(ErrorCode.H3_NO_ERROR, "HTTP/3 is no longer served here")
        elif self._requests.admit(0, trio.current_time()) is not None:
            self.state.control.h3_refused += 1
            self._answer(stream, head, 429, {"error": "too many requests on this connection"})
        else:
            self.state.control.h3_requests += 1
            self._route(stream, head)

    def _route(self, stream: int, head: dict[bytes, bytes]) -> None:
        path = head.get(b":path", b"").decode("latin-1").partition("?")[0]
        if path not in ("/health", "/metrics", "/nodes"):
            self._answer(stream, head, 404, {"error": "there is /health, /metrics and /nodes"})
        elif head[b":method"] not in (b"GET", b"HEAD"):
            self._answer(stream, head, 405, {"error": "read only"}, [(b"allow", b"GET, HEAD")])
        elif path == "/health":
            draining = self.state.phase == "draining"
            self._answer(stream, head, 503 if draining else 200, health_fields(self.state))
        elif not is_allowed(self.state, plain_host(self.link.address[0])):
            self._answer(stream, head, 403, {"error": "this address is not in [http] allow"})
        elif path == "/nodes":
            self._answer(stream, head, 200, {"nodes": nodes(self.state)})
        else:
            self.spawn(self.link, partial(self._metrics, stream, head))

    async def _metrics(self, stream: int, head: dict[bytes, bytes]) -> None:
        encode, content_type = choose_encoder(head.get(b"accept", b"").decode("latin-1"))
        text = await in_pieces(self.registry, encode)
        if not self.link.closed:
            self._send(stream, head, 200, content_type.encode(), text)

    def _answer(
        self,
        stream: int,
        head: dict[bytes, bytes],
        status: int,
        fields: dict[str, Any],
        more: Headers | None = None,
    ) -> None:
        body = json.dumps(fields).encode()
        self._send(stream, head, status, b"application/json", body, more)

    def _send(
        self,
        stream: int,
        head: dict[bytes, bytes],
        status: int,
        content_type: bytes,
        body: bytes,
        more: Headers | None = None,
    ) -> None:
        quic = self.link.quic
        if isinstance(quic, BoundedConnection) and not quic.can_send(stream):
            return  # the peer no longer wants it
        only_head = head[b":method"] == b"HEAD"
        headers = [
            (b":status", str(status).encode()),
            (b"content-type", content_type),
            (b"cache-control", b"no-store"),
            *(more or []),
        ]
        if not only_head:  # some clients take it for a body that is missing
            headers.append((b"content-length", str(len(body)).encode()))
        self._http.send_headers(stream, headers, end_stream=only_head)
        if not only_head:
            self._http.send_data(stream, body, end_stream=True)
        self.link.flush()
        if isinstance(quic, BoundedConnection) and quic.unsent_bytes > UNSENT_BYTES:
            self.link.close(ErrorCode.H3_EXCESSIVE_LOAD, "what was asked for is not taken")


def nodes(state: NodeState) -> list[dict[str, Any]]:
    """This node, where its invites say it is, and those that its settings name."""
    config = state.config
    host, port = config.control.advertised or ("", state.control_port)
    own = Peer(config.node.node_id, config.node.region, host, port, state.pin)
    return [
        {**attrs.asdict(node), "pin": urlsafe_b64encode(node.pin).decode().rstrip("=")}
        for node in (own, *known_peers(config.node.peers))
    ]
