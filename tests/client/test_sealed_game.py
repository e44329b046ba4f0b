from __future__ import annotations

from collections import Counter

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.fec_choice import RepairTerms
from lightspeed_client.labels import label
from lightspeed_client.sealed_game import SealedGame, room
from lightspeed_protocol.fec.protection import Protection
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.header import swap_addresses
from lightspeed_protocol.seal import Opened, SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow

from tests.support.repair import fixed, xor

GAME = ("127.0.0.1", 5000)
SERVER = ("203.0.113.5", 27960)
SERVER6 = ("2001:db8::5", 27960)
KEY = bytes(16)


def fresh(server: tuple[str, int] = SERVER, fec_k: int | None = None) -> SealedGame:
    return SealedGame.open(
        GAME,
        label(GAME, server),
        0.0,
        Counter(),
        end=SealedEnd.client(7, KEY),
        terms=RepairTerms(up=xor(fec_k).up),
        largest_bytes=1500,
    )


def node_flow(fec_k: int | None = None, key: bytes = KEY) -> SealedFlow:
    plan = None if fec_k is None else Plan.xor(fec_k)
    back = swap_addresses(label(GAME, SERVER))
    return SealedFlow.open(SealedEnd.node(7, key), back, fixed(plan))


def opened(end: SealedEnd, datagram: bytes) -> Opened:
    return end.open(datagram, 0.0)


@pytest.mark.parametrize(("server", "header"), [(SERVER, 36), (SERVER6, 60)])
def test_a_packet_has_the_header_of_its_family(server: tuple[str, int], header: int) -> None:
    game = fresh(server)
    (datagram,) = game.from_game(b"hello", 1.0, 5)
    assert len(datagram) == header + 5
    assert opened(SealedEnd.node(7, KEY), datagram).payload == b"hello"
    assert game.from_game(bytes(1500 - header), 1.0, 5) != ()
    assert game.from_game(bytes(1501 - header), 1.0, 5) == ()
    assert game.from_game(b"", 1.0, 5) == ()
    assert dict(game.drops) == {"oversize-from-game": 1, "empty-from-game": 1}
    assert game.tally().tunnel_bytes_out == header + 5 + 1500
    assert room(label(GAME, server), 1500) == 1500 - header


def test_counting_goes_on_over_new_keys() -> None:
    game, node = fresh(fec_k=2), node_flow()
    down = SealedEnd.client(7, KEY)
    for number in range(4):
        game.from_game(b"up %d" % number, 1.0, 0)
        (datagram,) = node.wrap(b"down", 0, 0.0)
        assert game.from_node(opened(down, datagram), 0.0) == [b"down"]
    before = game.tally()
    assert (before.sent, before.repair_sent, before.received, before.wanted_down) == (4, 2, 4, 4)
    for key in (b"1" * 16, b"2" * 16, b"3" * 16):
        game.renew(SealedEnd.client(7, key), RepairTerms(), 1500)
        assert game.tally() == before
    game.from_game(b"up", 1.0, 0)
    assert game.tally().sent == 5
    assert game.tally().repair_sent == 2, "the new session takes none"


def test_a_late_packet_under_the_keys_before_is_delivered_once() -> None:
    game, node, down = fresh(), node_flow(fec_k=2), SealedEnd.client(7, KEY)
    for number in range(2):  # repair begins with the first repair packet that is seen
        for datagram in node.wrap(b"early %d" % number, 0, 0.0):
            game.from_node(opened(down, datagram), 0.0)
    first = node.wrap(b"one", 0, 0.0)
    second, repair = node.wrap(b"two", 0, 0.0)
    assert game.from_node(opened(down, first[0]), 0.0) == [b"one"]
    game.renew(SealedEnd.client(7, b"1" * 16), RepairTerms(), 1500)
    assert game.from_node(opened(down, repair), 0.0, late=True) == [b"two"]
    assert game.from_node(opened(down, second), 0.0, late=True) == []
    assert game.tally().duplicates == 1
    assert game.tally().received == 4


def test_what_came_under_the_keys_before_is_never_rebuilt_under_these() -> None:
    game, node = fresh(), node_flow()
    node.protector.change(fixed(Plan(1, 3)))
    down, got = SealedEnd.client(7, KEY), list[bytes]()
    for number in range(4):
        for datagram in node.wrap(b"old %d" % number, 0, 0.0):
            got += game.from_node(opened(down, datagram), 0.0)
    key = b"1" * 16
    game.renew(down := SealedEnd.client(7, key), RepairTerms(), 1500)
    node.end = SealedEnd.node(7, key)  # resumed: the node's flow counts on
    for number in range(6):
        source, repair = node.wrap(b"new %d" % number, 0, 0.0)
        if number != 3:
            got += game.from_node(opened(down, source), 0.0)
        got += game.from_node(opened(down, repair), 0.0)
    assert got == [b"old %d" % i for i in range(4)] + [b"new %d" % i for i in range(6)]


def test_what_was_refused_or_asked_for_is_counted_once_over_new_keys() -> None:
    protection = Protection(adaptive=True, cap=1.0)
    terms = RepairTerms(up=protection, reports_s=0.25, asking=True)
    game = fresh()
    game.renew(SealedEnd.client(7, KEY), terms, 1500)
    game.renew(end := SealedEnd.client(7, KEY), terms, 1500)
    end.round_trip_s = 0.01
    node = node_flow()
    for number in range(600):
        now = number / 64
        game.from_game(bytes(1000), now, 0)
        for datagram in node.wrap(b"down %d" % number, 0, now):
            if number % 10 != 5:
                game.from_node(opened(end, datagram), now)
        game.poll(now + 0.014)
    before = game.tally()
    assert before.repair_capped > 50
    assert before.repair_asked > 50
    for key in (b"1" * 16, b"2" * 16):
        game.renew(SealedEnd.client(7, key), attrs.evolve(terms, up=fixed(None)), 1500)
        assert game.tally() == before


@given(st.integers(0, 15), st.binary(min_size=4, max_size=4), st.binary(max_size=80))
def test_an_authentic_but_senseless_packet_is_counted_and_raises_nothing(
    flags: int, field: bytes, payload: bytes
) -> None:
    game = fresh()
    got = game.from_node(Opened(flags & 8, 1, 0, game.label, field, payload, True), 0.0)
    assert got in ([], [payload])
    assert game.drops.total() <= 1
    assert game.tally().received == len(got)
