"""Keeps one long-lived task running: expected failures restart, bugs crash."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import trio

from ..errors import LinkDown

log = logging.getLogger(__name__)

EXPECTED = (OSError, LinkDown, trio.TooSlowError)


@attrs.frozen(kw_only=True)
class Backoff:
    """Seconds to wait before the next start; half of it is jitter."""

    first_s: float = 0.5
    cap_s: float = 30.0
    steady_s: float = 60.0  # a run this long forgets earlier failures

    def pause(self, failures: int, rng: random.Random) -> float:
        return min(self.cap_s, self.first_s * 2.0 ** (failures - 1)) * rng.uniform(0.5, 1.0)


@attrs.define(eq=False)
class _FirstStart:
    """Lets a restarted task call `started` again: only the first call reaches the nursery."""

    inner: trio.TaskStatus[Any]
    done: bool = False

    def started(self, value: Any = None) -> None:
        if not self.done:
            self.done = True
            self.inner.started(value)


async def supervise_stage(
    name: str,
    task: Callable[..., Awaitable[object]],
    *,
    rng: random.Random,
    backoff: Backoff = Backoff(),
    on_restart: Callable[[str], object] = lambda _name: None,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """`supervise` for a task that reports `started`: the stage begins with its first success."""
    status = _FirstStart(task_status)
    run = partial(task, task_status=status)
    await supervise(name, run, rng=rng, backoff=backoff, on_restart=on_restart)


async def supervise(
    name: str,
    task: Callable[[], Awaitable[object]],
    *,
    rng: random.Random,
    backoff: Backoff = Backoff(),
    on_restart: Callable[[str], object] = lambda _name: None,
) -> None:
    """Run `task` until it returns, starting it again after an `EXPECTED` failure.

    Anything else is a bug: it propagates, the daemon falls, systemd starts a
    fresh one. `except*` sees through the groups that nurseries raise.
    """
    failures = 0
    while True:
        started = trio.current_time()
        try:
            await task()
            return
        except* EXPECTED as group:
            failures = 1 if trio.current_time() - started >= backoff.steady_s else failures + 1
            pause = backoff.pause(failures, rng)
            log.warning("%s: %s; again in %.1f s", name, leaves(group), pause)
        on_restart(name)
        await trio.sleep(pause)  # outside the handler, so a cancel cannot hide the cause


def leaves(group: BaseExceptionGroup[BaseException]) -> str:
    """The innermost errors of a group on one line."""
    return "; ".join(
        leaves(exc) if isinstance(exc, BaseExceptionGroup) else repr(exc)
        for exc in group.exceptions
    )
