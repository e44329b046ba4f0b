from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.flows import Tally
from lightspeed_client.sealed_session import LATE_S, SealedSession
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.header import KEEPALIVE
from lightspeed_protocol.seal import SealedEnd

OLD, NEW = bytes(16), b"\1" * 16


def packet(end: SealedEnd) -> bytes:
    return end.control(KEEPALIVE, 0)


def test_what_was_in_flight_when_the_keys_changed_is_taken_for_a_moment_and_once() -> None:
    session, node = SealedSession(), SealedEnd.node(7, OLD)
    session.renew(7, OLD, 0.0)
    assert session.open(packet(node), 0.0)[1] is False
    late = [packet(node) for _ in range(3)]
    session.renew(7, NEW, 1.0)
    assert session.open(packet(SealedEnd.node(7, NEW)), 1.0)[1] is False
    assert session.open(late[0], 1.0 + LATE_S / 2)[1] is True
    with pytest.raises(WireError, match="forged"):
        session.open(late[0], 1.0 + LATE_S / 2)
    with pytest.raises(WireError, match="forged"):
        session.open(late[1], 1.0 + LATE_S)


def test_also_when_the_session_is_another_one() -> None:
    session, node = SealedSession(), SealedEnd.node(7, OLD)
    session.renew(7, OLD, 0.0)
    session.renew(8, NEW, 1.0)
    assert session.open(packet(node), 1.5)[1] is True
    with pytest.raises(WireError, match="session"):
        session.open(packet(node), 9.0)


def test_a_changed_key_is_no_new_registration() -> None:
    session, node = SealedSession(), SealedEnd.node(7, OLD)
    session.rekey(NEW, 0.0)  # nothing to change yet
    end = session.renew(7, OLD, 0.0)
    session.open(packet(node), 0.0)
    session.rekey(NEW, 1.0)
    assert session.end is end
    node.rekey(NEW, 1.0)
    node.open(end.control(KEEPALIVE, 0), 1.0)
    assert session.open(packet(node), 1.0)[0].number == 1


def test_what_was_counted_stays_counted() -> None:
    session = SealedSession()
    assert session.tally() == Tally()
    for key in (OLD, NEW):
        node = SealedEnd.node(7, key)
        session.renew(7, key, 0.0)
        session.open(packet(node), 0.0)
        packet(node)  # lost
        third = packet(node)
        session.open(third, 0.0)
        with pytest.raises(WireError, match="replayed"):
            session.open(third, 0.0)
    assert session.tally() == Tally(expected_down=6, arrived_down=4, duplicates=2)


@given(st.binary(max_size=100))
def test_any_bytes_raise_nothing_but_wire_errors(datagram: bytes) -> None:
    session = SealedSession()
    with pytest.raises(WireError):
        session.open(datagram, 0.0)
    for key in (OLD, NEW):
        session.renew(7, key, 0.0)
        with pytest.raises(WireError):
            session.open(datagram, 0.0)
