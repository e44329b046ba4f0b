"""The control plane as a whole: every QUIC connection, the invites' file, the end of sessions.

What outlives a restart of the QUIC task is not kept here: members are `Admission`'s.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import attrs
import trio
from lightspeed_protocol.control_messages import ControlMessage, Probe, ProbeMethod
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.extensions import RefusalCode
from lightspeed_protocol.runtime.quic import ALPN, Application, QuicLink, ServerIdentity
from lightspeed_protocol.runtime.quic_server import QuicCounters, QuicServer
from lightspeed_protocol.runtime.udp import UdpPort
from prometheus_client import CollectorRegistry

from .config import ProxyConfig
from .control import ControlApp, Link
from .credentials import Invites
from .h3 import H3App
from .metrics import make_registry
from .probe import Prober
from .refusals import refusal
from .state import NodeState

log = logging.getLogger(__name__)

TICK_S: Final = 0.25  # how late a revoked invite is noticed
CHECK_S: Final = 0.5  # between two looks at every member
AT_A_TIME: Final = 64  # members or connections looked at before packets get their turn
H3: Final = "h3"

# A connection costs its owner one handshake, and the table is bounded. Above this many, of the node
# or of one host without a session, those that have not registered or ask nothing make room.
CROWD: Final = 1024
CROWD_OF_ONE: Final = 64
GRACE_S: Final = 10.0  # in which to register, or between two requests over HTTP/3
QUIET_S: Final = 60.0  # the same where there is room


class Store(Protocol):
    """What is used of `credentials.InviteStore`."""

    def load(self) -> Invites: ...
    def changed(self) -> bool: ...


class _Watches(Protocol):
    """What is used here of the links of both kinds of application."""

    async def watch(self, task: Callable[[], Awaitable[object]]) -> None: ...


class Policy(Protocol):
    """What is asked of the data plane here."""

    def permits(self, host: str, port: int) -> bool: ...
    def breathe(self) -> None: ...


@attrs.define(eq=False, kw_only=True)
class ControlServer:
    """Made once a node; `run` may be started again."""

    state: NodeState
    store: Store
    plane: Policy
    identity: ServerIdentity
    prober: Prober = attrs.field(factory=Prober)
    counters: QuicCounters = attrs.field(factory=QuicCounters)
    apps: set[ControlApp] = attrs.field(factory=set)
    browsers: set[H3App] = attrs.field(factory=set)
    registry: CollectorRegistry = attrs.field(init=False)
    _server: QuicServer | None = None
    _nursery: trio.Nursery | None = None
    _check_at: float = -math.inf

    def __attrs_post_init__(self) -> None:
        self.state.quic = self.counters
        self.state.pin = self.identity.spki_pin
        self.registry = make_registry(self.state)

    async def run(
        self,
        sock: socket.socket,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Never returns. `sock` stays open."""
        server = QuicServer(
            UdpPort(sock),
            self.identity,
            self._make_app,
            alpns=self._alpns(self.state.config),
            counters=self.counters,
            breathe=self.plane.breathe,
        )
        try:
            async with trio.open_nursery() as nursery:
                self._server, self._nursery = server, nursery
                nursery.start_soon(self._watch)
                await nursery.start(server.run)
                task_status.started()
        finally:
            self._server = self._nursery = None

    def apply(self, config: ProxyConfig, identity: ServerIdentity) -> None:
        """Take over new settings: from the next connection on."""
        self.identity = identity
        self.state.pin = identity.spki_pin
        if self._server is not None:
            self._server.use_identity(identity)
            self._server.set_alpns(self._alpns(config))

    def say_goodbye(self) -> None:
        """Tell every client that the node stops, so that it need not wait for silence."""
        self.state.admission.draining = True
        message = refusal(RefusalCode.DRAINING)
        for app in tuple(self.apps):
            app.ended(message)

    # -- what connections ask -------------------------------------------------------------

    def now(self) -> float:
        return trio.current_time()

    def permits(self, host: str, port: int) -> bool:
        return self.plane.permits(host, port)

    def left(self, app: ControlApp) -> None:
        self.apps.discard(app)

    def probe(self, link: Link, message: Probe, answer: Callable[[ControlMessage], object]) -> bool:
        if self.prober.busy or self._nursery is None:
            return False
        self._spawn(link, partial(self._measure, message, answer))
        return True

    async def _measure(self, message: Probe, answer: Callable[[ControlMessage], object]) -> None:
        result = await self.prober.measure(message.address, message.port, message.count)
        counters = self.state.control
        counters.probes += 1
        counters.probes_unanswered += result.method == ProbeMethod.NOTHING
        answer(result)

    def _make_app(self, link: QuicLink) -> Application:
        if link.alpn == H3:
            browser = H3App(link, self.state, self.registry, self._spawn, self.browsers.discard)
            self.browsers.add(browser)
            return browser
        app = ControlApp(link, self)
        self.apps.add(app)
        return app

    def _spawn(self, link: _Watches, task: Callable[[], Awaitable[None]]) -> None:
        """Its failure ends the connection it is for, not the node."""
        if self._nursery is not None:
            self._nursery.start_soon(link.watch, task)

    @staticmethod
    def _alpns(config: ProxyConfig) -> tuple[str, ...]:
        return (ALPN, H3) if config.control.h3 else (ALPN,)

    # -- what passes by itself ------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await trio.sleep(TICK_S)
            fresh = await self._reread()
            now = trio.current_time()
            if fresh or now >= self._check_at:
                self._check_at = now + CHECK_S
                await self._check_members()
            await self._tick_connections()

    async def _reread(self) -> bool:
        """Take over the invites' file if it is another one; whether it was."""
        if not self.store.changed():
            return False
        try:
            invites = await trio.to_thread.run_sync(self.store.load, abandon_on_cancel=True)
        except ConfigError as exc:
            log.error("the invites stay as they were: %s", " ".join(str(exc).split()))
            return False
        self.state.admission.invites = invites
        log.info("the invites have changed: %d are good", invites.usable(time.time()))
        return True

    async def _check_members(self) -> None:
        admission, unix_now = self.state.admission, time.time()
        for number, member in enumerate(tuple(admission.members.values()), start=1):
            admission.check(member, trio.current_time(), unix_now)
            if number % AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()

    async def _tick_connections(self) -> None:
        here: tuple[ControlApp | H3App, ...] = (*self.apps, *self.browsers)
        crowded = len(here) > CROWD
        strangers = Counter(each.house for each in here if not _holds_session(each))
        for number, app in enumerate(here, start=1):
            if number % AT_A_TIME == 0:
                await trio.lowlevel.checkpoint()
            now = trio.current_time()
            if app.link.closed:
                continue  # while others had their turn
            if isinstance(app, ControlApp):
                app.tick(now)
            if _holds_session(app):
                continue
            patience_s = GRACE_S if crowded or strangers[app.house] > CROWD_OF_ONE else QUIET_S
            if now >= app.quiet_since + patience_s:
                strangers[app.house] -= 1
                self.state.control.crowded_out += 1
                app.link.close(0, "this node needs the room: register, or ask again later")


def _holds_session(app: ControlApp | H3App) -> bool:
    return isinstance(app, ControlApp) and app.member is not None
