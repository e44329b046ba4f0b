from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.session import (
    LEAST_DATAGRAM,
    NodeRefused,
    check_data,
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
from lightspeed_protocol.fec.protection import UNPROTECTED

FULL = AckExtensions(
    version=8,
    key=bytes(16),
    data_port=5555,
    data_host="data.example.com",
    fec=(1, 2),
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
    assert (asked.versions, asked.fec, asked.features) == ((8,), (1, 2, 3), (1,))
    assert (asked.protection, asked.reports_ms) == (UNPROTECTED, 1000)
    none = decode_register(register_message(token=None, resume=None, client="1").extensions)
    assert (none.credential, none.resume) == (None, None)


def test_a_grant_says_where_data_goes_and_what_holds() -> None:
    grant = read(ack())
    assert (grant.session_id, grant.data) == (7001, ("data.example.com", 5555))
    assert (grant.schemes, grant.largest_bytes, grant.ipv6_inside) == ({1, 2}, 1400, True)
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
    assert (grant.schemes, grant.largest_bytes, grant.ipv6_inside) == (set(), None, False)
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


HOSTILE = "\x1b]0;pwned\x07\x1b[2J\u202eX\x9b31m\u2028"


def test_what_a_node_calls_itself_cannot_move_the_cursor_either() -> None:
    grant = read(attrs.evolve(ack(), node_id=HOSTILE, region=HOSTILE))
    for text in (grant.node_id, grant.region):
        assert text.isprintable()
        assert text == "]0;pwned  [2J X 31m"
    assert read(attrs.evolve(ack(), node_id="n\u00f6rd-1")).node_id == "n\u00f6rd-1"


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("127.0.0.1", "this machine itself"),
        ("127.9.9.9", "this machine itself"),
        ("::1", "this machine itself"),
        ("::ffff:127.0.0.1", "this machine itself"),
        ("224.0.0.1", "many machines"),
        ("ff02::1", "many machines"),
        ("::ffff:224.0.0.1", "many machines"),
        ("255.255.255.255", "many machines"),
        ("0.0.0.0", "no address"),
        ("::", "no address"),
    ],
)
def test_no_node_may_make_the_client_send_into_itself_or_to_many(host: str, says: str) -> None:
    with pytest.raises(NodeRefused, match="its operator") as caught:
        check_data((host, 4434), ("192.0.2.1", 4433), "home")
    assert says in str(caught.value)
    assert "home" in str(caught.value)
    assert not caught.value.for_good, "its operator may mend it"


def test_where_data_may_go() -> None:
    for host in ("192.0.2.1", "198.51.100.5", "10.1.2.3", "2001:db8::1", "fe80::1"):
        assert check_data((host, 4434), ("192.0.2.1", 4433), "home") == (host, 4434)
    for control in ("127.0.0.1", "::1", "127.0.0.2"):
        assert check_data(("127.0.0.1", 9), (control, 4433), "home") == ("127.0.0.1", 9)
    with pytest.raises(NodeRefused, match="many machines"):
        check_data(("224.0.0.1", 9), ("127.0.0.1", 4433), "home")
    with pytest.raises(NodeRefused, match="no address"):
        check_data(("192.0.2.1", 0), ("192.0.2.1", 4433), "home")


@given(st.binary(max_size=80))
def test_bytes_of_a_hostile_node_raise_nothing_but_what_is_expected(data: bytes) -> None:
    for message in (RegisterAck(1, 0, "n", "r", data), Disconnect(1, data), Pong(1, 2)):
        with pytest.raises((WireError, NodeRefused)):
            read(message)
