"""What both daemons do around their work: stages, signals, exit status."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from ..errors import ConfigError, Refused

log = logging.getLogger(__name__)

if sys.platform == "win32":
    STOP_SIGNALS = (signal.SIGINT, signal.SIGBREAK)
    RELOAD_SIGNALS: tuple[signal.Signals, ...] = ()
else:
    STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
    RELOAD_SIGNALS = (signal.SIGHUP,)


RELOAD_S: Final = 5.0  # to read a file; a network disk can hang for ever


@asynccontextmanager
async def stage(task: Callable[..., Awaitable[object]], *args: object) -> AsyncIterator[Any]:
    """Run `task` while the body runs; leaving the body cancels it.

    The body begins once `task` calls ``task_status.started(value)`` and gets
    that value. What must stop first is nested innermost.
    """
    async with trio.open_nursery() as nursery:
        yield await nursery.start(task, *args)
        nursery.cancel_scope.cancel("stage left")


async def watch_signals(
    stop: trio.Event,
    reload: Callable[[], Awaitable[object]] | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """First stop signal: set `stop`, and the daemon drains. Second: leave at once.

    SIGHUP starts `reload`, one at a time, and never holds up a stop; while draining it is
    ignored. A daemon without `reload` keeps what SIGHUP does by itself: a client ends with its
    terminal.
    """
    reloads: set[int] = set() if reload is None else {int(number) for number in RELOAD_SIGNALS}
    wanted = 0  # SIGHUPs not acted on yet; those that come during a reload are one more

    async def run_reloads() -> None:
        nonlocal wanted
        while wanted and reload is not None:
            wanted = 1
            with trio.move_on_after(RELOAD_S) as patience:
                await reload()
            if patience.cancelled_caught:
                log.error("reload given up after %.0f s: is the file's disk there?", RELOAD_S)
            wanted -= 1

    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(*STOP_SIGNALS, *reloads) as signals:
            task_status.started()
            async for number in signals:
                if number in reloads:
                    wanted += 1
                    if wanted == 1 and not stop.is_set():
                        nursery.start_soon(run_reloads)
                    continue
                if stop.is_set():
                    log.warning("told twice to stop: leaving at once")
                    raise SystemExit(128 + number)
                stop.set()


def run(daemon: Callable[..., Awaitable[object]], *args: object) -> int:
    """`trio.run`, with the exit status systemd acts on. A bug keeps its traceback."""
    status = 0
    try:
        trio.run(daemon, *args)
    except* ConfigError as group:
        print(*group.exceptions, sep="\n", file=sys.stderr)
        status = 78  # EX_CONFIG; the unit has RestartPreventExitStatus=78 77
    except* Refused as group:
        print(*group.exceptions, sep="\n", file=sys.stderr)
        status = 77  # EX_NOPERM
    except* (SystemExit, KeyboardInterrupt):
        status = 1  # told twice to stop, or interrupted before the signals were watched
    return status
