from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.open_flow import HANDSHAKE_S, OpenFlow, SourceCensus
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.header import HANDSHAKE, Header, decode, pack_addresses

SERVER = ("203.0.113.5", 27960)
GAME = ("127.0.0.1", 5000)


def open_flow() -> OpenFlow:
    return OpenFlow(GAME, Endpoint.open(pack_addresses(GAME, SERVER)), 0.0, Counter())


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


def test_repair_packets_from_the_node_are_counted() -> None:
    flow, node = open_flow(), Endpoint.open(pack_addresses(SERVER, GAME), fec_k=2)
    for number in range(6):
        for datagram in node.wrap(b"%d" % number, 1000 * number):
            flow.from_node(datagram, 0.0)
    tally = flow.tally()
    assert (tally.received, tally.repair_received) == (6, 3)
