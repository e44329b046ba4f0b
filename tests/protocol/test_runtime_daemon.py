from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from lightspeed_protocol.errors import ConfigError, Refused
from lightspeed_protocol.runtime import daemon
from lightspeed_protocol.runtime.daemon import RELOAD_S, stage, watch_signals
from trio.testing import MockClock

from tests.support.posix import posix_only

posix_only()
assert sys.platform != "win32"


def part(name: str, log: list[str]) -> Callable[..., Awaitable[None]]:
    async def run(*, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        log.append(f"+{name}")
        task_status.started(name)
        try:
            await trio.sleep_forever()
        finally:
            log.append(f"-{name}")

    return run


async def test_stages_stop_inside_out() -> None:
    log: list[str] = []
    async with stage(part("http", log)), stage(part("relay", log)) as value:
        assert value == "relay"
        log.append("body")
    assert log == ["+http", "+relay", "body", "-relay", "-http"]


async def test_a_stage_that_cannot_start_keeps_its_plain_error() -> None:
    async def broken(*, task_status: trio.TaskStatus[None]) -> None:
        raise OSError("port in use")

    with pytest.RaisesGroup(OSError):
        async with stage(broken):
            raise AssertionError("the body must not run")


async def test_the_first_signal_stops_and_the_second_leaves_at_once() -> None:
    stop = trio.Event()
    with pytest.RaisesGroup(SystemExit, flatten_subgroups=True):
        async with stage(watch_signals, stop):
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()


async def test_sighup_reloads_until_the_daemon_drains() -> None:
    stop = trio.Event()
    send, receive = trio.open_memory_channel[None](8)
    with send, receive:

        async def reload() -> None:
            await send.send(None)

        async with stage(watch_signals, stop, reload):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)
                await receive.receive()
            assert not stop.is_set()
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
            os.kill(os.getpid(), signal.SIGHUP)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.WouldBlock):
                receive.receive_nowait()


async def test_a_reload_that_hangs_is_given_up_and_never_holds_up_a_stop(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    stop, begun = trio.Event(), 0

    async def hang() -> None:
        nonlocal begun
        begun += 1
        await trio.sleep_forever()

    async with stage(watch_signals, stop, hang):
        for _ in range(5):
            os.kill(os.getpid(), signal.SIGHUP)
            await trio.sleep(0.1)
        assert begun == 1
        await trio.sleep(RELOAD_S)
        assert begun == 2  # what came meanwhile is one more, not four
        os.kill(os.getpid(), signal.SIGTERM)
        with trio.fail_after(15):
            await stop.wait()
    assert "given up" in caplog.text


def test_exit_status_is_what_systemd_acts_on(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(error: BaseException) -> None:
        async with trio.open_nursery():
            await trio.lowlevel.checkpoint()
            raise error

    async def fine() -> None:
        await trio.lowlevel.checkpoint()

    assert daemon.run(fine) == 0
    assert daemon.run(fail, ConfigError("proxy.toml", ["first", "second"])) == 78
    assert capsys.readouterr().err == "proxy.toml:\n  first\n  second\n"
    assert daemon.run(fail, Refused("the node wants an invite")) == 77
    assert capsys.readouterr().err == "the node wants an invite\n"
    assert daemon.run(fail, SystemExit(143)) == 1
    assert daemon.run(fail, KeyboardInterrupt()) == 1
    with pytest.RaisesGroup(ZeroDivisionError):
        daemon.run(fail, ZeroDivisionError())
