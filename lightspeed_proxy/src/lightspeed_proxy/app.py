"""The running node: which tasks there are, what stops first, how a reload and a stop go.

Nesting is the order of stopping, innermost first (ARCHITECTURE.md, "node"):

    signals > watchdog > http > telemetry > data plane > control plane > body (ready, wait, drain)

QUIC and cryptography are imported when a node runs, before it is ready, not with this module.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import trio
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.extensions import Capability
from lightspeed_protocol.runtime.config import differences, read_text
from lightspeed_protocol.runtime.daemon import stage, watch_signals
from lightspeed_protocol.runtime.http import serve_http
from lightspeed_protocol.runtime.supervise import supervise_stage
from lightspeed_protocol.runtime.systemd import Notifier, run_watchdog
from lightspeed_protocol.telemetry import TelemetryEvent

from . import __version__
from .admission import Admission, Plane, Told
from .config import DATA_PORT, NEEDS_RESTART, ProxyConfig, Source, show_address
from .counters import Counters
from .credentials import NOBODY_YET, InviteStore
from .flows import is_own
from .health import make_app
from .identity import load_identity
from .memory import give_back, run_collector
from .relay import Relay
from .state import DataPlane, NodeState, TaskFigures
from .telemetry import INBOX, run_writer

if TYPE_CHECKING:
    from lightspeed_protocol.runtime.quic import ServerIdentity

    from .control_server import ControlServer

log = logging.getLogger(__name__)

QUIET_S: Final = 1.0  # a drain ends when no datagram came for this long
DRAIN_STEP_S: Final = 0.1


class RelayLike(DataPlane, Plane, Protocol):
    """What this file needs of the data plane; tests hold a small fake to it."""

    @property
    def last_traffic(self) -> float: ...
    async def run(self, *, task_status: trio.TaskStatus[None] = ...) -> None: ...
    def apply(self, config: ProxyConfig) -> None: ...
    def permits(self, host: str, port: int) -> bool: ...
    def breathe(self) -> None: ...
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
    control: socket.socket
    http: socket.socket
    identity: ServerIdentity
    invites: InviteStore
    dev: bool = False
    notifier: Notifier = attrs.field(factory=Notifier)
    make_relay: MakeRelay = Relay


async def run(start: Start) -> None:
    """Serve until told to stop."""
    from .control_server import ControlServer

    relay = start.make_relay(start.config, counters := Counters(), data=start.data, dev=start.dev)
    data_port = start.data[0].getsockname()[1]
    admission = Admission(
        config=start.config,
        plane=relay,
        invites=start.invites.load(),
        random_bytes=secrets.token_bytes,
        dev=start.dev,
        told=what_to_tell(start.config, data_port, dev=start.dev),
    )
    state = NodeState(
        config=start.config,
        counters=counters,
        relay=relay,
        admission=admission,
        dev=start.dev,
        clock=trio.current_time,
        started=trio.current_time(),
        data_port=data_port,
        control_port=start.control.getsockname()[1],
    )
    control = ControlServer(state=state, store=start.invites, plane=relay, identity=start.identity)
    send, receive = trio.open_memory_channel[TelemetryEvent](INBOX)
    stop = trio.Event()
    reload = partial(reload_config, start.source, state, relay, control, start.notifier)
    http = partial(serve_http, make_app(state, send), start.http, counters=state.http)
    with contextlib.closing(relay), send, receive:
        async with (
            stage(watch_signals, stop, reload),
            stage(run_watchdog, start.notifier),
            stage(_supervised, state, "http", http),
            stage(_supervised, state, "telemetry", partial(run_writer, receive, state.cells)),
            stage(run_collector, lambda: relay.last_traffic),
            stage(relay.run),
            stage(_supervised, state, "control", partial(control.run, start.control)),
        ):
            give_back()  # what start-up needed for a moment
            gc.freeze()  # what start-up left never needs to be looked through again
            _say_ready(start, state)
            await stop.wait()
            await drain(state, relay, control, start.notifier)
        log.info("stopped")


def what_to_tell(config: ProxyConfig, data_port: int, *, dev: bool) -> Told:
    """What every client learns about the node when it registers."""
    host, port = config.data.advertised or ("", data_port)
    able = [Capability.NODE_STREAM, Capability.PROBE, Capability.PEERS, Capability.REKEY]
    if outward(socket.AF_INET6) is not None or (dev and is_own("::1")):
        able.append(Capability.IPV6_INSIDE)
    bound, _ = config.data.address
    if bound and ip_address(bound).is_loopback:
        visible: str | None = bound
    else:
        visible = outward(socket.AF_INET)
        if visible is None or not ip_address(visible).is_global:
            visible = None  # behind a NAT: what game servers see is not known here
    return Told(data_port=port, data_host=host, visible=visible, capabilities=tuple(able))


def outward(family: socket.AddressFamily) -> str | None:
    """The address this machine's packets to the internet leave from; None if it has no way there.

    Asks the kernel's routing table. No packet is sent.
    """
    somewhere = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((somewhere, DATA_PORT))
            host = sock.getsockname()[0]
    except OSError:
        return None
    return str(host)


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
    control = show_address(start.control.getsockname())
    http = show_address(start.http.getsockname())
    name = state.config.node.node_id
    log.info(
        "%s (%s) is ready: control %s, data %s, http %s", name, __version__, control, data, http
    )
    invites = state.admission.invites.usable(time.time())
    if start.dev:
        log.warning(
            "--dev: this node is OPEN. Whoever reaches %s is relayed, also to loopback and private"
            " addresses of this machine and its network. For trying out, never for the internet.",
            data,
        )
        start.notifier.ready("open to anyone (--dev)")
    elif not invites:
        log.warning("this node %s; health and metrics are answered", NOBODY_YET)
        start.notifier.ready(NOBODY_YET)
    else:
        log.info("invites: %d", invites)
        start.notifier.ready(f"invites: {invites}")


async def reload_config(
    source: Source,
    state: NodeState,
    relay: RelayLike,
    control: ControlServer,
    notifier: Notifier,
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
        wanted = source.parse(text)
        new = _keep_what_runs(wanted, state.config)
        identity = await trio.to_thread.run_sync(load_identity, new, abandon_on_cancel=True)
    except ConfigError as exc:
        state.reloads_failed += 1
        log.error("reload refused, the settings stay as they were: %s", source.path)
        for problem in exc.problems:
            log.error("reload refused: %s", problem)
        notifier.ready(f"reload refused: {len(exc.problems)} problems in {source.path}")
        return
    changes = differences(state.config, wanted)
    told = what_to_tell(new, state.data_port, dev=state.dev)
    relay.apply(new)
    state.admission.apply(new, told)
    control.apply(new, identity)
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


def _keep_what_runs(new: ProxyConfig, old: ProxyConfig) -> ProxyConfig:
    """`new`, but for what needs a restart."""
    return attrs.evolve(
        new,
        node=attrs.evolve(new.node, state_dir=old.node.state_dir),
        control=attrs.evolve(new.control, bind=old.control.bind),
        data=attrs.evolve(new.data, bind=old.data.bind),
        http=attrs.evolve(new.http, bind=old.http.bind),
    )


def _show(value: object) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)


class Farewell(Protocol):
    def say_goodbye(self) -> None: ...


async def drain(state: NodeState, relay: RelayLike, control: Farewell, notifier: Notifier) -> None:
    """Take nobody new, tell everybody, let running games go on for a moment.

    Ends when no datagram came for `QUIET_S`, when nothing flows any more, or after `drain_s`.
    """
    state.phase = "draining"
    notifier.stopping("draining")
    relay.refuse_new()
    control.say_goodbye()  # says why; a client that hears the FIN first knows nothing better
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
