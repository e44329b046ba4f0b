"""The two daemons as they are shipped: what a player lives through when one of them ends."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from lightspeed_protocol.runtime.udp import UdpPort

from tests.support.daemons import Child, free_ports, open_client, open_node

PACKETS_PER_S = 64


class Game:
    """A game's socket that says something 64 times a second and notes what comes back when."""

    def __init__(self, local_port: int) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect(("127.0.0.1", local_port))
        self.sock.setblocking(False)
        self.sent = 0
        self.heard: list[tuple[float, bytes]] = []

    async def play(self) -> None:
        due = trio.current_time()
        while True:
            due += 1 / PACKETS_PER_S
            await trio.sleep_until(due)
            self.sent += 1
            try:
                self.sock.send(b"input %d" % self.sent)
            except ConnectionError:
                continue  # the client is gone for a moment
            self.take()

    def take(self) -> None:
        while True:
            try:
                self.heard.append((trio.current_time(), self.sock.recv(2048)))
            except OSError:
                return

    async def heard_within(self, seconds: float) -> None:
        """Returns as soon as something new has come back."""
        before = len(self.heard)
        with trio.fail_after(seconds):
            while len(self.heard) == before:
                await trio.sleep(0.01)


async def answer(server: UdpPort, sources: list[tuple[str, int]]) -> None:
    """A game server that repeats what it hears and notes whom it heard."""
    while True:
        for payload, source in await server.receive():
            if source not in sources:
                sources.append(source)
            server.send(b"re " + payload, source)


@contextmanager
def game(local_port: int) -> Iterator[Game]:
    player = Game(local_port)
    try:
        yield player
    finally:
        player.sock.close()


def at(server: UdpPort) -> str:
    host, port = server.address
    return f"{host}:{port}"


def addresses() -> tuple[str, str, int]:
    data, http, local = free_ports(3)
    return f"127.0.0.1:{data}", f"127.0.0.1:{http}", local


@pytest.mark.parametrize("fec", ["off", "xor:4"])
async def test_a_killed_node_that_returns_carries_again_within_3_s(
    tmp_path: Path, fec: str
) -> None:
    data, http, local = addresses()
    exits: list[tuple[str, int]] = []
    with UdpPort.bind(("127.0.0.1", 0)) as server, game(local) as player:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, exits)
            async with (
                open_node(data, http) as node,
                open_client(
                    tmp_path, server=at(server), proxy=data, local_port=local, fec=fec
                ) as client,
            ):
                nursery.start_soon(player.play)
                await player.heard_within(3)
                await trio.sleep(1)
                node.process.kill()
                await node.process.wait()
                await client.until(
                    lambda: client.latest().get("state") == "no-answer", "an outage", 8
                )
                player.take()
                async with open_node(data, http):
                    await player.heard_within(3)
                    await client.until(
                        lambda: client.latest().get("state") == "carrying", "carrying", 3
                    )
                    assert client.process.poll() is None
                    await client.stop()
            nursery.cancel_scope.cancel("test over")
    assert len(exits) == 2  # a node that was killed could not keep its port
    answers = [payload for _, payload in player.heard]
    assert len(set(answers)) == len(answers)


async def test_terminating_either_daemon_is_clean_and_told(tmp_path: Path) -> None:
    data, http, local = addresses()
    with UdpPort.bind(("127.0.0.1", 0)) as server, game(local) as player:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, [])
            async with (
                open_node(data, http) as node,
                open_client(tmp_path, server=at(server), proxy=data, local_port=local) as client,
            ):
                nursery.start_soon(player.play)
                await player.heard_within(3)
                assert await stopped(node, 6) == 0
                await client.until(
                    lambda: any(r.get("state") == "node-leaving" for r in client.records()),
                    "the goodbye of the node",
                    3,
                )
                assert await stopped(client, 6) == 0
                final = client.latest()
                assert final["final"] is True
                assert final["received"] > 0
            nursery.cancel_scope.cancel("test over")


async def stopped(child: Child, within_s: float) -> int:
    """SIGTERM; the exit status, which must come in time."""
    child.process.terminate()
    with trio.fail_after(within_s):
        return await child.process.wait()


if sys.platform == "linux":  # reads /proc
    from tests.support.crowd import churn, descriptors, resident_mb

    async def test_ten_thousand_sessions_leave_nothing_behind(tmp_path: Path) -> None:
        """Memory, sockets and tasks of the real node, before and after, three times over."""
        data, http, _ = addresses()
        config = tmp_path / "proxy.toml"
        config.write_text("[limits]\nmax_clients = 10000\nmax_flows_per_client = 1\n")
        async with open_node(data, http, options=["--config", str(config)]) as node:
            pid = node.process.pid
            idle_files, idle_mb = descriptors(pid), resident_mb(pid)
            after: list[float] = []
            for _ in range(3):
                opened = await churn(("127.0.0.1", int(data.rpartition(":")[2])), 10_000, pid)
                assert opened == 10_000
                assert descriptors(pid) == idle_files
                after.append(resident_mb(pid))
            assert after[2] - idle_mb < 4.0, (idle_mb, after)  # a crowd of 10 000 takes 17
            assert after[2] - after[0] < 1.0, after
            assert await stopped(node, 6) == 0


@pytest.mark.slow
async def test_a_flow_in_use_for_six_minutes_keeps_its_port(tmp_path: Path) -> None:
    data, http, local = addresses()
    exits: list[tuple[str, int]] = []
    with UdpPort.bind(("127.0.0.1", 0)) as server, game(local) as player:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, exits)
            async with (
                open_node(data, http),
                open_client(tmp_path, server=at(server), proxy=data, local_port=local),
            ):
                nursery.start_soon(player.play)
                await trio.sleep(360)
                player.take()
            nursery.cancel_scope.cancel("test over")
    assert len(exits) == 1
    assert len(player.heard) >= player.sent - PACKETS_PER_S
