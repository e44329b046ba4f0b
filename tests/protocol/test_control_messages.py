"""What a control message shows of itself."""

from __future__ import annotations

import pytest
from lightspeed_protocol.control_messages import (
    ControlMessage,
    Disconnect,
    Kind,
    Peer,
    Peers,
    PeersRequest,
    Register,
    RegisterAck,
    Rekey,
)

SECRET = b"correct horse battery"


@pytest.mark.parametrize(
    "message",
    [
        Register(2, 1, SECRET),
        RegisterAck(1, 0, "node", "region", SECRET),
        Disconnect(4, SECRET),
        Rekey(1, SECRET[:16]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_no_log_line_can_show_a_key_or_a_token(message: ControlMessage) -> None:
    assert "correct" not in f"{message} {message!r}"
    assert "bytes>" in repr(message)


def test_a_request_for_a_key_names_none() -> None:
    assert Rekey() == Rekey(0, bytes(16))


def test_a_disconnect_without_words_is_what_it_always_was() -> None:
    assert Disconnect(2) == Disconnect(2, b"")
    assert Disconnect() != Disconnect(0, b"\x01\x00\x01\x01")


def test_messages_can_be_kept_in_sets() -> None:
    peers = Peers((Peer("n", "r", "node.example.com", 4433, bytes(32)),))
    assert len({peers, PeersRequest(), PeersRequest()}) == 2


def test_the_types_of_the_original_s_later_releases_are_left_alone() -> None:
    assert not {7, 8, 9} & set(Kind)
