"""Whether the node is there: keepalives out, their answers in, and one line for each change."""

from __future__ import annotations

import logging
from typing import Final

import attrs
import trio
from lightspeed_protocol.keepalive import PathDead, Prober, SendProbe

from .node_state import CARRYING_S, NodeState

log = logging.getLogger(__name__)

DOUBT_S: Final = 1.0  # of silence
DOUBT_PROBES: Final = 4
IDLE_PROBE_S: Final = 1.0  # between keepalives while nobody plays or looks


@attrs.define(eq=False)
class Pulse:
    """Tell it `heard`, `answered` and `left`; ask it `poll` when `prober.next_deadline` is due."""

    prober: Prober
    node: NodeState
    probe_s: float
    watched: bool = False  # somebody looks at the figures: probe at full rate
    first_answer: trio.Event = attrs.field(factory=trio.Event)

    @property
    def dead(self) -> bool:
        return self.prober.dead

    def doubtful(self, now: float) -> bool:
        """Nothing has come for a second, and for several probes."""
        prober = self.prober
        return now - prober.last_heard >= max(DOUBT_S, DOUBT_PROBES * prober.interval_s)

    def begin(self, now: float) -> None:
        """There was no silence before the first probe."""
        self.prober.last_heard = now

    def poll(self, now: float, game_silent_s: float | None) -> list[SendProbe | PathDead]:
        """What is due; the caller sends the probe and says why a path may be dead."""
        busy = self.watched or (game_silent_s is not None and game_silent_s < CARRYING_S)
        self.prober.interval_s = self.probe_s if busy else max(self.probe_s, IDLE_PROBE_S)
        events = self.prober.poll(now)
        for event in events:
            if isinstance(event, PathDead):
                self.node.died(now, event.silent_s)
        return events

    def answered(self, number: int, now: float) -> None:
        """A keepalive came back; one that answers no probe of ours says nothing."""
        if self.prober.answered(number, now) is not None:
            self.first_answer.set()
            self._back(now)

    def heard(self, now: float) -> None:
        """The node sent something else that only it can have sent."""
        self.prober.heard(now)
        self._back(now)

    def left(self, now: float) -> None:
        """The node says that it ends the session."""
        if self.node.left(now):
            log.warning("the node ends the session; sending on, so that it can carry again")

    def _back(self, now: float) -> None:
        outage_s = self.node.heard(now)
        if outage_s is not None:
            log.info("the node answers again after %.0f s", outage_s)
