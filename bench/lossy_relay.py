"""A relay that delays everything alike and loses some of it by seed, in a process of its own.

    python -m bench.lossy_relay FRONT BACK SEED COURSE

Whoever sends to FRONT is carried to BACK, and back. COURSE is JSON, a list of [loss, run, seconds]
as `loss_world.Weather`; losses begin with a line of input and end with the course. Each
conversation has bad times of its own, because they stand for so many players. When its input ends
it says as JSON, for each way: IP bytes of source packets and of all, for each second, and which
source packets were lost, as [conversation, number].
"""

from __future__ import annotations

import json
import math
import random
import select
import socket
import sys
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Final

import attrs
from lightspeed_client.lab.packets import Kind, read_packet

from .conversations import HEAD, PACKETS_PER_S
from .load import Address, arrived, udp_socket
from .loss_world import Losses, Weather

DELAY_S: Final = 0.015
UDP_IP_BYTES: Final = 28
IDLE_S: Final = 0.5


@attrs.define(eq=False)
class Way:
    """Up or down: its losses, and what it has carried."""

    seed: str
    course: Sequence[Weather]
    carried: defaultdict[int, list[int]] = attrs.field(factory=lambda: defaultdict(lambda: [0, 0]))
    lost: list[tuple[int, int]] = attrs.field(factory=list)
    _losses: dict[bytes, Losses] = attrs.field(factory=dict)

    def takes(self, datagram: bytes, since_s: float) -> bool:
        """Whether it is lost; `since_s` the course began, below 0 before that."""
        packet = read_packet(datagram)
        size = len(datagram) + UDP_IP_BYTES
        sums = self.carried[math.floor(since_s)]
        sums[0] += size if packet.kind is Kind.SOURCE else 0
        sums[1] += size
        if not 0 <= since_s < sum(weather.seconds for weather in self.course):
            return False
        losses = self._losses.get(packet.conversation)
        if losses is None:
            rng = random.Random(f"{self.seed} {len(self._losses)}")
            losses = Losses(rng, self.course, slot_s=1 / PACKETS_PER_S)
            self._losses[packet.conversation] = losses
        if not losses.takes(since_s, size):
            return False
        if packet.kind is Kind.SOURCE:
            conversation, number, _ = HEAD.unpack_from(packet.payload)
            self.lost.append((conversation, number))
        return True


@attrs.define(eq=False)
class Relay:
    """One loop. Each client has a socket of its own towards the back."""

    front: socket.socket
    to: Address
    up: Way
    down: Way
    began: float = math.inf
    _backs: dict[Address, socket.socket] = attrs.field(factory=dict)
    _clients: dict[socket.socket, Address] = attrs.field(factory=dict)
    _air: deque[tuple[float, bytes, socket.socket, Address]] = attrs.field(factory=deque)

    def run(self) -> None:
        """Until the input ends."""
        while True:
            wait_s = self._air[0][0] - time.monotonic() if self._air else IDLE_S
            for ready in select.select(self._sources(), (), (), max(0.0, wait_s))[0]:
                if ready is self.front:
                    self._take_up()
                elif ready is not sys.stdin:
                    self._take_down(ready, self._clients[ready])
                elif sys.stdin.readline():
                    self.began = time.monotonic()
                else:
                    return
            while self._air and self._air[0][0] <= time.monotonic():
                _, datagram, sock, to = self._air.popleft()
                sock.sendto(datagram, to)

    def _sources(self) -> list[Any]:
        return [self.front, sys.stdin, *self._clients]

    def _take_up(self) -> None:
        for datagram, source in arrived(self.front):
            back = self._backs.get(source)
            if back is None:
                back = self._backs[source] = udp_socket()
                self._clients[back] = source
            self._carry(self.up, datagram, back, self.to)

    def _take_down(self, back: socket.socket, client: Address) -> None:
        for datagram, _ in arrived(back):
            self._carry(self.down, datagram, self.front, client)

    def _carry(self, way: Way, datagram: bytes, sock: socket.socket, to: Address) -> None:
        now = time.monotonic()
        if not way.takes(datagram, max(now - self.began, -1.0)):
            self._air.append((now + DELAY_S, datagram, sock, to))


def _says(way: Way) -> dict[str, Any]:
    return {"bytes": way.carried, "lost": way.lost}


def main() -> None:
    front, back = int(sys.argv[1]), int(sys.argv[2])
    seed, course = sys.argv[3], [Weather(*each) for each in json.loads(sys.argv[4])]
    up, down = (Way(f"{seed} {name}", course) for name in ("up", "down"))
    relay = Relay(udp_socket(front), ("127.0.0.1", back), up, down)
    print(json.dumps("carrying"), flush=True)
    relay.run()
    print(json.dumps({"up": _says(up), "down": _says(down)}), flush=True)


if __name__ == "__main__":
    main()
