"""A player and a game server that number what they send: two small programs for the net tests.

    python -m tests.support.numbered serve HOST:PORT
    python -m tests.support.numbered play HOST:PORT PACKETS PER_SECOND

The server sends every packet back. The player prints one JSON object: which numbers came back,
how often one came twice, the longest silence. The server prints one on SIGTERM: how many
packets, how many twice, and how many addresses it saw a player at.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
import time
from types import FrameType

NUMBER = struct.Struct("!I")
FILLER = b"position health ammunition " * 4  # with the number 112 bytes: a usual state packet
LINGER_S = 1.0


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def serve(where: tuple[str, int]) -> dict[str, int]:
    seen: set[bytes] = set()
    players: set[tuple[str, int]] = set()
    packets = 0

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(where)
        print("serving", flush=True)
        try:
            while True:
                data, player = sock.recvfrom(2048)
                packets += 1
                seen.add(data)
                players.add(player)
                sock.sendto(data, player)
        except KeyboardInterrupt:
            return {"packets": packets, "twice": packets - len(seen), "players": len(players)}


def play(where: tuple[str, int], packets: int, per_second: float) -> dict[str, object]:
    back: list[int] = []
    gap_s = 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        began = heard = time.monotonic()
        sent = 0
        end = began + packets / per_second + LINGER_S
        while (now := time.monotonic()) < end:
            due = began + sent / per_second if sent < packets else end
            if now >= due and sent < packets:
                sock.sendto(NUMBER.pack(sent) + FILLER, where)
                sent += 1
                continue
            if not select.select([sock], [], [], max(0.0, min(due, end) - now))[0]:
                continue
            data = sock.recv(2048)
            now = time.monotonic()
            gap_s, heard = max(gap_s, now - heard), now
            back.append(NUMBER.unpack_from(data)[0])
    return {
        "sent": sent,
        "back": sorted(set(back)),
        "twice": len(back) - len(set(back)),
        "gap_s": gap_s,
    }


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        print(json.dumps(serve(address(sys.argv[2]))), flush=True)
    else:
        print(json.dumps(play(address(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
