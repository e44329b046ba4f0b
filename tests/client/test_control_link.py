from __future__ import annotations

import subprocess
import sys

import pytest
from lightspeed_client.control_link import exchange, ping
from lightspeed_protocol.control import Disconnect, Ping, Pong, encode, frame
from lightspeed_protocol.errors import WireError
from trio.testing import MockClock

from .sealed_node import FakeControl, SealedNode


class Says:
    """A node that answers everything with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def request(self, data: bytes, *, timeout_s: float = 5.0) -> bytes:
        return self.answer

    async def wait_closed(self) -> tuple[int, str]:
        raise NotImplementedError


async def test_a_question_gets_its_answer(autojump_clock: MockClock) -> None:
    client = FakeControl(SealedNode(), None)
    assert await exchange(client, Ping(5)) == Pong(5, 5)
    assert await ping(client) == 0.0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "cut"),
        (b"\0", "cut"),
        (frame(encode(Pong(5, 5)))[:-1], "cut"),
        (b"\0\0", "short"),
        (b"\0\x01\x77", "unknown"),
    ],
)
async def test_answers_that_are_none_are_wire_errors(answer: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        await exchange(Says(answer), Ping(5))


@pytest.mark.parametrize("answer", [Pong(1, 1), Disconnect()])
async def test_a_pong_must_be_ours(answer: Pong | Disconnect) -> None:
    with pytest.raises(WireError, match="answer"):
        await ping(Says(frame(encode(answer))))


def test_quic_is_not_imported_before_a_connection_is_made() -> None:
    code = (
        "import sys, lightspeed_client.app, lightspeed_client.cli_tunnel;"
        "sys.exit('aioquic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
