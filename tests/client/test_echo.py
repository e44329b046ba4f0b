from __future__ import annotations

import os
import subprocess
import sys

import pytest

TWICE = "import sys; from lightspeed_client.echo import say; say('a'); say('b'); sys.exit({})"


def without_reader(*command: str) -> tuple[int, str]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, *command],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("status", [0, 1])
def test_a_reader_that_left_changes_no_exit_status(status: int) -> None:
    assert without_reader("-c", TWICE.format(status)) == (status, "")


def test_a_command_whose_reader_left_ends_quietly() -> None:
    assert without_reader("-m", "lightspeed_client", "games") == (0, "")
