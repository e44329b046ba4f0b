"""`lightspeed redirect`: carry until told to stop, show figures, end with the report."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import trio
from lightspeed_protocol.runtime.daemon import stage, watch_signals

from .. import report
from ..address import write_address
from ..app import PortInUse, RedirectSettings, open_redirect
from ..control import ControlSession
from ..control_link import Connect, connect
from ..display import Route, View
from ..nodes import KnownNode
from ..redirect import Redirect
from ..resume import take_slot
from ..status import StatusFile

log = logging.getLogger(__name__)

LAST_WORDS_S: Final = 2.0  # for the report and the last line, however slow disk or terminal are
# A thread that draws may keep the interpreter for this long before a game packet gets it.
SWITCH_S: Final = 0.0005


@attrs.frozen(kw_only=True)
class Session:
    """Where a session's output goes."""

    view: View
    state_dir: Path
    keep: int = report.KEEP
    point: str = ""  # how the game is made to connect to "{address}"


async def run(settings: RedirectSettings, session: Session, *, connect: Connect = connect) -> None:
    """Until a signal, or until the view's reader has gone.

    Raises `SystemExit` on failure, and `Refused` when the node refuses before it ever carried.
    """
    sys.setswitchinterval(SWITCH_S)
    stop = trio.Event()
    try:
        async with stage(watch_signals, stop):
            async with (
                _open(settings, session, connect) as redirect,
                trio.open_nursery() as shown,
            ):
                local = [write_address(address) for address in redirect.local_addresses]
                route = Route(
                    local=local,
                    server=write_address(settings.server),
                    node=settings.node_name,
                    fec=str(settings.fec),
                    how=session.point.replace("{address}", local[0]),
                )
                shown.start_soon(_run_view, redirect, session.view, route, stop)
                shown.start_soon(_run_status, redirect, session.state_dir, route)
                if redirect.control is not None:
                    shown.start_soon(_end_when_refused, redirect.control, stop)
                await stop.wait()
                shown.cancel_scope.cancel("stopping")
            await _last_words(redirect, session)
        if redirect.control is not None and redirect.control.refusal is not None:
            raise redirect.control.refusal
    except* PortInUse as group:
        for exc in group.exceptions:
            print(f"Error: {exc}", file=sys.stderr)
        raise SystemExit(1) from None


@asynccontextmanager
async def _open(
    settings: RedirectSettings, session: Session, connect: Connect
) -> AsyncIterator[Redirect]:
    """With an invited node, what resumes its session is kept on disk meanwhile."""
    node = settings.node
    slot = (
        take_slot(session.state_dir, node.name, node.pin) if isinstance(node, KnownNode) else None
    )
    try:
        async with open_redirect(settings, connect=connect, keeper=slot) as redirect:
            yield redirect
    finally:
        if slot is not None:
            slot.close()


async def _end_when_refused(control: ControlSession, stop: trio.Event) -> None:
    await control.refused.wait()
    stop.set()


async def _run_view(redirect: Redirect, view: View, route: Route, stop: trio.Event) -> None:
    """A second per picture; a slow reader misses some, and play goes on."""
    try:
        await _in_thread(lambda: view.begin(route))
        async for _ in seconds():
            figures = redirect.figures(trio.current_time())
            await _in_thread(lambda now=figures: view.show(now))  # type: ignore[misc]
    except BrokenPipeError:  # the reader has left, as `| head` does: end as if told to
        stop.set()
    except OSError as exc:  # nobody can be watching
        log.warning("output closed (%s): stopping", exc.strerror or exc)
        stop.set()


async def _run_status(redirect: Redirect, state_dir: Path, route: Route) -> None:
    file = StatusFile.of_this_process(state_dir)
    failed = False
    try:
        async for _ in seconds():
            record = {
                **redirect.figures(trio.current_time()).to_json(),
                **attrs.asdict(route),
            }
            wall = time.time()
            try:
                await _in_thread(lambda now=record, at=wall: file.write(now, at))  # type: ignore[misc]
                failed = False
            except OSError as exc:
                if not failed:
                    log.warning(
                        "cannot write %s (%s): `lightspeed status` will not see this client",
                        file.path,
                        exc.strerror or exc,
                    )
                failed = True
    finally:
        file.remove()


async def _last_words(redirect: Redirect, session: Session) -> None:
    figures, totals = redirect.figures(trio.current_time()), redirect.totals()

    def say() -> None:
        session.view.end(figures, totals)

    def save() -> None:
        report.save(session.state_dir, totals, datetime.now(UTC), keep=session.keep)

    for what, task in (("show the report", say), ("save the report", save)):
        try:
            with trio.fail_after(LAST_WORDS_S):
                await _in_thread(task)
        except BrokenPipeError:
            pass  # nobody reads it
        except OSError as exc:
            log.warning("cannot %s (%s): free some space or check permissions", what, exc)
        except trio.TooSlowError:
            log.warning("cannot %s within %.0f s: given up", what, LAST_WORDS_S)


async def _in_thread(task: Callable[[], None]) -> None:
    await trio.to_thread.run_sync(task, abandon_on_cancel=True)


class seconds:
    """At once, then every second; rounds that a slow body missed are left out."""

    def __init__(self) -> None:
        self._next: float | None = None

    def __aiter__(self) -> seconds:
        return self

    async def __anext__(self) -> None:
        if self._next is None:
            self._next = trio.current_time()
        await trio.sleep_until(self._next)
        now = trio.current_time()
        self._next += 1.0
        if self._next < now:
            self._next = now + 1.0
