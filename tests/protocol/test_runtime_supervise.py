from __future__ import annotations

import random
from itertools import pairwise

import pytest
import trio
from lightspeed_protocol.errors import LinkDown, Refused
from lightspeed_protocol.runtime.supervise import Backoff, supervise, supervise_stage
from trio.testing import MockClock


async def test_an_expected_failure_restarts_with_growing_pauses_and_a_bug_crashes(
    autojump_clock: MockClock,
) -> None:
    starts: list[float] = []
    restarted: list[str] = []

    async def flaky() -> None:
        starts.append(trio.current_time())
        async with trio.open_nursery():
            await trio.sleep(1)
            if len(starts) < 4:
                raise OSError("network unreachable")
            raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await supervise("flaky", flaky, rng=random.Random(1), on_restart=restarted.append)
    pauses = [after - before - 1 for before, after in pairwise(starts)]
    for pause, longest in zip(pauses, (0.5, 1.0, 2.0), strict=True):
        assert longest / 2 <= pause <= longest
    assert restarted == ["flaky"] * 3


async def test_the_pause_is_capped(autojump_clock: MockClock) -> None:
    starts: list[float] = []

    async def flaky() -> None:
        starts.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise LinkDown("silent")

    with trio.move_on_after(600):
        await supervise("flaky", flaky, rng=random.Random(1), backoff=Backoff(cap_s=4.0))
    pauses = [after - before for before, after in pairwise(starts)]
    assert max(pauses) <= 4.0
    assert all(2.0 <= pause <= 4.0 for pause in pauses[4:])


async def test_a_long_steady_run_forgets_earlier_failures(autojump_clock: MockClock) -> None:
    starts: list[float] = []

    async def mostly_fine() -> None:
        starts.append(trio.current_time())
        await trio.sleep(61)
        raise trio.TooSlowError

    with trio.move_on_after(1000):
        await supervise("fine", mostly_fine, rng=random.Random(1))
    assert all(after - before <= 61.5 for before, after in pairwise(starts))


async def test_a_refusal_is_not_tried_again() -> None:
    async def refused() -> None:
        await trio.lowlevel.checkpoint()
        raise Refused("no")

    with pytest.raises(Refused):
        await supervise("refused", refused, rng=random.Random(1))


async def test_a_stage_begins_once_and_survives_restarts(autojump_clock: MockClock) -> None:
    runs = 0

    async def serve(*, task_status: trio.TaskStatus[int]) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise OSError("not yet")
        task_status.started(runs)
        await trio.sleep(1)
        raise OSError("again")

    async def staged(*, task_status: trio.TaskStatus[int]) -> None:
        await supervise_stage("serve", serve, rng=random.Random(1), task_status=task_status)

    async with trio.open_nursery() as nursery:
        value = await nursery.start(staged)
        assert value == 2  # the first run that got as far as `started`
        await trio.sleep(10)
        assert runs >= 4
        nursery.cancel_scope.cancel("test over")
