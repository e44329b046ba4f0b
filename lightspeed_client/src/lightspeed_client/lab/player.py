"""A player: sends numbered inputs at a steady rate and judges the states that come back.

Round trip here is what a player feels: from an input to the first state that shows it, so it
contains the wait for the server's next tick.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from random import Random
from typing import Final

import attrs
import trio
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.rtt import RttEstimator
from lightspeed_protocol.runtime.udp import Address, Port

from .game import CATCH_UP, TICKS_PER_S, Message, decode
from .receipts import Receipts
from .weather import SLACK_S

INPUT_BYTES: Final = (50, 110)


@attrs.define(eq=False)
class Bot:
    """Core: `poll` at `next_deadline` gives the inputs to send; tell it what arrives."""

    seed: int | str
    start: float
    who: int = 0
    inputs_per_s: float = TICKS_PER_S
    sent: int = 0
    skipped: int = 0
    states: Receipts = attrs.field(factory=Receipts)
    rtt: RttEstimator = attrs.field(factory=RttEstimator)
    round_trips: list[float] = attrs.field(factory=list)
    corrupt: int = 0
    stopped: bool = False
    _flying: dict[int, float] = attrs.field(factory=dict)  # input -> when sent
    _shown: int = 0
    _heard_at: float = 0.0
    _next: float = math.inf
    _sizes: Random = attrs.field(factory=Random)

    def __attrs_post_init__(self) -> None:
        self._next = self.start
        self._sizes.seed(f"{self.seed}/input/{self.who}")

    def next_deadline(self) -> float:
        """When the next input is due."""
        return math.inf if self.stopped else self._next

    def poll(self, now: float) -> list[bytes]:
        """The input that is due."""
        if now < self.next_deadline():
            return []
        step_s = 1 / self.inputs_per_s
        self._next += step_s
        behind = math.floor((now - self._next) / step_s)
        if behind > CATCH_UP:
            self.skipped += behind - CATCH_UP
            self._next += (behind - CATCH_UP) * step_s
        self.sent += 1
        self._flying[self.sent] = now
        held_s = now - self._heard_at if self.states.newest else 0.0
        message = Message("input", self.who, self.sent, now, self.states.newest, held_s)
        return [message.encode(self._sizes.randint(*INPUT_BYTES))]

    def receive(self, payload: bytes, now: float) -> None:
        """One datagram from the game server."""
        try:
            message = decode(payload)
        except WireError:
            self.corrupt += 1
            return
        if message.kind != "state":
            self.corrupt += 1
            return
        if not self.states.note(message.number, message.sent_at, now):
            return
        self._heard_at = now
        if message.heard > self._shown and message.heard in self._flying:
            round_trip_s = now - self._flying[message.heard]
            self.round_trips.append(round_trip_s)
            self.rtt.add(round_trip_s)
            for number in range(self._shown, message.heard + 1):
                self._flying.pop(number, None)
            self._shown = message.heard


async def play(
    bot: Bot,
    port: Port,
    server: Address,
    clock: Callable[[], float] = time.monotonic,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The shell: never returns. `clock` must be the game server's."""
    task_status.started()
    while True:
        wait_s = bot.next_deadline() - clock() + SLACK_S
        with trio.move_on_at(trio.current_time() + wait_s):
            for payload, source in await port.receive():
                if source == server:
                    bot.receive(payload, clock())
        for payload in bot.poll(clock()):
            port.send(payload, server)
