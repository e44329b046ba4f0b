from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.lab.packets import Kind, read_packet, read_quic
from lightspeed_protocol.endpoint import Endpoint
from lightspeed_protocol.fec.report import ReceptionLog
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.header import (
    FIN,
    HANDSHAKE,
    KEEPALIVE,
    NO_ADDRESSES,
    control_packet,
    pack_addresses,
)
from lightspeed_protocol.seal import SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow

from tests.support.repair import fixed

KEY = bytes(range(16))
CONVERSATIONS = [
    pack_addresses(("127.0.0.1", 5000), ("192.0.2.5", 27960)),
    pack_addresses(("::1", 5000), ("2001:db8::5", 27960)),
]


def test_kinds_are_read_off_what_the_open_tunnel_really_sends() -> None:
    plain, protected = Endpoint.open(NO_ADDRESSES), Endpoint.open(NO_ADDRESSES, fec_k=2)
    (source,) = plain.wrap(b"game", 1)
    assert read_packet(source) == (Kind.SOURCE, b"", b"game")
    (first,) = protected.wrap(b"one", 1)
    second, repair = protected.wrap(b"two", 2)
    assert read_packet(first) == (Kind.SOURCE, b"", b"one")
    assert read_packet(second) == (Kind.SOURCE, b"", b"two")
    assert read_packet(repair) == (Kind.REPAIR, b"", b"")
    for flag in (KEEPALIVE, FIN):
        assert read_packet(control_packet(flag)).kind is Kind.CONTROL


@pytest.mark.parametrize("addresses", CONVERSATIONS)
def test_kinds_are_read_off_what_the_sealed_tunnel_really_sends(addresses: bytes) -> None:
    end = SealedEnd.client(7, KEY)
    flow = SealedFlow.open(end, addresses, fixed(Plan.xor(2)))
    (first,) = flow.wrap(b"one", 1, 0.0)
    second, repair = flow.wrap(b"two", 2, 0.0)
    assert read_packet(first) == (Kind.SOURCE, addresses, b"one")
    assert read_packet(second) == (Kind.SOURCE, addresses, b"two")
    assert read_packet(repair) == (Kind.REPAIR, addresses, b"")
    for flag in (KEEPALIVE, HANDSHAKE, FIN):
        assert read_packet(end.control(flag, 1, b"ab")).kind is Kind.CONTROL
    assert read_packet(end.control(FIN, 1, b"", addresses)) == (Kind.CONTROL, b"", b"")


@pytest.mark.parametrize("addresses", CONVERSATIONS)
def test_reports_and_asks_are_told_from_game_packets(addresses: bytes) -> None:
    log = ReceptionLog()
    end = SealedEnd.client(7, KEY)
    flow = SealedFlow.open(end, addresses, log=log, asking=True)
    end.round_trip_s = 0.01
    for ssn in (0, 2):
        log.came(ssn, 0.0)
    feedback = []
    for now in (0.02, 1.0):
        flow.next_deadline()
        feedback += flow.poll(now)
    assert (len(feedback), flow.sent_feedback) == (2, 2)
    for datagram in feedback:
        assert read_packet(datagram) == (Kind.FEEDBACK, addresses, b"")


@given(st.binary(max_size=80))
def test_any_bytes_have_a_kind(data: bytes) -> None:
    assert read_packet(data).kind is not Kind.QUIC
    assert read_quic(data) == (Kind.QUIC, b"", b"")


@given(st.sampled_from([0x80, 0x88, 0x90, 0x98, 0x20]), st.binary(max_size=80))
def test_a_packet_cut_anywhere_has_a_kind(first: int, rest: bytes) -> None:
    kind, conversation, payload = read_packet(bytes([first]) + rest)
    assert kind is not Kind.QUIC
    assert len(conversation) in (0, 12, 36)
    assert rest.endswith(payload)
