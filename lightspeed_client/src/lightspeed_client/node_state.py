"""Decides what to say about the node: never heard, carrying, idle, leaving or silent.

Sans-IO. A node that leaves says FIN and may go on carrying for its drain time, so a packet
after a FIN proves its return only after a pause, or once the longest drain is over.
Source: drain at most 3 s, LAYOUT.md "Drain"; a restart takes longer than `PAUSE_S`.
"""

from __future__ import annotations

from typing import Final

import attrs

from .figures import State

CARRYING_S: Final = 3.0  # a game that sent within this long is being played
DRAIN_S: Final = 4.0
PAUSE_S: Final = 0.6  # more than two probe intervals


@attrs.define(eq=False)
class NodeState:
    """Tell it `heard`, `left` and `died`; ask it `state`."""

    last_heard: float | None = None
    outages: int = 0
    _left_at: float | None = None
    _dead_since: float | None = None
    _outage_s: float = 0.0

    def heard(self, now: float) -> float | None:
        """Anything but FIN came. Returns the outage's seconds when this ends one."""
        if self._left_at is not None and (
            now - self._left_at >= DRAIN_S
            or (self.last_heard is not None and now - self.last_heard >= PAUSE_S)
        ):
            self._left_at = None
        self.last_heard = now
        if self._dead_since is None:
            return None
        lasted_s = now - self._dead_since
        self._dead_since = None
        self._outage_s += lasted_s
        return lasted_s

    def left(self, now: float) -> bool:
        """A FIN came. True when that is news."""
        news = self._left_at is None
        self._left_at = self.last_heard = now
        return news

    def died(self, now: float, silent_s: float) -> None:
        """The path was found dead after `silent_s` seconds of silence."""
        if self._dead_since is None:
            self._dead_since = now - silent_s
            self.outages += 1

    def outage_s(self, now: float) -> float:
        """Seconds of all outages, a running one included."""
        running = 0.0 if self._dead_since is None else now - self._dead_since
        return self._outage_s + running

    def state(self, game_silent_s: float | None) -> State:
        """`game_silent_s`: since any game sent; None when none has."""
        if self._dead_since is not None:
            return "no-answer"
        if self.last_heard is None:
            return "starting"
        if self._left_at is not None:
            return "node-leaving"
        if game_silent_s is None or game_silent_s > CARRYING_S:
            return "idle"
        return "carrying"
