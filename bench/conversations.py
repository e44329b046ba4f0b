"""Games that play through a relay or a tunnel: players and game server in one loop, on one clock.

    python -m bench.conversations ENTRY SERVER COUNT SECONDS

COUNT players, each with a socket of its own, send 100 bytes at a game's pace to the port ENTRY; the
game server, which listens on the port SERVER, sends each of them as much. Says as JSON, for each
way and each player: when its packets left, and how many seconds each took, null for never; and the
copies and the packets that were not what was sent.
"""

from __future__ import annotations

import gc
import heapq
import json
import random
import select
import socket
import struct
import sys
import time
from typing import Any, Final

import attrs

from .load import Address, arrived, udp_socket

PACKETS_PER_S: Final = 64
PAYLOAD_BYTES: Final = 100
HEAD: Final = struct.Struct("!HIB")  # conversation, number, way
UP: Final = 0
DOWN: Final = 1
STAGGER_S: Final = 0.005  # between the players' first packets
LAST_S: Final = 0.6  # for what is under way at the end

_FILLER: Final = random.Random(1).randbytes(60_000)


def payload(conversation: int, number: int, way: int) -> bytes:
    """What this packet holds: nothing else is right."""
    at = (31 * number + 977 * conversation + 5003 * way) % (len(_FILLER) - PAYLOAD_BYTES)
    return HEAD.pack(conversation, number, way) + _FILLER[at : at + PAYLOAD_BYTES - HEAD.size]


@attrs.define(eq=False)
class Course:
    """One player's packets in one direction."""

    left: list[float] = attrs.field(factory=list)
    took: list[float | None] = attrs.field(factory=list)


@attrs.define(eq=False)
class Games:
    """Both ends of all conversations."""

    entry: Address
    server: socket.socket
    players: list[socket.socket]
    copies: int = 0
    wrong: int = 0
    courses: dict[tuple[int, int], Course] = attrs.field(init=False)  # by way and player
    _homes: dict[int, Address] = attrs.field(factory=dict)  # where the server answers
    _due: list[tuple[float, int, int]] = attrs.field(factory=list)
    _rng: random.Random = attrs.field(factory=lambda: random.Random(2))

    def __attrs_post_init__(self) -> None:
        ways = [(way, who) for way in (UP, DOWN) for who in range(len(self.players))]
        self.courses = {each: Course() for each in ways}

    def play(self, seconds: float) -> None:
        sockets = (self.server, *self.players)
        began = time.monotonic()
        for who in range(len(self.players)):
            self._begin(UP, who, began + who * STAGGER_S)
        while (now := time.monotonic()) < began + seconds + LAST_S:
            while self._due and self._due[0][0] <= now:
                due, way, who = heapq.heappop(self._due)
                if now < began + seconds:
                    self._send(way, who)
                    heapq.heappush(self._due, (max(due + 1 / PACKETS_PER_S, now), way, who))
            wait_s = self._due[0][0] - time.monotonic() if self._due else LAST_S
            for sock in select.select(sockets, (), (), max(wait_s, 0.0))[0]:
                self._hear(sock)

    def _begin(self, way: int, who: int, at: float) -> None:
        heapq.heappush(self._due, (at + self._rng.random() / PACKETS_PER_S, way, who))

    def _send(self, way: int, who: int) -> None:
        course = self.courses[way, who]
        packet = payload(who, len(course.left), way)
        course.left.append(time.monotonic())
        course.took.append(None)
        if way == UP:
            self.players[who].sendto(packet, self.entry)
        else:
            self.server.sendto(packet, self._homes[who])

    def _hear(self, sock: socket.socket) -> None:
        here = UP if sock is self.server else DOWN
        for packet, source in arrived(sock):
            now = time.monotonic()
            who, number, way = HEAD.unpack_from(packet.ljust(HEAD.size))
            course = self.courses.get((way, who))
            expected = way == here and (way == UP or sock is self.players[who])
            if not expected or course is None or packet != payload(who, number, way):
                self.wrong += 1
                continue
            if course.took[number] is not None:
                self.copies += 1
                continue
            course.took[number] = now - course.left[number]
            if way == UP and who not in self._homes:
                self._homes[who] = source
                self._begin(DOWN, who, now)

    def says(self) -> dict[str, Any]:
        def rows(way: int) -> list[dict[str, Any]]:
            return [
                attrs.asdict(self.courses[way, who], recurse=False)
                for who in range(len(self.players))
            ]

        return {"up": rows(UP), "down": rows(DOWN), "copies": self.copies, "wrong": self.wrong}


def main() -> None:
    entry, server, count = map(int, sys.argv[1:4])
    sockets = [udp_socket() for _ in range(count)]
    games = Games(("127.0.0.1", entry), udp_socket(server), sockets)
    gc.disable()  # its pauses would be the tunnel's
    games.play(float(sys.argv[4]))
    print(json.dumps(games.says()), flush=True)


if __name__ == "__main__":
    main()
