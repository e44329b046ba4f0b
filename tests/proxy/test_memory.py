from __future__ import annotations

import subprocess
import sys

import pytest
from lightspeed_proxy.memory import ALLOCATOR, give_back, wanted_environment


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
