from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.flows import GIVES_WAY_S, HANDSHAKE_S, Flow, FlowTable, SourceCensus, Tally
from lightspeed_protocol.header import HANDSHAKE, Header, decode

SERVER = ("203.0.113.5", 27960)


def open_flow(table: FlowTable | None = None, port: int = 5000, now: float = 0.0) -> Flow:
    flow = (table or FlowTable()).admit(("127.0.0.1", port), SERVER, now)
    assert flow is not None
    return flow


@given(st.binary(max_size=2100))
def test_any_bytes_from_the_node_are_delivered_or_counted_or_control(datagram: bytes) -> None:
    flow = open_flow()
    got = flow.from_node(datagram, 1.0)
    if got:
        assert got == [datagram[20:] if datagram[0] >> 4 == 1 else datagram[24:]]
    assert flow.received == len(got)
    assert flow.drops.total() <= 1


def test_a_handshake_is_answered_but_not_for_ever() -> None:
    flow = open_flow()
    question = Header(flags=HANDSHAKE, token=7, sequence=4711, timestamp_us=99)
    assert flow.from_node(question.encode(), 1.0) == []
    assert flow.owed is not None
    answer = decode(flow.owed)
    assert (answer.flags, answer.token, answer.sequence) == (HANDSHAKE, 7, 4711)
    flow.owed = None
    flow.from_node(question.encode(), 1.0 + HANDSHAKE_S / 2)
    assert flow.owed is None
    flow.from_node(question.encode(), 1.0 + HANDSHAKE_S)
    assert flow.owed is not None


def test_the_table_is_bounded_and_counts_what_it_refuses() -> None:
    table = FlowTable(max_flows=2)
    for port in (1, 2):
        open_flow(table, port)
    assert table.admit(("127.0.0.1", 3), SERVER, 0.0) is None
    assert table.drops["too-many-games"] == 1


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


@given(st.integers(2, 16), st.integers(0, 65535), st.integers(1, 40), st.data())
def test_the_census_counts_lost_source_packets_across_the_wrap(
    k: int, first: int, blocks: int, data: st.DataObject
) -> None:
    """Between the first and the last packet heard, it knows what was sent exactly."""
    sent = [((first + b) & 0xFFFF, index) for b in range(blocks) for index in range(k)]
    heard = data.draw(st.lists(st.integers(0, len(sent) - 1), min_size=1, unique=True))
    order = sorted(heard)
    census = SourceCensus()
    for at in order:
        census.note(*sent[at], k)
    assert census.expected == order[-1] - order[0] + 1


def test_a_repair_packet_vouches_for_its_whole_block() -> None:
    census = SourceCensus()
    census.note(9, 4, 4)
    assert census.expected == 4
    census.note(10, 4, 4)
    assert census.expected == 8


def test_a_node_that_counts_afresh_does_not_invent_losses() -> None:
    census = SourceCensus()
    for block in range(100, 110):
        census.note(block, 0, 4)
    before = census.expected
    census.note(40000, 0, 4)
    census.note(40000, 1, 4)
    assert census.expected == before + 2
