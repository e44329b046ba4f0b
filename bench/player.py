"""A registered player and the game server he plays on, both in this process, at a game's pace.

    python -m bench.player CONTROL_PORT DATA_PORT

One clock sees a packet leave the player, come out at the game server, and its answer come home
through the node: nothing but the node's two crossings lies between. Plays until its input ends,
then prints each packet as JSON: [when it left, seconds to the server, seconds for the whole round],
null where it did not arrive. Times are `time.monotonic`, which all processes share.
"""

from __future__ import annotations

import json
import select
import struct
import sys
import time
from typing import Final

import trio
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.sealed_flow import SealedFlow

from .clients import register_once
from .load import PAYLOAD, sealed_player, udp_socket

PACKETS_PER_S: Final = 128
_NUMBER: Final = struct.Struct("!I")


def play(control_port: int, data_port: int) -> list[tuple[float, float | None, float | None]]:
    end = trio.run(register_once, control_port)
    server = udp_socket()
    player = sealed_player(end, data_port, server.getsockname()[1])
    flow = player.endpoint
    assert isinstance(flow, SealedFlow)
    padding = PAYLOAD[_NUMBER.size :]
    left: list[float] = []
    arrived: dict[int, float] = {}
    back: dict[int, float] = {}
    poll = select.epoll()
    for fd in (player.sock, server, sys.stdin):
        poll.register(fd, select.EPOLLIN)
    print(json.dumps("playing"), flush=True)
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if now >= due:
            datagram = flow.wrap(_NUMBER.pack(len(left)) + padding, 0, 0.0)[0]
            left.append(time.monotonic())
            player.sock.sendto(datagram, player.to)
            due = max(due + 1 / PACKETS_PER_S, now)  # after a stall: no burst to catch up
        for fd, _ in poll.poll(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            if fd == server.fileno():
                payload, source = server.recvfrom(4096)
                server.sendto(payload, source)
                arrived[_NUMBER.unpack_from(payload)[0]] = now
            elif fd == player.sock.fileno():
                try:
                    opened = end.open(player.sock.recv(4096), now)
                except WireError:
                    continue
                if not opened.flags:
                    back[_NUMBER.unpack_from(opened.payload)[0]] = now
            else:
                rows = []
                for number, at in enumerate(left):
                    there, here = arrived.get(number), back.get(number)
                    rows.append((at, there and there - at, here and here - at))
                return rows


if __name__ == "__main__":
    print(json.dumps(play(int(sys.argv[1]), int(sys.argv[2]))), flush=True)
