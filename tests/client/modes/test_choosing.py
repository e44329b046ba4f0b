from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio
from lightspeed_client.modes.choosing import Heard, explain, nearest, ping_all, settle
from trio.testing import MockClock

from ..fakes import Address
from ..sealed_node import HOME_NODE, FakeControl, SealedNode

NEAR = attrs.evolve(HOME_NODE, name="near", host="192.0.2.1")
FAR = attrs.evolve(HOME_NODE, name="far", host="192.0.2.2")
DEAD = attrs.evolve(HOME_NODE, name="dead", host="192.0.2.3")
MUTE = attrs.evolve(HOME_NODE, name="mute", host="192.0.2.4")
OTHER = attrs.evolve(HOME_NODE, name="other", host="192.0.2.1", pin=bytes(32))
DELAYS = {NEAR.host: 0.010, FAR.host: 0.080, DEAD.host: None, MUTE.host: 60.0}


class Slow(FakeControl):
    """A control connection with a way of its own."""

    delay_s: float = 0.0

    async def request(self, data: bytes, *, timeout_s: float = 5.0) -> bytes:
        with trio.fail_after(timeout_s):
            await trio.sleep(self.delay_s)
        return await super().request(data, timeout_s=timeout_s)


@asynccontextmanager
async def connect(
    address: Address,
    *,
    pin: bytes,
    on_node_stream: Callable[[bytes], None] | None = None,
    timeout_s: float = 5.0,
) -> AsyncIterator[FakeControl]:
    delay_s = DELAYS[address[0]]
    node = SealedNode(reachable=delay_s is not None)
    async with node.connect(address, pin=pin):
        client = Slow(node, on_node_stream)
        client.delay_s = delay_s or 0.0
        yield client


async def test_the_nearest_is_taken_and_named(autojump_clock: MockClock) -> None:
    node, why = await settle([FAR, DEAD, NEAR], connect=connect)
    assert node is NEAR
    assert why is not None
    assert why.startswith("node near: the nearest of yours, 10.0 ms (far 80.0 ms, dead no answer)")


async def test_a_mute_node_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    node, _ = await settle([MUTE, FAR], connect=connect)
    assert node is FAR
    assert trio.current_time() - began < 2.0


async def test_when_none_answers_it_is_the_first_and_the_reasons_are_told(
    autojump_clock: MockClock,
) -> None:
    node, why = await settle([DEAD, OTHER], connect=connect)
    assert node is DEAD
    assert why is not None
    assert "dead: no answer from" in why
    assert "other: this is not the node" in why
    assert why.endswith("trying dead")


async def test_one_node_or_an_address_needs_no_choice(autojump_clock: MockClock) -> None:
    assert await settle([DEAD], connect=connect) == (DEAD, None)
    assert await settle(("192.0.2.9", 4434), connect=connect) == (("192.0.2.9", 4434), None)


async def test_nobody_waits_for_ever(autojump_clock: MockClock) -> None:
    (heard,) = await ping_all([MUTE], connect=connect)
    assert heard.rtt_s is None
    assert "too long" in (heard.problem or "")


def test_of_equals_it_is_the_one_added_first() -> None:
    heard = [Heard(FAR, 0.01), Heard(NEAR, 0.01), Heard(DEAD, None, "dead")]
    chosen = nearest(heard)
    assert chosen is heard[0]
    assert "near 10.0 ms" in explain(chosen, heard)
    assert nearest([]) is None
