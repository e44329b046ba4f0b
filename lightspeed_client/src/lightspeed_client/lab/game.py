"""A game-like server: a fixed tick, numbered states of real sizes, every player by address.

Its packets are readable text: the kind, a number that counts per player and direction, the
time of sending, what was heard from the other end, a checksum, and words up to the wanted size.
A player gets one state a tick, whatever it sends, so the n-th state is the n-th whatever the
link loses. Run `python -m lightspeed_client.lab.game` to have the server alone.
Source: sizes and rate as first-person shooters send them: states 60-400 bytes, 64 ticks/s.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import zlib
from collections.abc import Callable
from random import Random
from typing import Final

import attrs
import trio
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.runtime.udp import Address, Port, UdpPort

from .receipts import Receipts
from .weather import SLACK_S

TICKS_PER_S: Final = 64.0
STATE_BYTES: Final = (60, 400)
MAX_PLAYERS: Final = 64
FORGET_S: Final = 10.0  # a player silent this long has left
LATE_TICK_S: Final = 0.010  # a tick this much behind its time is this machine's own doing
CATCH_UP: Final = 4  # ticks made up for after a stall; the rest are skipped

_WORDS: Final = b" player moves fires turns jumps door opens shot hits wall armour ammo flag base"
_FILLER: Final = _WORDS * 12


@attrs.frozen
class Message:
    """One decoded game packet. `heard` is the newest number of the other direction."""

    kind: str  # "input" or "state"
    who: int  # the player it comes from or is for
    number: int
    sent_at: float
    heard: int
    held_s: float  # how long `heard` waited at the sender

    def encode(self, size: int) -> bytes:
        """At least the message itself, filled with words to `size` bytes."""
        counted = f"{self.kind} {self.who} {self.number} {self.sent_at:.6f}"
        head = f"{counted} {self.heard} {self.held_s:.4f} ".encode()
        start = self.number % len(_WORDS)
        body = head + _FILLER[start : start + max(0, size - len(head) - 9)]
        return b"%08x " % zlib.crc32(body) + body


def decode(payload: bytes) -> Message:
    """Raises `WireError` "game" for anything that is not whole."""
    try:
        if int(payload[:8], 16) != zlib.crc32(payload[9:]):
            raise WireError("game")
        kind, who, number, sent_at, heard, held_s, _ = payload[9:].split(b" ", 6)
        return Message(
            kind.decode(), int(who), int(number), float(sent_at), int(heard), float(held_s)
        )
    except ValueError:
        raise WireError("game") from None


def label_of(payload: bytes) -> tuple[int, int] | None:
    """(player, number) of a game packet, None for anything else."""
    try:
        message = decode(payload)
    except WireError:
        return None
    return message.who, message.number


@attrs.define(eq=False)
class Player:
    """What the server knows of one player."""

    address: Address
    who: int  # as it calls itself
    sizes: Random
    inputs: Receipts = attrs.field(factory=Receipts)
    sent: int = 0
    heard_at: float = 0.0


@attrs.define(eq=False)
class GameServer:
    """Core: tell it what arrives, `poll` it at `next_deadline`."""

    seed: int | str = 0
    ticks_per_s: float = TICKS_PER_S
    players: dict[Address, Player] = attrs.field(factory=dict)
    corrupt: int = 0  # packets whose checksum fails, or that are no input
    refused: int = 0  # players beyond `MAX_PLAYERS`
    ticks: int = 0
    late_ticks: int = 0
    worst_s: float = 0.0  # the latest tick, behind its time
    skipped: int = 0
    left: list[Player] = attrs.field(factory=list)
    stopped: bool = False
    _next: float = math.inf

    def receive(self, payload: bytes, source: Address, now: float) -> None:
        """One datagram. The first input of an address makes it a player."""
        try:
            message = decode(payload)
        except WireError:
            self.corrupt += 1
            return
        if message.kind != "input":
            self.corrupt += 1
            return
        player = self.players.get(source)
        if player is None:
            if len(self.players) >= MAX_PLAYERS:
                self.refused += 1
                return
            sizes = Random(f"{self.seed}/state/{message.who}")
            player = self.players[source] = Player(source, message.who, sizes)
            if self._next == math.inf:
                self._next = now + 1 / self.ticks_per_s
        player.heard_at = now
        player.inputs.note(message.number, message.sent_at, now)

    def next_deadline(self) -> float:
        """When the next tick is due; never without players."""
        return math.inf if self.stopped else self._next

    def poll(self, now: float) -> list[tuple[bytes, Address]]:
        """The states of the tick that is due."""
        if now < self.next_deadline():
            return []
        behind_s = now - self._next
        self.worst_s = max(self.worst_s, behind_s)
        self.late_ticks += behind_s > LATE_TICK_S
        self._schedule(now)
        self.ticks += 1
        out = []
        for player in list(self.players.values()):
            if now - player.heard_at > FORGET_S:
                self.left.append(self.players.pop(player.address))
                continue
            player.sent += 1
            state = Message(
                "state",
                player.who,
                player.sent,
                now,
                player.inputs.newest,
                max(0.0, now - player.heard_at),
            )
            size = player.sizes.randint(*STATE_BYTES)
            out.append((state.encode(size), player.address))
        if not self.players:
            self._next = math.inf
        return out

    def _schedule(self, now: float) -> None:
        step_s = 1 / self.ticks_per_s
        self._next += step_s
        behind = math.floor((now - self._next) / step_s)
        if behind > CATCH_UP:
            self.skipped += behind - CATCH_UP
            self._next += (behind - CATCH_UP) * step_s


async def serve_game(
    server: GameServer,
    port: Port,
    clock: Callable[[], float] = time.monotonic,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The shell: never returns. `clock` must be one that the players share."""
    task_status.started()
    while True:
        wait_s = server.next_deadline() - clock() + SLACK_S
        with trio.move_on_at(trio.current_time() + wait_s):
            for payload, source in await port.receive():
                server.receive(payload, source, clock())
        for payload, to in server.poll(clock()):
            port.send(payload, to)


def main() -> int:
    """The server alone, until Ctrl-C or a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m lightspeed_client.lab.game")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--ticks", type=float, default=TICKS_PER_S, help="states a second")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    host, _, digits = options.listen.rpartition(":")
    if not host or not digits.isdigit() or not 0 < options.ticks <= 10_000:
        parser.error("--listen wants HOST:PORT, --ticks a number above 0 and up to 10000")
    try:
        with UdpPort.bind((host.strip("[]"), int(digits))) as port:
            print(f"{port.address[0]}:{port.address[1]}", flush=True)
            trio.run(serve_game, GameServer(options.seed, options.ticks), port)
    except (OSError, OverflowError) as exc:
        print(f"cannot listen on {options.listen}: {exc}; choose another port", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
