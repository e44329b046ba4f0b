"""What there is to know about a running node: health, metrics and reload read and write it here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import attrs
from lightspeed_protocol.runtime.http import HttpCounters

from .admission import Admission
from .config import ProxyConfig
from .counters import Counters
from .telemetry import TelemetryCells

Phase = Literal["starting", "ready", "draining"]
TaskState = Literal["running", "restarting"]


class DataPlane(Protocol):
    """What the node around the data plane reads from it; `relay.Relay` is the real one."""

    @property
    def sessions(self) -> int: ...
    @property
    def flows(self) -> int: ...
    @property
    def kernel_drops(self) -> int: ...


@attrs.define(eq=False)
class TelemetryCounters:
    received: int = 0
    refused: int = 0  # not JSON, or figures that cannot be
    too_large: int = 0
    too_slow: int = 0
    dropped: int = 0  # the writer's inbox was full, or the node stopped before it was read


@attrs.define(eq=False)
class ControlCounters:
    """What is asked over QUIC, besides registering."""

    requests: int = 0
    malformed: int = 0  # a stream that holds no message
    unexpected: int = 0  # a message that no client sends
    too_often: int = 0  # above what one connection may ask
    crowded_out: int = 0  # connections closed because they took room and held no session
    probes: int = 0
    probes_unanswered: int = 0
    h3_requests: int = 0
    h3_refused: int = 0  # malformed, too large or too many


@attrs.define(eq=False)
class TaskFigures:
    state: TaskState = "running"
    restarts: int = 0


@attrs.define(eq=False, kw_only=True)
class NodeState:
    config: ProxyConfig
    counters: Counters
    relay: DataPlane
    admission: Admission
    dev: bool
    clock: Callable[[], float]  # seconds, monotonic
    started: float
    phase: Phase = "starting"
    tasks: dict[str, TaskFigures] = attrs.field(factory=dict)
    cells: TelemetryCells = attrs.field(factory=TelemetryCells)
    telemetry: TelemetryCounters = attrs.field(factory=TelemetryCounters)
    http: HttpCounters = attrs.field(factory=HttpCounters)
    control: ControlCounters = attrs.field(factory=ControlCounters)
    quic: Any = None  # runtime.quic_server.QuicCounters once QUIC is imported: plain ints
    data_port: int = 0  # of the sockets, not what the settings say
    control_port: int = 0
    pin: bytes = b""  # of the node's public key, as invites name it
    reloads: int = 0
    reloads_failed: int = 0

    @property
    def uptime_s(self) -> float:
        return self.clock() - self.started

    @property
    def status(self) -> str:
        """One word for people and monitors: starting, healthy, degraded or draining."""
        if self.phase != "ready":
            return self.phase
        if any(task.state != "running" for task in self.tasks.values()):
            return "degraded"
        return "healthy"
