from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Any

import pytest
import trio
from lightspeed_protocol.runtime.daemon import stage
from lightspeed_protocol.runtime.http import HttpCounters, HttpLimits, listen, serve_http
from trio.testing import MockClock

from tests.support.web import Answer, ask, connect, read_answer, request

DEFAULTS = HttpLimits()
Server = tuple[tuple[str, int], HttpCounters]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """/slow waits 0.2 s, /never for ever, /huge answers 64 MB, /broken raises."""
    match scope["path"]:
        case "/slow":
            await trio.sleep(0.2)
        case "/never":
            await trio.sleep_forever()
        case "/broken":
            raise ZeroDivisionError
        case _:
            pass
    size = 64_000_000 if scope["path"] == "/huge" else 2
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(size)})


@asynccontextmanager
async def serving(limits: HttpLimits = DEFAULTS) -> AsyncIterator[Server]:
    counters = HttpCounters()
    with closing(listen(("127.0.0.1", 0))) as listener:
        serve = partial(serve_http, app, listener, limits=limits, counters=counters)
        async with stage(serve) as address:
            assert address == listener.getsockname()
            yield address, counters
        assert listener.fileno() >= 0  # it outlives the task, so the task can start again


async def test_answers_and_keeps_the_connection() -> None:
    async with serving() as (address, counters), connect(address) as stream:
        for _ in range(3):
            await stream.send_all(request("GET", "/"))
            answer = await read_answer(stream)
            assert answer is not None
            assert answer.status == 200
            assert "server" not in answer.headers  # nobody's business
        assert counters.connections == 1


async def test_connections_wait_in_the_listener_until_the_task_serves() -> None:
    with closing(listen(("127.0.0.1", 0))) as listener:
        async with connect(listener.getsockname()) as stream:
            await stream.send_all(request("GET", "/"))
            async with stage(partial(serve_http, app, listener)):
                assert await read_answer(stream) is not None


async def test_a_bug_in_the_app_is_a_500_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as (address, _):
        assert (await ask(address, "GET", "/broken")).status == 500
        assert "ZeroDivisionError" in caplog.text
        assert (await ask(address, "GET", "/")).status == 200


async def test_what_goes_wrong_in_hypercorn_ends_one_connection_only(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with serving() as (address, counters):
        async with connect(address) as stream:
            # settings that are no base64: hypercorn's own worker would fall over with the daemon
            upgrade = ["Upgrade: h2c", "HTTP2-Settings: AAEAA", "Connection: upgrade"]
            await stream.send_all(request("GET", "/", headers=upgrade))
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some(65536):
                    pass
        await trio.testing.wait_all_tasks_blocked()
        assert counters.failed == 1
        assert "an HTTP connection failed" in caplog.text
        assert (await ask(address, "GET", "/")).status == 200


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nHTTP2-Settings: !!\r\n"
        b"Connection: upgrade\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n",
    ],
    ids=range(11),
)
async def test_junk_ends_its_own_connection_only(junk: bytes, autojump_clock: MockClock) -> None:
    async with serving() as (address, _):
        async with connect(address) as stream:
            await stream.send_all(junk)
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some(65536):
                    pass  # whatever is said, the end comes
        assert (await ask(address, "GET", "/")).status == 200


async def test_one_connection_too_many_is_closed_and_counted() -> None:
    async with serving(HttpLimits(connections=2)) as (address, counters):
        async with connect(address) as first, connect(address) as second:
            for stream in (first, second):
                await stream.send_all(request("GET", "/"))
                assert await read_answer(stream) is not None
            async with connect(address) as third:
                assert await read_answer(third) is None
            assert counters.refused == 1
        for _ in range(20):  # they are gone, and each of these is gone before the next
            await trio.testing.wait_all_tasks_blocked()
            assert (await ask(address, "GET", "/")).status == 200
        assert counters.refused == 1


async def test_a_client_that_ends_its_side_early_still_gets_its_answer() -> None:
    async with serving() as (address, _), connect(address) as stream:
        await stream.send_all(request("GET", "/slow"))
        await stream.send_eof()
        answer = await read_answer(stream)
        assert answer is not None
        assert answer.status == 200


async def test_a_silent_and_a_dawdling_client_are_cut_off(autojump_clock: MockClock) -> None:
    async with serving(HttpLimits(idle_s=5.0)) as (address, _), connect(address) as stream:
        began = trio.current_time()
        await stream.send_all(b"GET / HTT")  # and never the rest
        assert await read_answer(stream) is None
        assert trio.current_time() - began == pytest.approx(5.0, abs=0.1)


async def test_an_endless_request_is_cut_off(autojump_clock: MockClock) -> None:
    async with serving(HttpLimits(connection_s=60.0)) as (address, _), connect(address) as stream:
        began = trio.current_time()
        await stream.send_all(request("GET", "/never"))
        assert await read_answer(stream) is None
        assert trio.current_time() - began == pytest.approx(60.0, abs=0.1)


async def test_stopping_lets_an_open_request_finish_and_waits_no_longer(
    autojump_clock: MockClock,
) -> None:
    answers: list[tuple[str, Answer | None]] = []
    async with trio.open_nursery() as nursery:

        async def get(path: str) -> None:
            async with connect(address) as stream:
                await stream.send_all(request("GET", path))
                answers.append((path, await read_answer(stream)))

        async with serving(HttpLimits(grace_s=0.5)) as (address, counters), connect(address):
            nursery.start_soon(get, "/slow")
            nursery.start_soon(get, "/never")
            while counters.connections < 3:
                await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()  # both requests have been read
            began = trio.current_time()
        assert trio.current_time() - began == pytest.approx(0.5, abs=0.05)
    by_path = dict(answers)
    assert by_path["/never"] is None
    assert by_path["/slow"] is not None
    assert by_path["/slow"].status == 200


async def test_a_client_that_does_not_read_cannot_hold_up_the_stop(
    autojump_clock: MockClock,
) -> None:
    async with serving(HttpLimits(grace_s=0.5)) as (address, _):
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(request("GET", "/huge"))
        await stream.receive_some(1)  # the answer is under way and the buffers are full
        began = trio.current_time()
    assert trio.current_time() - began <= 0.6
    await stream.aclose()


async def test_without_open_requests_stopping_takes_no_time(autojump_clock: MockClock) -> None:
    async with serving() as (address, _), connect(address) as stream:
        await stream.send_all(request("GET", "/"))
        assert await read_answer(stream) is not None
        began = trio.current_time()
    assert trio.current_time() == began


def test_a_port_in_use_is_an_os_error() -> None:
    with closing(listen(("127.0.0.1", 0))) as listener, pytest.raises(OSError, match="in use"):
        listen(listener.getsockname())


def test_ipv6_listens_on_ipv6_only() -> None:
    try:
        sock = listen(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with closing(sock):
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


async def test_nothing_is_logged_about_ordinary_requests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as (address, _):
        await ask(address, "GET", "/?secret=1")
    assert caplog.text == ""
