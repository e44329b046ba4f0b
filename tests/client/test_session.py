from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.session import (
    LEAST_DATAGRAM,
    NodeRefused,
    read_grant,
    refusal,
    register_message,
)
from lightspeed_protocol.control import Disconnect, DisconnectReason, Pong, RegisterAck
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.extensions import (
    AckExtensions,
    Limits,
    Refusal,
    RefusalCode,
    decode_register,
    encode_ack,
    encode_refusal,
)

FULL = AckExtensions(
    version=8,
    key=bytes(16),
    data_port=5555,
    data_host="data.example.com",
    fec=(1,),
    limits=Limits(packets_per_s=1000, bytes_per_s=10**6, largest_datagram=1400),
    visible="198.51.100.9",
    capabilities=(1, 5),
    resume=bytes(range(16)),
    resume_s=120,
    resumed=True,
)


def ack(**changes: Any) -> RegisterAck:
    told = encode_ack(attrs.evolve(FULL, **changes))
    return RegisterAck(7001, 0, "node-1", "lab", told)


def read(answer: Any) -> Any:
    return read_grant(answer, name="home", host="192.0.2.1")


def test_a_registration_asks_for_a_sealed_session() -> None:
    asked = decode_register(
        register_message(token=bytes(32), resume=bytes(16), client="1.2").extensions
    )
    assert (asked.credential, asked.resume, asked.client) == (bytes(32), bytes(16), "1.2")
    assert (asked.versions, asked.fec, asked.features) == ((8,), (1, 2), (1,))
    none = decode_register(register_message(token=None, resume=None, client="1").extensions)
    assert (none.credential, none.resume) == (None, None)


def test_a_grant_says_where_data_goes_and_what_holds() -> None:
    grant = read(ack())
    assert (grant.session_id, grant.data) == (7001, ("data.example.com", 5555))
    assert (grant.repair, grant.largest_bytes, grant.ipv6_inside) == (True, 1400, True)
    assert (grant.resumed, grant.visible) == (True, "198.51.100.9")
    assert bytes(range(16)).hex() not in repr(grant), "secrets stay out of logs"


def test_what_a_node_leaves_out_has_a_default() -> None:
    grant = read(
        ack(
            data_port=None, data_host="", fec=(), limits=None, capabilities=(), resume=None,
            resume_s=None, resumed=False,
        )
    )  # fmt: skip
    assert grant.data == ("192.0.2.1", 4434)
    assert (grant.repair, grant.largest_bytes, grant.ipv6_inside) == (False, None, False)
    assert grant.resume is None
    assert read(attrs.evolve(ack(), region="unknown")).region == ""
    tiny = Limits(packets_per_s=1, bytes_per_s=1, largest_datagram=1)
    assert read(ack(limits=tiny)).largest_bytes == LEAST_DATAGRAM


@pytest.mark.parametrize("version", [1, 2, 9, None])
def test_a_session_without_a_seal_is_no_session(version: int | None) -> None:
    with pytest.raises(NodeRefused, match="in common") as caught:
        read(ack(version=version, key=None))
    assert caught.value.for_good


@pytest.mark.parametrize("code", list(RefusalCode))
def test_every_refusal_is_a_plain_sentence_with_the_nodes_name(code: RefusalCode) -> None:
    told = refusal(Disconnect(4, encode_refusal(Refusal(code=code))), "home")
    assert "home" in str(told)
    assert "{" not in str(told)
    assert told.code == code
    assert told.for_good == (code in (1, 2, 3, 7, 8))


def test_refusals_without_a_code_are_read_by_their_reason() -> None:
    shutdown = refusal(Disconnect(DisconnectReason.SERVER_SHUTDOWN), "home")
    assert "shutting down" in str(shutdown)
    assert not shutdown.for_good
    assert refusal(Disconnect(DisconnectReason.AUTH_FAILURE), "home").for_good
    unknown = refusal(Disconnect(99, encode_refusal(Refusal(code=77))), "home")
    assert "gives no reason" in str(unknown)
    assert not unknown.for_good


def test_the_nodes_own_words_are_shown_on_one_line_and_cannot_move_the_cursor() -> None:
    told = refusal(Disconnect(4, encode_refusal(Refusal(code=3, text="gone\n\x1b[2Jbye"))), "home")
    assert str(told).endswith('(it says: "gone  [2Jbye")')


@given(st.binary(max_size=80))
def test_bytes_of_a_hostile_node_raise_nothing_but_what_is_expected(data: bytes) -> None:
    for message in (RegisterAck(1, 0, "n", "r", data), Disconnect(1, data), Pong(1, 2)):
        with pytest.raises((WireError, NodeRefused)):
            read(message)
