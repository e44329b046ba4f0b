"""HTTP/3 between aioquic's own client and ours, in memory; and read by ngtcp2's over loopback."""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, Setting, encode_frame
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    HandshakeCompleted,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from lightspeed_protocol.invite import Invite as NodeLine
from lightspeed_protocol.runtime.daemon import stage
from lightspeed_protocol.runtime.quic_connection import BoundedConnection
from lightspeed_protocol.runtime.udp import open_socket
from lightspeed_proxy.config import Control, Http, Node, ProxyConfig
from lightspeed_proxy.control_server import ControlServer
from lightspeed_proxy.credentials import FILE, InviteStore
from lightspeed_proxy.h3 import LARGEST_OTHER, LARGEST_REQUEST, H3App
from lightspeed_proxy.metrics import make_registry
from lightspeed_proxy.state import NodeState

from tests.support.certs import throw_away_identity
from tests.support.nodes import FakeRelay, node_state
from tests.support.skips import need_command

CLIENT, SERVER = ("192.0.2.1", 5000), ("192.0.2.2", 4433)
IDENTITY = throw_away_identity()
ON = ProxyConfig(control=Control(h3=True), http=Http(allow=(ip_network("192.0.2.0/30"),)))


@attrs.define(eq=False)
class MemoryLink:
    quic: BoundedConnection
    alpn: str = "h3"
    address: tuple[str, int] = CLIENT
    closes: list[int] = attrs.field(factory=list)

    @property
    def closed(self) -> bool:
        return bool(self.closes)

    def flush(self) -> None:
        """`Pair.pump` sends."""

    def stop_reading(self, stream: int, code: int = 0) -> None:
        if self.quic.can_stop(stream):
            self.quic.stop_stream(stream, code)

    async def watch(self, task: Callable[[], Awaitable[object]]) -> None:
        await task()

    def close(self, code: int = 0, reason: str = "") -> None:
        self.closes.append(code)
        self.quic.close(error_code=code, reason_phrase=reason)


@attrs.define(eq=False)
class Pair:
    """A client and our application, and what the client has got by stream."""

    state: NodeState
    client: QuicConnection
    server: BoundedConnection
    link: MemoryLink
    http: H3Connection = attrs.field(init=False)
    app: H3App | None = None
    tasks: list[Callable[[], Awaitable[None]]] = attrs.field(factory=list)
    gone: list[H3App] = attrs.field(factory=list)
    heads: dict[int, dict[str, str]] = attrs.field(factory=dict)
    bodies: dict[int, bytes] = attrs.field(factory=dict)
    ended: list[int] = attrs.field(factory=list)
    resets: dict[int, int] = attrs.field(factory=dict)
    stops: dict[int, int] = attrs.field(factory=dict)
    now: float = 0.0

    def pump(self) -> None:
        """Carry datagrams and events until nothing moves."""
        for _ in range(50):
            moved = False
            self.now += 0.01  # standing still, nothing would be sent after the first packets
            for sender, receiver, source in (
                (self.client, self.server, CLIENT),
                (self.server, self.client, SERVER),
            ):
                for data, _ in sender.datagrams_to_send(now=self.now):
                    receiver.receive_datagram(data, source, now=self.now)
                    moved = True
            moved |= self._server_events() | self._client_events()
            if not moved:
                return
        raise AssertionError("it never ends")

    def _server_events(self) -> bool:
        moved = False
        while (event := self.server.next_event()) is not None:
            moved = True
            if isinstance(event, HandshakeCompleted):
                self.app = H3App(
                    self.link,
                    self.state,
                    make_registry(self.state),
                    lambda _, task: self.tasks.append(task),
                    self.gone.append,
                )
            elif isinstance(event, StreamDataReceived | StreamReset | StopSendingReceived):
                assert self.app is not None
                self.app.handle(event)
        return moved

    def _client_events(self) -> bool:
        moved = False
        while (event := self.client.next_event()) is not None:
            moved = True
            if isinstance(event, StreamReset):
                self.resets[event.stream_id] = event.error_code
            elif isinstance(event, StopSendingReceived):
                self.stops[event.stream_id] = event.error_code
            for happened in self.http.handle_event(event):
                self._keep(happened)
        return moved

    def _keep(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            self.heads[event.stream_id] = {k.decode(): v.decode() for k, v in event.headers}
        if isinstance(event, DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
        if isinstance(event, HeadersReceived | DataReceived) and event.stream_ended:
            self.ended.append(event.stream_id)

    @property
    def terminated(self) -> int | None:
        """The error code with which the node has ended the connection."""
        return None if self.server.ending is None else self.server.ending[0]

    def send(self, path: str, method: str = "GET", *, end: bool = True, **more: str) -> int:
        """A request; its stream."""
        stream = self.client.get_next_available_stream_id()
        headers = {":method": method, ":scheme": "https", ":authority": "node", ":path": path}
        named = {name.replace("_", "-"): value for name, value in more.items()}
        self.http.send_headers(
            stream, [(k.encode(), v.encode()) for k, v in {**headers, **named}.items()], end
        )
        self.pump()
        return stream

    def ask(self, path: str, method: str = "GET", **more: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer, which must be complete."""
        stream = self.send(path, method, end=True, **more)
        assert stream in self.ended, (self.resets, self.terminated)
        head = self.heads[stream]
        return int(head[":status"]), head, self.bodies.get(stream, b"")


@pytest.fixture
async def pair() -> Pair:  # `H3App` looks at trio's clock
    return connect()


def connect(config: ProxyConfig = ON) -> Pair:
    ours = QuicConfiguration(
        is_client=False,
        alpn_protocols=["h3"],
        certificate=IDENTITY.certificate,
        private_key=IDENTITY.private_key,
    )
    theirs = QuicConfiguration(alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE)
    client = QuicConnection(configuration=theirs)
    server = BoundedConnection(
        configuration=ours,
        streams=1000,
        uni_streams=8,
        odcid=client.original_destination_connection_id,
    )
    relay = FakeRelay(config=config, sessions=3)
    made = Pair(
        node_state(config, relay=relay, clock=lambda: 0.0), client, server, MemoryLink(server)
    )
    client.connect(SERVER, now=0.0)
    made.http = H3Connection(client)
    made.pump()
    assert made.app is not None
    return made


# `H3App` reads trio's clock, so even what never waits runs under trio.


async def test_health_is_read(pair: Pair) -> None:
    status, head, body = pair.ask("/health?verbose=1")
    assert (status, head["content-type"]) == (200, "application/json")
    assert json.loads(body)["active_connections"] == 3
    assert int(head["content-length"]) == len(body)
    pair.state.phase = "draining"
    assert pair.ask("/health")[0] == 503
    assert pair.state.control.h3_requests == 2


async def test_metrics_are_read(pair: Pair) -> None:
    stream = pair.send("/metrics", accept="application/openmetrics-text")
    assert pair.heads == {}
    (task,) = pair.tasks
    await task()
    pair.pump()
    assert pair.heads[stream]["content-type"].startswith("application/openmetrics-text")
    assert b"lightspeed_active_connections 3.0" in pair.bodies[stream]
    assert pair.bodies[stream].endswith(b"# EOF\n")


@pytest.mark.parametrize(
    "accept", ["text/plain; version=a", "application/openmetrics-text; version=1.0.0.x", "\xff;,="]
)
async def test_an_accept_header_of_any_kind_gets_metrics(pair: Pair, accept: str) -> None:
    stream = pair.send("/metrics", accept=accept)
    (task,) = pair.tasks
    await task()
    pair.pump()
    assert pair.heads[stream][":status"] == "200"
    assert pair.heads[stream]["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_its_owner_hears_of_requests_and_of_the_end(pair: Pair) -> None:
    assert pair.app is not None
    pair.app.quiet_since = before = -1.0
    pair.ask("/health")
    assert pair.app.quiet_since > before
    assert pair.app.house == CLIENT[0]
    pair.app.closed(0, "")
    assert pair.gone == [pair.app]


async def test_nodes_are_read() -> None:
    peer = str(NodeLine("node2.example.com", 4433, bytes(range(32)), name="two"))
    config = attrs.evolve(
        ON,
        node=Node(node_id="one", region="here", peers=(peer,)),
        control=Control(h3=True, advertise="node1.example.com"),
    )
    pair = connect(config)
    pair.state.pin = bytes(32)
    status, _, body = pair.ask("/nodes")
    assert status == 200
    assert json.loads(body) == {
        "nodes": [
            {
                "node_id": "one",
                "region": "here",
                "host": "node1.example.com",
                "port": 4433,
                "pin": "A" * 43,
            },
            {
                "node_id": "two",
                "region": "",
                "host": "node2.example.com",
                "port": 4433,
                "pin": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            },
        ]
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/telemetry", 404),
        ("GET", "/sessions", 404),
        ("GET", "//[health", 404),
        ("GET", "/health/", 404),
        ("POST", "/health", 405),
        ("DELETE", "/metrics", 405),
        ("POST", "/nothing", 404),
    ],
)
async def test_nothing_else_is_there(pair: Pair, method: str, path: str, status: int) -> None:
    found, head, _ = pair.ask(path, method)
    assert found == status
    assert head.get("allow") == ("GET, HEAD" if status == 405 else None)


async def test_a_head_request_gets_the_head_only(pair: Pair) -> None:
    status, head, body = pair.ask("/health", "HEAD")
    assert (status, head["content-type"], body) == (200, "application/json", b"")


async def test_strangers_get_health_only(pair: Pair) -> None:
    pair.link.address = ("::ffff:198.51.100.9", 1)
    assert pair.ask("/metrics")[0] == 403
    assert pair.ask("/nodes", x_forwarded_for="192.0.2.1")[0] == 403
    assert pair.ask("/health")[0] == 200
    pair.link.address = ("::ffff:192.0.2.1", 1)
    assert pair.ask("/nodes")[0] == 200


async def test_a_reload_that_ends_http_3_ends_it(pair: Pair) -> None:
    pair.state.config = ProxyConfig()
    pair.send("/health")
    assert pair.terminated == ErrorCode.H3_NO_ERROR


async def test_a_connection_may_ask_so_often(pair: Pair) -> None:
    answers = [pair.ask("/health")[0] for _ in range(12)]
    assert answers[:10] == [200] * 10
    assert 429 in answers[10:]
    assert pair.state.control.h3_refused >= 1


# -- what is too much --------------------------------------------------------------------------


async def test_no_qpack_table_is_offered(pair: Pair) -> None:
    settings = pair.http.received_settings
    assert settings is not None
    assert settings[Setting.QPACK_MAX_TABLE_CAPACITY] == 0
    assert settings[Setting.QPACK_BLOCKED_STREAMS] == 0


async def test_one_who_uses_a_table_all_the_same_is_cut_off(pair: Pair) -> None:
    stream = pair.http._local_encoder_stream_id
    assert stream is not None
    pair.client.send_stream_data(stream, b"\x3f\xe1\x1f")  # set the capacity to 4096
    pair.client.send_stream_data(stream, b"\x41a" + b"\x7f\xa1\x1e" + bytes(4000))
    block = b"\x02\x00" + b"\x80" * 3000
    request = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(request, encode_frame(FrameType.HEADERS, block), True)
    pair.pump()
    assert pair.terminated in (
        ErrorCode.QPACK_ENCODER_STREAM_ERROR,
        ErrorCode.QPACK_DECOMPRESSION_FAILED,
    )


async def test_headers_of_any_length_are_not_kept(pair: Pair) -> None:
    stream = pair.send("/health", end=True, x="~" * LARGEST_REQUEST)
    assert pair.resets[stream] == ErrorCode.H3_REQUEST_INCOMPLETE
    assert pair.ask("/health")[0] == 200
    assert pair.state.control.h3_refused == 1


async def test_a_body_of_any_length_is_not_kept(pair: Pair) -> None:
    stream = pair.send("/health", end=False)
    while stream not in pair.stops:
        pair.client.send_stream_data(stream, encode_frame(FrameType.DATA, bytes(1000)))
        pair.pump()
    assert pair.stops[stream] == ErrorCode.H3_EXCESSIVE_LOAD
    assert stream in pair.ended  # what it asked for it got
    assert pair.ask("/health")[0] == 200
    assert pair.app is not None
    assert sum(len(each.buffer) for each in pair.app._http._stream.values()) < 100


async def test_a_control_stream_of_any_length_ends_the_connection(pair: Pair) -> None:
    stream = pair.http._local_control_stream_id
    assert stream is not None
    grease = encode_uint_var(0x21) + encode_uint_var(LARGEST_OTHER * 2)
    pair.client.send_stream_data(stream, grease + bytes(LARGEST_OTHER))
    pair.pump()
    assert pair.terminated == ErrorCode.H3_EXCESSIVE_LOAD


async def test_requests_leave_nothing_behind(pair: Pair) -> None:
    assert pair.app is not None
    before = len(pair.app._http._stream)
    for number in range(100):
        pair.app._requests._packets_full_at = 0.0
        if number % 3 == 0:
            stream = pair.send("/health", end=False)
            pair.client.reset_stream(stream, 1)
            pair.pump()
        elif number % 3 == 1:
            stream = pair.client.get_next_available_stream_id()
            pair.client.send_stream_data(stream, encode_frame(FrameType.DATA, b"")[:1])
            pair.pump()
            pair.client.reset_stream(stream, 1)
            pair.pump()
        else:
            pair.ask("/health")
    assert len(pair.app._taken) <= 3  # the client's own three streams
    assert len(pair.app._http._stream) == before


async def test_metrics_nobody_waits_for_any_more_harm_nothing(pair: Pair) -> None:
    stream = pair.send("/metrics")
    pair.client.stop_stream(stream, 1)
    pair.pump()
    (task,) = pair.tasks
    await task()
    pair.pump()
    pair.send("/metrics")
    pair.link.close()
    await pair.tasks[1]()
    assert pair.heads == {}


async def test_one_who_asks_and_takes_nothing_is_cut_off(pair: Pair) -> None:
    assert pair.app is not None
    for _ in range(2000):
        pair.app._requests._packets_full_at = 0.0
        stream = pair.client.get_next_available_stream_id()
        head = [(b":method", b"GET"), (b":authority", b"n"), (b":path", b"/health")]
        pair.http.send_headers(stream, head, True)
        pair.now += 0.01
        for data, _ in pair.client.datagrams_to_send(now=pair.now):
            pair.server.receive_datagram(data, CLIENT, now=pair.now)
        pair._server_events()
        if pair.link.closes:
            break
    assert pair.link.closes == [ErrorCode.H3_EXCESSIVE_LOAD]


# -- somebody else's client -----------------------------------------------------------------------


@pytest.fixture
def ngtcp2() -> str:
    return need_command("gtlsclient", package="ngtcp2-client")


async def test_a_client_we_did_not_write_reads_all_three(ngtcp2: str, tmp_path: Path) -> None:
    config = ProxyConfig(control=Control(h3=True))
    relay = FakeRelay(config=config, sessions=3)
    server = ControlServer(
        state=node_state(config, relay=relay),
        store=InviteStore(tmp_path / FILE),
        plane=relay,
        identity=IDENTITY,
    )
    with closing(open_socket(("127.0.0.1", 0))) as sock:
        async with stage(partial(server.run, sock)):
            host, port = sock.getsockname()
            words: list[Any] = ["--exit-on-all-streams-close", "--quiet", "--timeout=20s"]
            words += [f"--download={tmp_path}", host, port]
            words += [f"https://node.example.com/{path}" for path in ("health", "metrics", "nodes")]
            with trio.fail_after(60):
                await trio.run_process([ngtcp2, *map(str, words)], capture_stderr=True)
    assert json.loads((tmp_path / "health").read_text())["active_connections"] == 3
    assert "lightspeed_active_connections 3.0" in (tmp_path / "metrics").read_text()
    assert json.loads((tmp_path / "nodes").read_text())["nodes"][0]["node_id"] == "node-1"
    assert server.state.control.h3_requests == 3
