from __future__ import annotations

import struct
from collections.abc import Callable

import attrs
import trio
from lightspeed_client.app import RedirectSettings
from lightspeed_client.modes.checks import Check, all_well
from lightspeed_client.modes.live_test import run_live_test
from lightspeed_protocol.runtime.udp import Port, UdpPort
from trio.testing import MockClock

from ..fakes import FakeNode


async def outcome(node: FakeNode, *, echo: bool = True) -> list[Check]:
    with UdpPort.bind(("127.0.0.1", 0)) as port:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, port)
            settings = RedirectSettings(server=("127.0.0.1", 9), node=port.address)
            checks = await run_live_test(settings, echo=echo, tell=lambda _: None)
            nursery.cancel_scope.cancel("test over")
    return checks


def failures(checks: list[Check]) -> set[str]:
    return {check.name for check in checks if check.verdict == "fail"}


def every(n: int, change: Callable[[bytes], list[bytes]]) -> Callable[[bytes], list[bytes]]:
    """A game server that does something odd to every n-th packet."""
    count = 0

    def server(payload: bytes) -> list[bytes]:
        nonlocal count
        count += 1
        return change(payload) if count % n == 0 else [payload]

    return server


async def test_a_good_node_passes_every_part(autojump_clock: MockClock) -> None:
    checks = await outcome(FakeNode())
    assert all_well(checks)
    assert {check.verdict for check in checks} == {"pass"}
    assert len(checks) >= 14


async def test_without_echo_what_cannot_be_checked_is_skipped_by_name(
    autojump_clock: MockClock,
) -> None:
    checks = await outcome(FakeNode(), echo=False)
    assert all_well(checks)
    assert {c.name for c in checks if c.verdict == "skip"} == {
        "plain: sizes and contents", "xor:4: sizes and contents",
    }  # fmt: skip


async def test_changed_contents_fail(autojump_clock: MockClock) -> None:
    node = FakeNode(server=lambda payload: [payload if len(payload) < 500 else payload[:-1]])
    assert "plain: sizes and contents" in failures(await outcome(node))


async def test_doubled_and_swallowed_packets_fail(autojump_clock: MockClock) -> None:
    doubled = await outcome(FakeNode(server=every(2, lambda payload: [payload, payload])))
    assert "plain: a second of play" in failures(doubled)
    swallowed = await outcome(FakeNode(server=every(2, lambda _: [])))
    assert "plain: a second of play" in failures(swallowed)


async def test_a_node_that_relays_nothing_fails_with_a_hint(autojump_clock: MockClock) -> None:
    checks = await outcome(FakeNode(server=lambda _: []))
    assert "plain: there and back" in failures(checks)
    assert any("--dev" in check.detail for check in checks)


async def test_a_silent_node_ends_the_test_at_once(autojump_clock: MockClock) -> None:
    @attrs.define(eq=False)
    class Mute(FakeNode):
        async def serve(self, port: Port) -> None:
            await trio.sleep_forever()

    checks = await outcome(Mute())
    assert [check.verdict for check in checks] == ["fail"]


async def test_the_original_node_confirms_no_fin_and_still_passes(
    autojump_clock: MockClock,
) -> None:
    checks = await outcome(FakeNode(answers_fin=False))
    assert all_well(checks)
    assert any("confirmed none" in check.detail for check in checks)


async def test_stray_empty_packets_are_noticed(autojump_clock: MockClock) -> None:
    """The original hands keepalive answers to the game as empty packets; one that does fails."""

    @attrs.define(eq=False)
    class Leaky(FakeNode):
        def answer(self, datagram: bytes, source: tuple[str, int]) -> list[bytes]:
            answers = super().answer(datagram, source)
            if datagram[0] & 1:  # to the last flow, as data
                for target, session in self.sessions.items():
                    head = struct.pack("!BBHI", 0x10, 0, session.sequence, 0)
                    session.sequence += 1
                    assert self.port is not None
                    self.port.send(head + bytes(12) + b"?", target)
            return answers

        port: Port | None = None

        async def serve(self, port: Port) -> None:
            self.port = port
            await super().serve(port)

    checks = await outcome(Leaky())
    assert "plain: keepalives stay out of the game" in failures(checks)
