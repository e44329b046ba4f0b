from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from lightspeed_client.games.query import EVERY_KIND, HELLO, question
from lightspeed_client.modes.asking import SAMPLES, Answer, ask
from trio.testing import MockClock

from ..fakes import SERVER, FakeNet

INFO = b"\xff\xff\xff\xffinfoResponse\n\\hostname\\x"


async def asked(
    server: Callable[[bytes], bytes | None], kinds: tuple[str, ...] = EVERY_KIND
) -> Answer | None:
    net = FakeNet()
    with net.bind(SERVER) as port, net.bind(("0.0.0.0", 0)) as game:
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                while True:
                    for payload, source in await port.receive():
                        answer = server(payload)
                        if answer is not None:
                            await trio.sleep(0.02)
                            port.send(answer, source)

            nursery.start_soon(serve)
            answer = await ask(game, SERVER, kinds)
            nursery.cancel_scope.cancel("test over")
    return answer


async def test_a_servers_kind_is_found_and_its_round_trip_timed(autojump_clock: MockClock) -> None:
    answer = await asked(lambda payload: INFO if b"getinfo" in payload else None)
    assert answer is not None
    assert (answer.kind, answer.asked) == ("quake3", "quake3")
    assert answer.rtts_s == pytest.approx((0.02,) * SAMPLES)
    assert "a Quake 3 family server answered 5 of 5, median 20.0 ms" in answer.words


async def test_an_echo_is_called_an_echo(autojump_clock: MockClock) -> None:
    for kinds in (EVERY_KIND, ("none",), ("luanti",)):
        answer = await asked(lambda payload: payload, kinds)
        assert answer is not None
        assert answer.kind == "none"


async def test_a_server_that_answers_only_hello_is_found(autojump_clock: MockClock) -> None:
    answer = await asked(lambda payload: b"welcome" if payload == HELLO else None)
    assert answer is not None
    assert answer.kind is None
    assert "something answered" in answer.words


async def test_silence_is_none_within_seconds(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    assert await asked(lambda _: None) is None
    assert trio.current_time() - began < 5


async def test_one_lost_question_is_asked_again(autojump_clock: MockClock) -> None:
    heard: list[bytes] = []

    def server(payload: bytes) -> bytes | None:
        heard.append(payload)
        return None if len(heard) == 1 else INFO

    answer = await asked(server, ("quake3",))
    assert answer is not None
    assert set(heard) == {question("quake3")}


async def test_luanti_servers_are_told_goodbye(autojump_clock: MockClock) -> None:
    heard: list[bytes] = []

    def server(payload: bytes) -> bytes | None:
        heard.append(payload)
        if payload != question("luanti"):
            return None
        return bytes.fromhex("4f457403 0001 00 03 ffdc 00 01 002a")

    answer = await asked(server, ("luanti",))
    assert answer is not None
    assert answer.kind == "luanti"
    assert heard.count(bytes.fromhex("4f457403 002a 00 00 03")) == SAMPLES
