from __future__ import annotations

import socket
import struct
from contextlib import closing

import pytest
import trio
from lightspeed_protocol.control_messages import MOST_PROBES, ProbeMethod, ProbeResult
from lightspeed_proxy.probe import (
    AT_ONCE,
    WITHIN_S,
    Prober,
    Tries,
    answered,
    echo,
    knock,
    open_echo_socket,
)
from trio.testing import MockClock

HOST = "198.51.100.1"


async def silence(address: str, port: int, count: int, tries: Tries) -> None:
    tries.sent = count
    await trio.sleep_forever()


async def impossible(address: str, port: int, count: int, tries: Tries) -> None:
    """As where the system allows no echo."""


class Answers:
    def __init__(self, *times_s: float) -> None:
        self.times_s = times_s
        self.asked: list[tuple[str, int, int]] = []

    async def __call__(self, address: str, port: int, count: int, tries: Tries) -> None:
        self.asked.append((address, port, count))
        tries.sent = count
        tries.round_trips_s += self.times_s


async def test_an_echo_that_answers_is_enough() -> None:
    echoes, knocks = Answers(0.03, 0.01, 0.02), Answers(1.0)
    result = await Prober(echo=echoes, knock=knocks).measure(HOST, 27015, 5)
    assert result == ProbeResult(ProbeMethod.ICMP, 5, 3, 10_000, 20_000)
    assert echoes.asked == [(HOST, 27015, 5)]
    assert knocks.asked == []


async def test_a_host_that_does_not_answer_echoes_is_asked_for_a_connection(
    autojump_clock: MockClock,
) -> None:
    for echoes in (silence, impossible):
        knocks = Answers(0.005)
        result = await Prober(echo=echoes, knock=knocks).measure(HOST, 27015, 1)
        assert result == ProbeResult(ProbeMethod.TCP, 1, 1, 5000, 5000)
        assert knocks.asked == [(HOST, 27015, 1)]


async def test_some_echoes_are_enough_when_the_rest_is_lost(autojump_clock: MockClock) -> None:
    async def lossy(address: str, port: int, count: int, tries: Tries) -> None:
        tries.sent = count
        tries.round_trips_s.append(0.2)
        await trio.sleep_forever()

    result = await Prober(echo=lossy).measure(HOST, 1, 4)
    assert result == ProbeResult(ProbeMethod.ICMP, 4, 1, 200_000, 200_000)


async def test_silence_is_said_and_takes_its_time_and_no_more(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    result = await Prober(echo=silence, knock=silence).measure(HOST, 27015, 3)
    assert result == ProbeResult(ProbeMethod.NOTHING, 3, 0, 0, 0)
    assert trio.current_time() - began == pytest.approx(WITHIN_S)


@pytest.mark.parametrize(("asked", "done"), [(0, 1), (1, 1), (10, 10), (255, MOST_PROBES)])
async def test_nobody_makes_it_send_more_than_a_few(asked: int, done: int) -> None:
    echoes = Answers(0.1)
    await Prober(echo=echoes).measure(HOST, 1, asked)
    assert echoes.asked == [(HOST, 1, done)]


async def test_only_so_many_run_at_once(autojump_clock: MockClock) -> None:
    prober = Prober(echo=silence, knock=silence)
    async with trio.open_nursery() as nursery:
        for number in range(AT_ONCE):
            assert not prober.busy, number
            nursery.start_soon(prober.measure, HOST, 1, 1)
            await trio.sleep(0.1)
        assert prober.busy
    assert not prober.busy


async def test_one_that_is_given_up_makes_room(autojump_clock: MockClock) -> None:
    prober = Prober(echo=silence)
    with trio.move_on_after(0.5):
        await prober.measure(HOST, 1, 1)
    assert prober.running == 0


# -- packets -----------------------------------------------------------------------------------


def reply(kind: int, code: int, number: int, nonce: bytes) -> bytes:
    return struct.pack("!BBHHH", kind, code, 0, 77, number) + nonce


@pytest.mark.parametrize(
    ("packet", "ipv6", "number"),
    [
        (reply(0, 0, 3, b"nonce678"), False, 3),
        (reply(129, 0, 3, b"nonce678"), True, 3),
        (reply(8, 0, 3, b"nonce678"), False, None),  # an echo request, not its answer
        (reply(0, 0, 3, b"nonce678"), True, None),
        (reply(3, 1, 3, b"nonce678"), False, None),
        (reply(0, 1, 3, b"nonce678"), False, None),
        (reply(0, 0, 3, b"somebody"), False, None),
        (reply(0, 0, 3, b"nonce6789"), False, None),
        (b"", False, None),
        (b"\0" * 7, False, None),
    ],
)
def test_only_answers_to_ones_own_echoes_count(
    packet: bytes, ipv6: bool, number: int | None
) -> None:
    assert answered(packet, b"nonce678", ipv6=ipv6) == number


# -- on this machine -----------------------------------------------------------------------------


@pytest.fixture
def listening() -> tuple[socket.socket, int]:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(20)
    return sock, sock.getsockname()[1]


async def test_an_open_and_a_closed_port_both_tell_the_round_trip(
    listening: tuple[socket.socket, int],
) -> None:
    sock, port = listening
    for _ in range(2):
        tries = Tries()
        await knock("127.0.0.1", port, 4, tries)
        assert (tries.sent, len(tries.round_trips_s)) == (4, 4)
        assert min(tries.round_trips_s) > 0
        sock.close()


async def test_a_connection_leaves_nothing_behind(listening: tuple[socket.socket, int]) -> None:
    sock, port = listening
    with closing(sock):
        await knock("127.0.0.1", port, 1, Tries())
        sock.settimeout(5.0)
        connection, _ = sock.accept()
        with closing(connection), pytest.raises(ConnectionResetError):
            connection.recv(1)


async def test_an_address_without_a_way_to_it_is_silence() -> None:
    tries = Tries()
    await knock("255.255.255.255", 9, 3, tries)
    assert tries.round_trips_s == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_real_echoes_are_answered_where_the_system_allows_them(address: str) -> None:
    """Whether it does depends on the machine; either way the answer is a true one."""
    tries = Tries()
    with trio.move_on_after(10.0):
        await echo(address, 0, 2, tries)
    sock = open_echo_socket(address)
    if sock is None:
        assert (tries.sent, tries.round_trips_s) == (0, [])
        return
    with sock:
        assert tries.sent == 2
        assert all(0 < time_s < 10 for time_s in tries.round_trips_s)
