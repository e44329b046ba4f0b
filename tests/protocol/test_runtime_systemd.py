from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from lightspeed_protocol.runtime.systemd import Notifier, run_watchdog
from trio.testing import MockClock

from tests.support.posix import posix_only

posix_only()
assert sys.platform != "win32"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(manager: socket.socket) -> list[list[str]]:
    messages: list[list[str]] = []
    while True:
        try:
            messages.append(manager.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return messages


def test_states_reach_systemd_as_documented(manager: socket.socket) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    before = time.monotonic_ns() // 1000
    notifier.ready("open")
    notifier.reloading()
    notifier.ready()
    notifier.stopping("draining")
    first, reloading, again, stopping = heard(manager)
    assert first == ["READY=1", "STATUS=open"]
    assert reloading[0] == "RELOADING=1"
    name, _, micros = reloading[1].partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(micros) <= time.monotonic_ns() // 1000
    assert again == ["READY=1"]
    assert stopping == ["STOPPING=1", "STATUS=draining"]


def test_an_abstract_socket_is_reached_too() -> None:
    name = f"lightspeed-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.setblocking(False)
        Notifier.from_environment({"NOTIFY_SOCKET": "@" + name}).ready()
        assert heard(manager) == [["READY=1"]]


def test_without_systemd_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    Notifier.from_environment({}).ready()
    Notifier.from_environment({"NOTIFY_SOCKET": "vsock:2:1234"}).ready()
    Notifier.from_environment({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


@pytest.mark.parametrize(
    ("variables", "want"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, math.inf),
        ({"WATCHDOG_USEC": "0"}, math.inf),
        ({"WATCHDOG_USEC": "-5"}, math.inf),
        ({"WATCHDOG_USEC": "soon"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_watchdog_is_meant_for_this_process_only(
    variables: dict[str, str], want: float
) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "/run/x", **variables})
    assert notifier.watchdog_s == want


async def test_the_watchdog_is_fed_at_half_the_interval(
    manager: socket.socket, autojump_clock: MockClock
) -> None:
    notifier = Notifier(address=manager.getsockname(), watchdog_s=10.0)
    with trio.move_on_after(21):
        await run_watchdog(notifier)
    assert heard(manager) == [["WATCHDOG=1"]] * 5  # at 0, 5, 10, 15 and 20 s


async def test_without_a_watchdog_nothing_is_sent(
    manager: socket.socket, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(3600):
        await run_watchdog(Notifier(address=manager.getsockname()))
    assert heard(manager) == []
