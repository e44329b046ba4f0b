"""Flows are found by their answers, and send by time what no game packet carries."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from lightspeed_client.fec_choice import RepairTerms, parse_fec
from lightspeed_client.labels import label
from lightspeed_client.sealed_flows import SealedFlows
from lightspeed_client.sealed_game import SealedGame
from lightspeed_protocol.header import swap_addresses
from lightspeed_protocol.seal import REPAIR, SealedEnd
from trio.testing import MockClock

from .fakes import SERVER, FakeNet

GAME = ("127.0.0.1", 5000)


def a_game(fec: str) -> SealedGame:
    return SealedGame.open(
        GAME,
        label(GAME, SERVER),
        0.0,
        Counter(),
        end=SealedEnd.client(7, bytes(16)),
        terms=RepairTerms(up=parse_fec(fec).up),
        largest_bytes=1500,
    )


async def test_a_repair_leaves_by_time_although_deadlines_move(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    sent: list[tuple[float, bytes]] = []

    def send(datagram: bytes) -> bool:
        sent.append((trio.current_time(), datagram))
        return True

    flows = SealedFlows(send, lambda _: None)
    nursery.start_soon(flows.run_due)
    carried = flows.add(a_game("xor:4"), FakeNet().bind(GAME))
    for _ in range(6):  # each packet moves the deadline that stands
        now = trio.current_time()
        for datagram in carried.flow.from_game(b"x", now, 0):
            assert carried.send(datagram)
        await trio.sleep(1 / 64)
    last = trio.current_time() - 1 / 64
    await trio.sleep(1)
    late = [at - last for at, datagram in sent if datagram[0] & REPAIR and at > last]
    assert late == pytest.approx([0.0234, 0.0469], abs=1e-3)
    nursery.cancel_scope.cancel("test over")


async def test_a_dropped_flow_says_fin_once_and_sends_no_more(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    sent: list[bytes] = []
    fins: list[bytes] = []

    def send(datagram: bytes) -> bool:
        sent.append(datagram)
        return True

    flows = SealedFlows(send, fins.append)
    nursery.start_soon(flows.run_due)
    carried = flows.add(a_game("xor:4"), FakeNet().bind(GAME))
    own = carried.flow.label
    assert flows.find(swap_addresses(own)) is carried
    assert list(flows) == [carried.flow]
    for datagram in carried.flow.from_game(b"x", trio.current_time(), 0):
        carried.send(datagram)
    carried.close("the game has been silent")
    carried.close("again")
    await trio.sleep(1)
    assert (len(sent), fins, list(flows)) == (1, [own], [])
    assert flows.find(swap_addresses(own)) is None
    nursery.cancel_scope.cancel("test over")
