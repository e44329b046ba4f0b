from __future__ import annotations

from collections import Counter

from lightspeed_client.flows import GIVES_WAY_S, FlowTable, Tally
from lightspeed_client.open_flow import OpenFlow
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.header import pack_addresses

SERVER = ("203.0.113.5", 27960)


def open_flow(table: FlowTable | None = None, port: int = 5000, now: float = 0.0) -> OpenFlow:
    game = ("127.0.0.1", port)
    flow = OpenFlow(game, Endpoint.open(pack_addresses(game, SERVER)), now, Counter())
    (table or FlowTable()).add(flow)
    return flow


def test_a_full_table_says_so() -> None:
    table = FlowTable(max_flows=2)
    for port in (1, 2):
        assert not table.full
        open_flow(table, port)
    assert table.full
    assert table.opened == 2


def test_what_a_tunnel_counts_for_all_flows_is_in_the_tally() -> None:
    table = FlowTable(shared=lambda: Tally(expected_down=5, duplicates=1))
    open_flow(table).from_game(b"x", 1.0, 0)
    assert table.tally() == Tally(
        sent=1, game_bytes_out=1, tunnel_bytes_out=21, expected_down=5, duplicates=1
    )


def test_in_a_full_table_the_most_silent_gives_way_but_no_game_in_play() -> None:
    table = FlowTable(max_flows=2)
    first = open_flow(table, 1, now=0.0)
    assert table.most_silent(100.0) is None
    open_flow(table, 2, now=5.0)
    assert table.most_silent(GIVES_WAY_S - 0.1) is None
    assert table.most_silent(GIVES_WAY_S) is first


def test_only_the_game_keeps_its_flow_alive() -> None:
    table = FlowTable(idle_s=300)
    flow = open_flow(table, now=0.0)
    flow.from_node(b"\x10" + bytes(19) + b"state", 1.0)
    assert table.expired(299.9) == []
    assert table.expired(300.0) == [flow]
    flow.from_game(b"x", 200.0, 0)
    assert table.expired(499.9) == []


def test_a_closed_flow_stays_in_the_tally_once() -> None:
    table = FlowTable()
    flow = open_flow(table)
    flow.from_game(b"12345", 1.0, 0)
    before = table.tally()
    table.remove(flow)
    table.remove(flow)
    assert table.tally() == before
    assert (before.sent, before.game_bytes_out, before.tunnel_bytes_out) == (1, 5, 25)
    assert table.game_silent_s(4.0) == 3.0


def test_silence_is_unknown_before_any_game() -> None:
    assert FlowTable().game_silent_s(5.0) is None


def test_tallies_add_and_subtract() -> None:
    one, two = Tally(sent=3, repaired=1), Tally(sent=4, duplicates=2)
    assert one + two - two == one
