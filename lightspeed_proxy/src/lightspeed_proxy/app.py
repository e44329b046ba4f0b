"""The running node: which tasks there are, what stops first, how a reload and a stop go.

Nesting is the order of stopping, innermost first (ARCHITECTURE.md, "node"):

    signals > watchdog > http > telemetry > data plane > body (ready, wait, drain)
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

import attrs
import trio
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.config import differences, read_text
from lightspeed_protocol.runtime.daemon import stage, watch_signals
from lightspeed_protocol.runtime.http import serve_http
from lightspeed_protocol.runtime.supervise import supervise_stage
from lightspeed_protocol.runtime.systemd import Notifier, run_watchdog
from lightspeed_protocol.telemetry import TelemetryEvent

from . import __version__
from .config import NEEDS_RESTART, ProxyConfig, Source, show_address
from .counters import Counters
from .health import make_app
from .relay import Relay
from .state import DataPlane, NodeState, TaskFigures
from .telemetry import INBOX, run_writer

log = logging.getLogger(__name__)

QUIET_S: Final = 1.0  # a drain ends when no datagram came for this long
DRAIN_STEP_S: Final = 0.1


class RelayLike(DataPlane, Protocol):
    """What this file needs of the data plane; tests hold a small fake to it."""

    @property
    def last_traffic(self) -> float: ...
    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None: ...
    def apply(self, config: ProxyConfig) -> None: ...
    def refuse_new(self) -> None: ...
    def say_goodbye(self) -> None: ...
    def close(self) -> None: ...


class MakeRelay(Protocol):
    def __call__(
        self,
        config: ProxyConfig,
        counters: Counters,
        *,
        data: tuple[socket.socket, ...],
        dev: bool,
    ) -> RelayLike: ...


@attrs.frozen(kw_only=True)
class Start:
    """All a node is started with. The sockets are open already and belong to the caller."""

    source: Source
    config: ProxyConfig
    data: tuple[socket.socket, ...]
    http: socket.socket
    dev: bool = False
    notifier: Notifier = attrs.field(factory=Notifier)
    make_relay: MakeRelay = Relay


async def run(start: Start) -> None:
    """Serve until told to stop."""
    relay = start.make_relay(start.config, counters := Counters(), data=start.data, dev=start.dev)
    state = NodeState(
        config=start.config,
        counters=counters,
        relay=relay,
        dev=start.dev,
        clock=trio.current_time,
        started=trio.current_time(),
    )
    send, receive = trio.open_memory_channel[TelemetryEvent](INBOX)
    stop = trio.Event()
    reload = partial(reload_config, start.source, state, relay, start.notifier)
    http = partial(serve_http, make_app(state, send), start.http, counters=state.http)
    with contextlib.closing(relay), send, receive:
        async with (
            stage(watch_signals, stop, reload),
            stage(run_watchdog, start.notifier),
            stage(_supervised, state, "http", http),
            stage(_supervised, state, "telemetry", partial(run_writer, receive, state.cells)),
            stage(relay.run),
        ):
            gc.collect()
            gc.freeze()  # what start-up left never needs to be looked through again
            _say_ready(start, state)
            await stop.wait()
            await drain(state, relay, start.notifier)
        log.info("stopped")


async def _supervised(
    state: NodeState,
    name: str,
    task: Callable[..., Awaitable[object]],
    *,
    task_status: trio.TaskStatus[Any],
) -> None:
    figures = state.tasks.setdefault(name, TaskFigures())

    async def watched(*, task_status: trio.TaskStatus[Any]) -> None:
        figures.state = "running"
        await task(task_status=task_status)

    def failed(_name: str) -> None:
        figures.state = "restarting"
        figures.restarts += 1

    rng = random.Random()
    await supervise_stage(name, watched, rng=rng, on_restart=failed, task_status=task_status)


def _say_ready(start: Start, state: NodeState) -> None:
    state.phase = "ready"
    data = ", ".join(show_address(sock.getsockname()) for sock in start.data)
    http = show_address(start.http.getsockname())
    name = state.config.node.node_id
    log.info("%s (%s) is ready: data %s, http %s", name, __version__, data, http)
    if start.dev:
        log.warning(
            "--dev: this node is OPEN. Whoever reaches %s is relayed, also to loopback and private"
            " addresses of this machine and its network. For trying out, never for the internet.",
            data,
        )
        start.notifier.ready("open to anyone (--dev)")
    else:
        log.warning(
            "this node relays for nobody: this version has no invites yet, and without them only"
            " --dev carries packets; health and metrics are answered"
        )
        start.notifier.ready("closed: relays for nobody yet")


async def reload_config(
    source: Source, state: NodeState, relay: RelayLike, notifier: Notifier
) -> None:
    """SIGHUP: all of the new settings, or none of them and the reasons in the log."""
    if source.path is None:
        log.warning("reload: nothing to read, this node runs without a configuration file")
        return
    notifier.reloading()
    try:
        # A slow disk must not hold up game packets. Parsing is under a millisecond and stays here:
        # in a thread it would fight the packet loop for the interpreter.
        text = await trio.to_thread.run_sync(read_text, source.path, abandon_on_cancel=True)
        new = source.parse(text)
    except ConfigError as exc:
        state.reloads_failed += 1
        log.error("reload refused, the settings stay as they were: %s", source.path)
        for problem in exc.problems:
            log.error("reload refused: %s", problem)
        notifier.ready(f"reload refused: {len(exc.problems)} problems in {source.path}")
        return
    changes = differences(state.config, new)
    new = attrs.evolve(
        new,
        data=attrs.evolve(new.data, bind=state.config.data.bind),
        http=attrs.evolve(new.http, bind=state.config.http.bind),
    )
    relay.apply(new)
    state.config = new
    state.reloads += 1
    for key, before, after in changes:
        if key in NEEDS_RESTART:
            log.warning("reload: %s stays %s until a restart (file: %s)", key, before, after)
        else:
            log.info("reload: %s is now %s (was %s)", key, _show(after), _show(before))
    if not changes:
        log.info("reload: nothing changed")
    notifier.ready("reloaded")


def _show(value: object) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)


async def drain(state: NodeState, relay: RelayLike, notifier: Notifier) -> None:
    """Take nobody new, tell everybody, let running games go on for a moment.

    Ends when no datagram came for `QUIET_S`, when nothing flows any more, or after `drain_s`.
    """
    state.phase = "draining"
    notifier.stopping("draining")
    relay.refuse_new()
    relay.say_goodbye()
    limit_s = state.config.shutdown.drain_s
    told = f"{relay.sessions} player{'' if relay.sessions == 1 else 's'}"
    log.info("stopping: told %s, draining for at most %.1f s", told, limit_s)
    with trio.move_on_after(limit_s):
        while relay.flows:
            now = trio.current_time()
            if now >= relay.last_traffic + QUIET_S:
                break
            await trio.sleep_until(now + DRAIN_STEP_S)
