from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from lightspeed_protocol.runtime.ready import ReadySockets, TaskSockets, ready_sockets
from lightspeed_protocol.runtime.udp import open_socket


@pytest.fixture(params=["platform", "portable"])
def ready(request: pytest.FixtureRequest) -> Iterator[ReadySockets]:
    sockets = ready_sockets() if request.param == "platform" else TaskSockets()
    yield sockets
    sockets.close()


@pytest.fixture
def pool() -> Iterator[list[socket.socket]]:
    sockets = [open_socket(("127.0.0.1", 0)) for _ in range(5)]
    yield sockets
    for sock in sockets:
        sock.close()


async def test_readable_sockets_are_named_until_they_are_empty(
    ready: ReadySockets, pool: list[socket.socket]
) -> None:
    heard: list[tuple[int, bytes]] = []
    by_fd = {sock.fileno(): sock for sock in pool}

    def serve(descriptors: list[int]) -> None:
        heard.extend((fd, by_fd[fd].recv(100)) for fd in descriptors)

    for sock in pool[:4]:
        ready.add(sock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ready.run, serve)
        await trio.testing.wait_all_tasks_blocked()
        ready.add(pool[4])  # while it runs
        ready.discard(pool[0])
        for sock in pool:
            for _ in range(3):
                pool[0].sendto(b"x", sock.getsockname())
        with trio.fail_after(15):
            while len(heard) < 12:
                await trio.sleep(0.001)
        await trio.sleep(0.01)
        assert sorted(heard) == sorted((s.fileno(), b"x") for s in pool[1:] for _ in range(3))
        nursery.cancel_scope.cancel("test over")


def test_linux_has_its_own() -> None:
    assert (type(ready_sockets()).__name__ == "EpollSockets") == (sys.platform == "linux")


def test_what_can_be_read_now_is_served_without_waiting(
    ready: ReadySockets, pool: list[socket.socket]
) -> None:
    served: list[list[int]] = []
    for sock in pool:
        ready.add(sock)
    ready.serve_now(served.append)
    assert served == []
    for sock in pool[1:3]:
        pool[0].sendto(b"x", sock.getsockname())
    ready.serve_now(served.append)
    assert [sorted(each) for each in served] == [sorted(sock.fileno() for sock in pool[1:3])]
