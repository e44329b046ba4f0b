"""The baselines a benchmark compares with: bare forwarders that check nothing.

    python -m bench.peers await|drain|echo PORT TO_PORT

`await` receives and sends with one `await` per packet, as a first trio program would; `drain`
waits for readability once and takes what is there. Both know one client and one server.
`echo` is a game server that answers everything, blocking, as fast as Python can.
"""

from __future__ import annotations

import socket
import sys
from functools import partial

import trio

LARGEST = 2048


async def run_await(port: int, server: int) -> None:
    """One await per packet, each way."""
    front = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    back = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await front.bind(("127.0.0.1", port))
    await back.bind(("127.0.0.1", 0))
    client = ("127.0.0.1", 0)

    async def up() -> None:
        nonlocal client
        while True:
            datagram, client = await front.recvfrom(LARGEST)
            await back.sendto(datagram, ("127.0.0.1", server))

    async def down() -> None:
        while True:
            datagram, _ = await back.recvfrom(LARGEST)
            await front.sendto(datagram, client)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(up)
        nursery.start_soon(down)


async def run_drain(port: int, server: int) -> None:
    """Wait once, take up to 64, each way."""
    front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    front.bind(("127.0.0.1", port))
    back.bind(("127.0.0.1", 0))
    for sock in (front, back):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
    client = ("127.0.0.1", 0)
    to = ("127.0.0.1", server)

    async def up() -> None:
        nonlocal client
        while True:
            await trio.lowlevel.wait_readable(front)
            for _ in range(64):
                try:
                    datagram, client = front.recvfrom(LARGEST)
                except BlockingIOError:
                    break
                back.sendto(datagram, to)

    async def down() -> None:
        while True:
            await trio.lowlevel.wait_readable(back)
            for _ in range(64):
                try:
                    datagram, _ = back.recvfrom(LARGEST)
                except BlockingIOError:
                    break
                front.sendto(datagram, client)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(up)
        nursery.start_soon(down)


def run_echo(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        while True:
            sock.sendto(*sock.recvfrom(LARGEST))


if __name__ == "__main__":
    kind, port, server = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if kind == "echo":
        run_echo(port)
    trio.run(partial({"await": run_await, "drain": run_drain}[kind], port, server))
