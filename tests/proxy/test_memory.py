from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import pytest
import trio
from lightspeed_proxy.memory import (
    ALLOCATOR,
    LOOK_S,
    give_back,
    run_collector,
    wanted_environment,
)
from trio.testing import MockClock


def test_the_allocator_is_chosen_once() -> None:
    environ = {"HOME": "x"}
    assert wanted_environment(environ)
    assert environ == {"HOME": "x", **ALLOCATOR}
    assert not wanted_environment(environ)


def test_somebody_elses_choice_stands() -> None:
    environ = {"PYTHONMALLOC": "debug"}
    assert not wanted_environment(environ)
    assert environ == {"PYTHONMALLOC": "debug"}


@pytest.mark.skipif(sys.platform != "linux", reason="there is nothing to choose elsewhere")
def test_a_program_that_asks_is_started_anew_with_the_same_words() -> None:
    script = (
        "import os, sys; from lightspeed_proxy.memory import use_c_allocator;"
        "print('before', os.getpid(), flush=True); use_c_allocator();"
        "print(os.environ['PYTHONMALLOC'], os.getpid(), sys.argv[1:])"
    )
    command = [sys.executable, "-W", "error", "-c", script, "a b", "--c"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=20, env={"PATH": "/bin"}
    )
    first, again, last = done.stdout.splitlines()
    assert first == again
    pid = first.split()[1]
    assert last == f"malloc {pid} ['a b', '--c']"


def test_giving_back_may_be_asked_for_at_any_time() -> None:
    for _ in range(2):
        give_back()


async def test_full_collections_wait_until_nobody_plays(autojump_clock: MockClock) -> None:
    class Ring:
        def __init__(self) -> None:
            self.me = self

    played_at = 0.0
    before = gc.get_threshold()
    async with trio.open_nursery() as nursery:
        await nursery.start(run_collector, lambda: played_at)
        assert gc.get_threshold()[0] == before[0]
        kept = Ring()
        ring = weakref.ref(kept)
        gc.collect(1)  # now it is old
        del kept
        for _ in range(10):
            played_at = trio.current_time()
            await trio.sleep(LOOK_S / 9)
            played_at = trio.current_time()
        assert ring() is not None
        await trio.sleep(2 * LOOK_S)
        assert ring() is None
        nursery.cancel_scope.cancel("test over")
    assert gc.get_threshold() == before
