"""What Prometheus sees: every name, read from plain ints when somebody scrapes.

Names carry their unit, counters end in _total, labels come from fixed sets. The node's own name
and region are one info series to join with, not a label on everything.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Iterator, Mapping
from time import time
from typing import Any, Final

import attrs
import trio
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from . import __version__
from .state import NodeState

PIECE: Final = 16  # samples formatted at once

SIMPLE_COUNTERS = {
    "keepalives": "Keepalives answered.",
    "handshakes": "Handshakes answered.",
    "fins": "Sessions that players ended.",
    "sessions_created": "Sessions opened.",
    "sessions_closed": "Sessions ended by a FIN.",
    "sessions_expired": "Sessions forgotten after silence.",
    "flows_created": "Game conversations opened.",
    "flows_closed": "Game conversations ended.",
    "bans": "Players refused for a while.",
    "roams": "Times a session went on from another address.",
    "batches": "Wake-ups of the loop that reads the data socket.",
    "icmp_errors": "Errors the network reported about packets sent earlier.",
}
FEC_COUNTERS = {
    "fec_source": ("fec_source_packets", "Game packets received inside FEC blocks."),
    "fec_repair": ("fec_repair_packets", "Repair packets received."),
    "fec_repair_sent": ("fec_repair_packets_sent", "Repair packets sent."),
    "fec_recovered": ("fec_recovered_packets", "Lost packets rebuilt from repair packets."),
    "fec_recovered_late": ("fec_recovered_late_packets", "Of those, rebuilt after the budget."),
    "fec_lost": ("fec_lost_packets", "Game packets that did not come in time by themselves."),
    "fec_unrepaired": ("fec_unrepaired_packets", "Of those, never rebuilt."),
    "fec_wasted": ("fec_wasted_packets", "Repair packets received that told nothing new."),
    "fec_unrecoverable": (
        "fec_unrecoverable_packets",
        "Repair packets received and given up: too much was missing.",
    ),
    "fec_capped": ("fec_capped_packets", "Repair packets not sent, because of a cap or a limit."),
    "fec_delayed": ("fec_delayed_packets", "Game packets held back by repair. Always 0."),
    "fec_asked": ("fec_asked_packets", "Missing packets asked for again, each time counted."),
    "fec_feedback": (
        "fec_feedback_packets",
        "Reports from players of what came to them, and what they ask for again.",
    ),
    "fec_feedback_sent": ("fec_feedback_packets_sent", "The same, sent to players."),
    "fec_bytes": ("fec_bytes", "Bytes of repair packets and feedback received."),
    "fec_bytes_sent": ("fec_bytes_sent", "Bytes of repair packets and feedback sent."),
}


def make_registry(state: NodeState) -> CollectorRegistry:
    """This node's own registry: nothing global, and no thread."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(state))
    ProcessCollector(registry=registry)  # resident memory, CPU, open files
    return registry


@attrs.define
class _OneFamily:
    """What an encoder takes for a registry."""

    family: Metric

    def collect(self) -> list[Metric]:
        return [self.family]


async def in_pieces(registry: CollectorRegistry, encode: Callable[[Any], bytes]) -> bytes:
    """What `encode(registry)` gives, with a checkpoint every `PIECE` samples.

    In one go it takes 6 ms, as OpenMetrics 24 ms (measured with every telemetry cell in use), and
    so long no game packet would move. A thread does not help: the two then fight over the
    interpreter, and the packet loop waits as long.
    """
    text = bytearray()
    end = b""
    for family in registry.collect():
        for at in range(0, max(1, len(family.samples)), PIECE):
            piece = copy.copy(family)
            piece.samples = family.samples[at : at + PIECE]
            lines = encode(_OneFamily(piece)).splitlines(keepends=True)
            if lines and lines[-1] == b"# EOF\n":
                end = lines.pop()
            text += b"".join(line for line in lines if not (at and line.startswith(b"#")))
            await trio.lowlevel.checkpoint()
    return bytes(text + end)


class NodeCollector(Collector):
    def __init__(self, state: NodeState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        yield from self._node()
        yield from self._traffic()
        yield from self._tasks()
        yield from self._players()
        yield from self._control()
        yield from self._reports()

    def _node(self) -> Iterator[Metric]:
        state = self._state
        limits = state.config.limits
        yield InfoMetricFamily(
            "lightspeed_build",
            "The program.",
            {"version": __version__, "python": platform.python_version()},
        )
        node = state.config.node
        yield InfoMetricFamily(
            "lightspeed_node", "The node.", {"node_id": node.node_id, "region": node.region}
        )
        yield GaugeMetricFamily(
            "lightspeed_uptime_seconds", "Since the node started.", state.uptime_s
        )
        yield GaugeMetricFamily(
            "lightspeed_ready", "1 while new players are taken.", float(state.phase == "ready")
        )
        yield GaugeMetricFamily(
            "lightspeed_active_connections", "Players connected.", state.relay.sessions
        )
        yield GaugeMetricFamily(
            "lightspeed_max_connections", "Players the node takes.", limits.max_clients
        )
        yield GaugeMetricFamily("lightspeed_flows", "Game conversations.", state.relay.flows)

    def _traffic(self) -> Iterator[Metric]:
        counters = self._state.counters
        packets = CounterMetricFamily(
            "lightspeed_packets_relayed", "Packets forwarded.", labels=["direction"]
        )
        packets.add_metric(["up"], counters.packets_up)
        packets.add_metric(["down"], counters.packets_down)
        yield packets
        sizes = CounterMetricFamily(
            "lightspeed_relayed_bytes",
            "UDP payload bytes as on the tunnel's wire.",
            labels=["direction"],
        )
        sizes.add_metric(["up"], counters.bytes_up)
        sizes.add_metric(["down"], counters.bytes_down)
        yield sizes
        drops = CounterMetricFamily(
            "lightspeed_packets_dropped", "Packets dropped, each once.", labels=["reason"]
        )
        for reason, count in counters.drops.items():
            drops.add_metric([reason], count)
        yield drops
        yield CounterMetricFamily(
            "lightspeed_kernel_dropped_packets",
            "Datagrams the kernel dropped because the data sockets were full.",
            self._state.relay.kernel_drops,
        )
        for field, about in SIMPLE_COUNTERS.items():
            yield CounterMetricFamily(f"lightspeed_{field}", about, getattr(counters, field))
        for field, (name, about) in FEC_COUNTERS.items():
            yield CounterMetricFamily(f"lightspeed_{name}", about, getattr(counters, field))

    def _tasks(self) -> Iterator[Metric]:
        state = self._state
        running = GaugeMetricFamily(
            "lightspeed_task_running", "0 while a task waits to start again.", labels=["task"]
        )
        restarts = CounterMetricFamily(
            "lightspeed_task_restarts", "Times a task was started again.", labels=["task"]
        )
        for name, task in state.tasks.items():
            running.add_metric([name], float(task.state == "running"))
            restarts.add_metric([name], task.restarts)
        yield running
        yield restarts
        reloads = CounterMetricFamily(
            "lightspeed_config_reloads", "Reloads of the settings.", labels=["result"]
        )
        reloads.add_metric(["applied"], state.reloads)
        reloads.add_metric(["refused"], state.reloads_failed)
        yield reloads
        connections = CounterMetricFamily(
            "lightspeed_http_connections", "HTTP connections.", labels=["result"]
        )
        connections.add_metric(["accepted"], state.http.connections)
        connections.add_metric(["refused"], state.http.refused)
        connections.add_metric(["failed"], state.http.failed)
        yield connections

    def _players(self) -> Iterator[Metric]:
        state, admission = self._state, self._state.admission
        yield GaugeMetricFamily(
            "lightspeed_invites", "Invites that let somebody in.", admission.invites.usable(time())
        )
        members = admission.members.values()
        sealed = sum(member.sealed for member in members)
        ports = sum(len(member.session.ports) for member in members)
        sessions = GaugeMetricFamily(
            "lightspeed_sessions", "Sessions by how they came to be.", labels=["kind"]
        )
        sessions.add_metric(["sealed"], sealed)
        sessions.add_metric(["legacy"], len(members) - sealed)
        sessions.add_metric(["open"], max(0, state.relay.sessions - sealed - ports))
        yield sessions
        counters = admission.counters
        yield _by_label(
            "lightspeed_registrations", "What came of a Register.", "result", counters.results
        )
        yield _by_label(
            "lightspeed_registered_ended", "How registered sessions end.", "why", counters.ended
        )
        yield CounterMetricFamily("lightspeed_rekeys", "Session keys replaced.", counters.rekeys)

    def _control(self) -> Iterator[Metric]:
        state = self._state
        yield _by_label(
            "lightspeed_control_events",
            "What was asked over QUIC, besides registering.",
            "event",
            attrs.asdict(state.control),
        )
        if state.quic is None:
            return
        counts = flat(attrs.asdict(state.quic))
        unproven = {"in": counts.pop("unproven_bytes_in"), "out": counts.pop("unproven_bytes_out")}
        yield _by_label(
            "lightspeed_quic_unproven_bytes",
            "Of and to addresses that had not proved that they hear.",
            "direction",
            unproven,
        )
        yield _by_label("lightspeed_quic_events", "What the QUIC port saw.", "event", counts)

    def _reports(self) -> Iterator[Metric]:
        counts = self._state.telemetry
        total = CounterMetricFamily(
            "lightspeed_telemetry_reports", "Reports that arrived.", labels=["result"]
        )
        total.add_metric(["accepted"], counts.received)
        total.add_metric(["refused"], counts.refused)
        total.add_metric(["too-large"], counts.too_large)
        total.add_metric(["too-slow"], counts.too_slow)
        total.add_metric(["dropped"], counts.dropped)
        yield total
        labels = ["game_id", "country"]
        reports = CounterMetricFamily(
            "lightspeed_telemetry_cell_reports", "Reports in this cell.", labels=labels
        )
        latency = CounterMetricFamily(
            "lightspeed_telemetry_latency_seconds",
            "Sum of the reported percentiles; divide by the reports of the cell.",
            labels=[*labels, "percentile"],
        )
        jitter = CounterMetricFamily(
            "lightspeed_telemetry_jitter_seconds", "Sum of the reported jitters.", labels=labels
        )
        for (game, country), cell in self._state.cells.shown():
            reports.add_metric([game, country], cell.reports)
            latency.add_metric([game, country, "50"], cell.p50_s)
            latency.add_metric([game, country, "95"], cell.p95_s)
            latency.add_metric([game, country, "99"], cell.p99_s)
            jitter.add_metric([game, country], cell.jitter_s)
        yield from (reports, latency, jitter)


def _by_label(name: str, about: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, about, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def flat(counts: Mapping[str, Any]) -> dict[str, int]:
    """Counters within counters as one level: `dropped` of `full` is `dropped-full`."""
    found: dict[str, int] = {}
    for name, value in counts.items():
        if isinstance(value, Mapping):
            found.update({f"{name}-{inner}": count for inner, count in flat(value).items()})
        else:
            found[name] = value
    return found
