from __future__ import annotations

import pytest
import trio
from lightspeed_client.app import RedirectSettings
from lightspeed_client.modes.asking import Answer
from lightspeed_client.modes.checks import Check, all_well
from lightspeed_client.modes.tunnel_test import run_test, verdicts
from lightspeed_protocol.runtime.udp import UdpPort
from trio.testing import MockClock

from tests.support.repair import xor

from ..fakes import FakeNode

ANSWER = Answer("quake3", "quake3", (0.03,), 5)


async def outcome(node: FakeNode, fec_k: int | None = None, *, up: bool = True) -> list[Check]:
    told: list[Check] = []
    with UdpPort.bind(("127.0.0.1", 0)) as port, UdpPort.bind(("127.0.0.1", 0)) as server:
        async with trio.open_nursery() as nursery:
            if up:
                nursery.start_soon(node.serve, port)
            settings = RedirectSettings(server=server.address, node=port.address, fec=xor(fec_k))
            checks = await run_test(settings, ("quake3", "none"), told.append)
            nursery.cancel_scope.cancel("test over")
    assert checks == told
    return checks


@pytest.mark.parametrize("fec_k", [None, 4])
async def test_a_working_tunnel_passes(autojump_clock: MockClock, fec_k: int | None) -> None:
    node = FakeNode()
    checks = await outcome(node, fec_k)
    assert all_well(checks)
    assert checks[1].name == "server through the tunnel"
    assert checks[1].verdict == "pass"
    assert len(node.fins) == 1


async def test_a_dead_node_fails_at_once_and_names_the_remedy(autojump_clock: MockClock) -> None:
    checks = await outcome(FakeNode(), up=False)
    assert not all_well(checks)
    assert checks[0].verdict == "fail"
    assert "UDP port" in checks[0].detail
    assert "without --dev" in checks[0].detail
    assert "trying on" not in checks[0].detail, "the test ends here"


async def test_a_node_that_relays_nothing_fails(autojump_clock: MockClock) -> None:
    checks = await outcome(FakeNode(server=lambda _: []))
    assert checks[0].verdict == "pass"
    assert not all_well(checks)


def test_an_answer_in_another_protocol_than_the_games_is_a_failure() -> None:
    assert [c.verdict for c in verdicts("s", ANSWER, ANSWER, wanted="quake3")] == ["pass", "pass"]
    for kind in ("none", "a2s", None):
        other = Answer(kind, "quake3", (0.03,), 5)
        check = verdicts("s", other, other, wanted="quake3")[0]
        assert check.verdict == "fail"
        assert "not in the protocol of a Quake 3 family server" in check.detail


def test_what_both_answers_mean() -> None:
    assert [c.verdict for c in verdicts("s", ANSWER, ANSWER)] == ["pass", "pass"]
    assert [c.verdict for c in verdicts("s", ANSWER, None)] == ["pass", "skip"]
    refused = verdicts("s", None, ANSWER)
    assert refused[0].verdict == "fail"
    assert "destination rules" in refused[0].detail
    unknown = verdicts("s", None, None)
    assert unknown[0].verdict == "fail"
    assert "neither proved nor disproved" in unknown[0].detail
