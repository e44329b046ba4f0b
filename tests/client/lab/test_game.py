from __future__ import annotations

import subprocess
import sys

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.lab.game import (
    FORGET_S,
    MAX_PLAYERS,
    GameServer,
    Message,
    decode,
    label_of,
    serve_game,
)
from lightspeed_client.lab.player import Bot, play
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.runtime.udp import UdpPort
from trio.testing import MockClock

A, B = ("127.0.0.1", 1001), ("127.0.0.1", 1002)


def an_input(number: int, at: float = 0.0) -> bytes:
    return Message("input", 0, number, at, 0, 0.0).encode(60)


@given(st.integers(1, 10**7), st.floats(0, 10**7), st.integers(0, 10**7), st.integers(0, 2000))
def test_messages_survive_the_wire_at_the_wanted_size(
    number: int, sent_at: float, heard: int, size: int
) -> None:
    sent = Message("state", 0, number, sent_at, heard, 0.25)
    payload = sent.encode(size)
    got = decode(payload)
    assert (got.kind, got.number, got.heard, got.held_s) == ("state", number, heard, 0.25)
    assert got.sent_at == pytest.approx(sent_at, abs=1e-6)
    assert payload.isascii()
    if 80 <= size <= 800:
        assert len(payload) == size
    assert label_of(payload) == (0, number)


@given(st.binary(max_size=120))
def test_arbitrary_bytes_raise_nothing_but_the_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        decode(data)
    assert label_of(data) is None


@given(st.integers(0, 79), st.integers(1, 255))
def test_one_changed_byte_is_noticed(position: int, change: int) -> None:
    payload = bytearray(Message("input", 0, 7, 1.5, 3, 0.0).encode(80))
    payload[position] ^= change
    try:
        same = decode(bytes(payload)) == Message("input", 0, 7, 1.5, 3, 0.0)
    except WireError:
        return
    assert same  # only the spelling of the checksum changed: upper case, or its blank


def test_each_player_gets_one_state_a_tick_whatever_it_sends() -> None:
    server = GameServer(seed=1)
    assert server.poll(5.0) == []
    server.receive(an_input(1), A, 10.0)
    server.receive(an_input(1), B, 10.0)
    for n in range(2, 9):
        server.receive(an_input(n), A, 10.01)
    out: list[tuple[bytes, tuple[str, int]]] = []
    for _ in range(10):
        out += server.poll(server.next_deadline())
    for address, heard in ((A, 8), (B, 1)):
        states = [decode(payload) for payload, to in out if to == address]
        assert [state.number for state in states] == list(range(1, 11))
        assert {state.heard for state in states} == {heard}
    assert all(60 <= len(payload) <= 400 for payload, _ in out)
    assert server.players[A].inputs.numbers == set(range(1, 9))


def test_sizes_of_states_depend_on_the_seed_and_the_player_only() -> None:
    def sizes(seed: int) -> list[int]:
        server = GameServer(seed)
        server.receive(an_input(1), A, 0.0)
        return [len(p) for _ in range(50) for p, _ in server.poll(server.next_deadline())]

    assert sizes(1) == sizes(1) != sizes(2)


def test_a_silent_player_leaves_and_the_ticks_stop() -> None:
    server = GameServer()
    server.receive(an_input(1), A, 0.0)
    sent = 0
    while server.players:
        sent += len(server.poll(server.next_deadline()))
    assert sent == pytest.approx(FORGET_S * 64, abs=2)
    assert server.next_deadline() == float("inf")
    assert [player.address for player in server.left] == [A]


def test_strange_packets_and_too_many_players_are_counted() -> None:
    server = GameServer()
    server.receive(b"junk", A, 0.0)
    server.receive(Message("state", 0, 1, 0.0, 0, 0.0).encode(60), A, 0.0)
    assert (server.corrupt, len(server.players)) == (2, 0)
    for port in range(MAX_PLAYERS + 3):
        server.receive(an_input(1), ("127.0.0.1", 2000 + port), 0.0)
    assert (len(server.players), server.refused) == (MAX_PLAYERS, 3)


def test_after_a_stall_the_server_skips_instead_of_flooding() -> None:
    server = GameServer()
    server.receive(an_input(1), A, 0.0)
    server.poll(server.next_deadline())
    made_up = 0
    while server.poll(100.0 - FORGET_S * 9.5):  # 5 s later, still no news
        made_up += 1
    assert made_up <= 6
    assert server.skipped > 200
    assert 4 <= server.late_ticks <= made_up
    assert server.worst_s == pytest.approx(5.0, abs=0.1)


async def test_a_match_without_loss_is_whole(autojump_clock: MockClock) -> None:
    server = GameServer(seed=3)
    bot = Bot(seed=3, start=trio.current_time() + 0.1)
    with UdpPort.bind(("127.0.0.1", 0)) as there, UdpPort.bind(("127.0.0.1", 0)) as here:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_game, server, there, trio.current_time)
            await nursery.start(play, bot, here, there.address, trio.current_time)
            await trio.sleep(20)
            bot.stopped = server.stopped = True
            await trio.sleep(1)
            nursery.cancel_scope.cancel("test over")
    (player,) = server.players.values()
    assert bot.sent == pytest.approx(20 * 64, abs=10)
    assert player.inputs.numbers == set(range(1, bot.sent + 1))
    assert bot.states.numbers == set(range(1, player.sent + 1))
    assert player.sent == pytest.approx(20 * 64, abs=10)
    assert (bot.corrupt, server.corrupt, bot.states.duplicates) == (0, 0, 0)
    assert max(bot.round_trips) <= 2.1 / 64


def test_the_server_runs_alone() -> None:
    command = [sys.executable, "-m", "lightspeed_client.lab.game", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().strip().rpartition(":")
        try:
            answer = trio.run(_first_state, (host, int(port)))
        finally:
            process.terminate()
    assert (answer.kind, answer.number, answer.heard) == ("state", 1, 1)


async def _first_state(server: tuple[str, int]) -> Message:
    with UdpPort.bind(("127.0.0.1", 0)) as port, trio.fail_after(5):
        port.send(an_input(1), server)
        return decode((await port.receive())[0][0])


def test_a_wrong_listen_address_is_one_clear_line() -> None:
    command = [sys.executable, "-m", "lightspeed_client.lab.game", "--listen"]
    for wrong, word in (("nonsense", "HOST:PORT"), ("192.0.2.1:9", "cannot listen")):
        done = subprocess.run([*command, wrong], capture_output=True, text=True, check=False)
        assert done.returncode in (1, 2)
        assert word in done.stderr
        assert "Traceback" not in done.stderr
