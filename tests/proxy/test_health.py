from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from ipaddress import ip_network

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.control_messages import Register
from lightspeed_protocol.extensions import RegisterExtensions, encode_register
from lightspeed_protocol.fec.protection import Protection
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.header import NO_ADDRESSES
from lightspeed_protocol.runtime.daemon import stage
from lightspeed_protocol.runtime.http import listen, serve_http
from lightspeed_protocol.runtime.quic_server import QuicCounters
from lightspeed_protocol.seal import SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow
from lightspeed_protocol.telemetry import TelemetryEvent, to_json
from lightspeed_proxy.abuse import Opened
from lightspeed_proxy.config import Http, ProxyConfig, Security
from lightspeed_proxy.credentials import Invites
from lightspeed_proxy.health import (
    choose_encoder,
    is_allowed,
    is_loopback,
    make_app,
    repair_words,
)
from lightspeed_proxy.rate_limit import Meter, Rates
from lightspeed_proxy.sessions import Flow, Session
from lightspeed_proxy.state import NodeState, TaskFigures
from trio.testing import MockClock

from tests.support.nodes import INVITE, TOKEN, FakeRelay, node_state
from tests.support.web import ask, connect, read_answer, request

from .test_admission import FakeConnection
from .test_telemetry import EVENT

REPORT = to_json(EVENT).encode()


@attrs.define
class World:
    address: tuple[str, int]
    state: NodeState
    inbox: trio.MemoryReceiveChannel[TelemetryEvent]


@asynccontextmanager
async def running(inbox_size: int = 8) -> AsyncIterator[World]:
    relay = FakeRelay(sessions=3, flows=5)
    state = node_state(relay=relay, started=trio.current_time() - 12.9)
    state.tasks = {"telemetry": TaskFigures()}
    send, receive = trio.open_memory_channel[TelemetryEvent](inbox_size)
    with closing(listen(("127.0.0.1", 0))) as listener, send, receive:
        async with stage(partial(serve_http, make_app(state, send), listener)) as address:
            yield World(address, state, receive)


@pytest.mark.parametrize("path", ["/health", "/", "/health?verbose=1"])
async def test_health_says_what_the_protocol_promises(path: str) -> None:
    async with running() as world:
        counters = world.state.counters
        counters.packets_up, counters.packets_down = 4, 5
        counters.bytes_up, counters.bytes_down = 400, 500
        counters.drops["short"], counters.drops["destination"] = 2, 1
        counters.fec_recovered, counters.sessions_created = 6, 9
        answer = await ask(world.address, "GET", path)
    assert answer.status == 200
    fields = json.loads(answer.body)
    documented = {
        "status": "healthy",
        "version": "0.1.0",
        "node_id": "node-1",
        "region": "unknown",
        "uptime_secs": 12,
        "active_connections": 3,
        "packets_relayed": 9,
        "packets_dropped": 3,
        "bytes_relayed": 900,
        "fec_recoveries": 6,
        "sessions_created": 9,
    }
    assert documented.items() <= fields.items()
    assert sum(fields["drops"].values()) == fields["packets_dropped"]
    assert fields["tasks"] == {"telemetry": {"state": "running", "restarts": 0}}


def register(world: World, *, version: int = 8, client: str = "1.0") -> FakeConnection:
    connection = FakeConnection()
    ext = RegisterExtensions(credential=TOKEN, versions=(version,), client=client)
    now = trio.current_time() - 10.0
    message = Register(8, 0, encode_register(ext))
    world.state.admission.register(message, "192.0.2.1", connection, now, 1.0)
    return connection


async def test_health_tells_what_happened_over_quic() -> None:
    async with running() as world:
        register(world)
        world.state.control.probes = 4
        world.state.quic = QuicCounters(handshakes=7)
        fields = json.loads((await ask(world.address, "GET", "/health")).body)
    assert (fields["open"], fields["invites"], fields["registered"]) == (False, 1, 1)
    assert fields["control"]["registrations"]["granted"] == 1
    assert fields["control"]["probes"] == 4
    assert fields["control"]["quic"]["handshakes"] == 7


async def test_invites_that_let_nobody_in_do_not_count() -> None:
    async with running() as world:
        world.state.admission.invites = Invites((attrs.evolve(INVITE, revoked=1),))
        fields = json.loads((await ask(world.address, "GET", "/health")).body)
        assert fields["invites"] == 0


async def test_the_sessions_are_listed_for_this_machine() -> None:
    async with running() as world:
        member = register(world, client="1.0\x1b[2J").member
        assert member is not None
        session = member.session
        session.client = ("::ffff:198.51.100.7", 5000, 0, 0)
        session.packets_up, session.packets_down = 10, 20
        session.last_heard = trio.current_time() - 2.0
        away = register(world)
        world.state.admission.lost(away, trio.current_time())
        answer = await ask(world.address, "GET", "/sessions")
    first, second = json.loads(answer.body)
    assert first.pop("age_s") >= 10.0
    assert first.pop("idle_s") >= 2.0
    assert first == {
        "session": f"{member.lease.session_id:08x}",
        "invite": "ada",
        "address": "198.51.100.7:5000",
        "connected": True,
        "flows": 0,
        "packets_up": 10,
        "packets_down": 20,
        "client": "1.0?[2J",
        "version": 8,
        "repair": None,
    }
    assert (second["address"], second["connected"]) == ("192.0.2.1", False)


def test_a_session_tells_how_its_latest_conversation_is_protected() -> None:
    meter = Meter(Rates(1, 1))
    session = Session(client=None, data=None, up=meter, down=meter, opened=Opened())
    assert repair_words(session) is None
    end = SealedEnd.node(7, bytes(16))
    with closing(socket.socket()) as sock:
        for key, plan, last_up in ((b"one", Plan.xor(4), 1.0), (b"two", None, 2.0)):
            sealed = SealedFlow.open(end, NO_ADDRESSES, Protection(plan=plan))
            session.flows[key] = Flow(session, key, sock, last_up, sealed=sealed)
        assert repair_words(session) == "no repair: no report, costs 1.00x"
        session.flows[b"one"].last_up = 3.0
        told = repair_words(session)
    assert told is not None
    assert told.startswith("1 XOR repair per 4 packets over 4: no report")
    session.flows[b"one"].sealed = None  # as of versions 1 and 2
    assert repair_words(session) is None


async def test_a_version_1_session_is_the_sum_of_its_ports() -> None:
    async with running() as world:
        world.state.config = attrs.evolve(ProxyConfig(), security=Security(legacy="registered"))
        world.state.admission.config = world.state.config
        member = register(world, version=1).member
        assert member is not None
        port = attrs.evolve(member.session, packets_up=5, packets_down=6)
        member.session.ports += [port, port]
        (found,) = json.loads((await ask(world.address, "GET", "/sessions")).body)
    assert (found["version"], found["packets_up"], found["packets_down"]) == (1, 10, 12)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_only_this_machine_sees_sessions(host: str, local: bool) -> None:
    assert is_loopback(host) is local


async def test_health_and_readiness_follow_the_node() -> None:
    async with running() as world:

        async def seen() -> tuple[int, str, int, int]:
            health = await ask(world.address, "GET", "/health")
            ready = await ask(world.address, "GET", "/readyz")
            live = await ask(world.address, "GET", "/livez")
            return health.status, json.loads(health.body)["status"], ready.status, live.status

        world.state.phase = "starting"
        assert await seen() == (200, "starting", 503, 200)
        world.state.phase = "ready"
        assert await seen() == (200, "healthy", 200, 200)
        world.state.tasks["telemetry"].state = "restarting"
        assert await seen() == (200, "degraded", 200, 200)
        world.state.phase = "draining"
        assert await seen() == (503, "draining", 503, 200)


async def test_metrics_come_in_the_format_that_is_asked_for() -> None:
    async with running() as world:
        plain = await ask(world.address, "GET", "/metrics")
        openmetrics = await ask(
            world.address, "GET", "/metrics", headers=["Accept: application/openmetrics-text"]
        )
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert b"lightspeed_active_connections 3.0" in plain.body
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/health/", 404),
        ("GET", "/healthy", 404),
        ("POST", "/telemetryXYZ", 404),
        ("GET", "//", 404),
        ("POST", "/health", 405),
        ("DELETE", "/metrics", 405),
        ("GET", "/telemetry", 405),
        ("PUT", "/telemetry", 405),
        ("POST", "/sessions", 405),
    ],
)
async def test_unknown_paths_and_wrong_methods(method: str, path: str, status: int) -> None:
    async with running() as world:
        answer = await ask(world.address, method, path)
    assert answer.status == status
    assert ("allow" in answer.headers) is (status == 405)


async def test_a_head_request_gets_the_head_only() -> None:
    async with running() as world:
        answer = await ask(world.address, "HEAD", "/health")
    assert (answer.status, answer.body) == (200, b"")


async def test_a_good_report_is_taken() -> None:
    async with running() as world:
        answer = await ask(world.address, "POST", "/telemetry", REPORT)
        assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})
        assert world.inbox.receive_nowait() == EVENT
        assert world.state.telemetry.received == 1


async def test_a_report_in_pieces_is_read_to_its_end() -> None:
    async with running() as world, connect(world.address) as stream:
        head = request("POST", "/telemetry", headers=[f"Content-Length: {len(REPORT)}"])
        for piece in (head[:20], head[20:], *(REPORT[i : i + 7] for i in range(0, 999, 7))):
            if piece:
                await stream.send_all(piece)
                await trio.testing.wait_all_tasks_blocked()
        answer = await read_answer(stream)
        assert answer is not None
        assert answer.status == 200
        assert world.inbox.receive_nowait() == EVENT


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a report"),
        (b"{", "not a report"),
        (b"[]", "not a report"),
        (b"\xff\xfe", "not a report"),
        (b'{"game_id": 1}', "not a report"),
        (to_json(attrs.evolve(EVENT, p50_ms=31.0)).encode(), "p50_ms"),
        (to_json(attrs.evolve(EVENT, jitter_ms=10_001.0)).encode(), "jitter_ms"),
        (to_json(attrs.evolve(EVENT, client_country="deu")).encode(), "country"),
        (to_json(attrs.evolve(EVENT, client_version="v" * 33)).encode(), "client_version"),
        (to_json(attrs.evolve(EVENT, sample_count=100_001)).encode(), "sample_count"),
    ],
)
async def test_a_bad_report_gets_400_and_the_reason(body: bytes, reason: str) -> None:
    async with running() as world:
        answer = await ask(world.address, "POST", "/telemetry", body)
        assert answer.status == 400
        assert reason in json.loads(answer.body)["error"]
        assert world.state.telemetry.refused == 1
        assert world.inbox.statistics().current_buffer_used == 0


async def test_2048_bytes_are_read_and_2049_refused() -> None:
    async with running() as world:
        padded = REPORT[:-1] + b" " * (2048 - len(REPORT)) + b"}"
        assert len(padded) == 2048
        assert (await ask(world.address, "POST", "/telemetry", padded)).status == 200
        assert (await ask(world.address, "POST", "/telemetry", padded + b" ")).status == 413
        huge = await ask(world.address, "POST", "/telemetry", bytes(1_000_000))
        assert huge.status == 413
        assert "2048" in json.loads(huge.body)["error"]
        assert world.state.telemetry.too_large == 2


async def test_a_slow_report_is_given_up(autojump_clock: MockClock) -> None:
    async with running() as world, connect(world.address) as stream:
        await stream.send_all(request("POST", "/telemetry", headers=["Content-Length: 100"]))
        began = trio.current_time()
        answer = await read_answer(stream)
        assert answer is not None
        assert answer.status == 408
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.1)
        assert world.state.telemetry.too_slow == 1


async def test_a_report_whose_sender_vanishes_harms_nothing() -> None:
    async with running() as world:
        async with connect(world.address) as stream:
            await stream.send_all(request("POST", "/telemetry", headers=["Content-Length: 100"]))
        await trio.testing.wait_all_tasks_blocked()
        assert (await ask(world.address, "POST", "/telemetry", REPORT)).status == 200
        assert world.state.http.failed == 0


async def test_a_full_inbox_is_said_and_counted() -> None:
    async with running(inbox_size=1) as world:
        assert (await ask(world.address, "POST", "/telemetry", REPORT)).status == 200
        assert (await ask(world.address, "POST", "/telemetry", REPORT)).status == 503
        assert world.state.telemetry.dropped == 1


async def test_a_stopping_node_takes_no_report() -> None:
    async with running() as world:
        world.state.phase = "draining"
        assert (await ask(world.address, "POST", "/telemetry", REPORT)).status == 503
        assert world.state.telemetry.dropped == 1
        assert world.inbox.statistics().current_buffer_used == 0


async def test_strangers_get_health_but_neither_metrics_nor_telemetry() -> None:
    async with running() as world:
        world.state.config = ProxyConfig(http=Http(allow=(ip_network("192.0.2.0/24"),)))
        spoof = ["X-Forwarded-For: 192.0.2.1"]
        assert (await ask(world.address, "GET", "/metrics", headers=spoof)).status == 403
        assert (await ask(world.address, "POST", "/telemetry", REPORT, spoof)).status == 403
        for path in ("/health", "/livez", "/readyz"):
            assert (await ask(world.address, "GET", path)).status == 200


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("198.51.100.1", False),
        ("2001:db8::7", True),
        ("2001:db9::7", False),
    ],
)
async def test_the_allow_list_knows_both_address_families(host: str, allowed: bool) -> None:
    async with running() as world:
        nets = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
        world.state.config = ProxyConfig(http=Http(allow=nets))
        assert is_allowed(world.state, host) is allowed


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain; version=a", "text/plain"),
        ("application/openmetrics-text; version=abc", "text/plain"),
        ("application/openmetrics-text;version=0.0.1", "text/plain"),
        ("application/openmetrics-text", "application/openmetrics-text"),
        (
            "application/openmetrics-text; version=1.0.0;escaping=underscores;q=0.6,text/plain",
            "application/openmetrics-text",
        ),
        ("text/plain;version=a,application/openmetrics-text", "application/openmetrics-text"),
    ],
)
async def test_metrics_are_written_as_asked_where_that_is_possible(accept: str, kind: str) -> None:
    async with running() as world:
        answer = await ask(world.address, "GET", "/metrics", headers=[f"Accept: {accept}"])
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(f"{kind}; version=")
    assert answer.body.endswith(b"# EOF\n") is (kind != "text/plain")


@given(st.text(max_size=60))
def test_no_accept_header_raises_or_is_repeated(accept: str) -> None:
    assert choose_encoder(accept)[1] == choose_encoder("")[1]
