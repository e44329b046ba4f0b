"""The node as its operator has it: a process, signals, ports, exit codes, systemd's socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from lightspeed_protocol.header import FIN, HEADER_BYTES, Header, decode

from tests.support.daemons import Child, free_ports, open_child
from tests.support.posix import posix_only
from tests.support.web import ask

posix_only()
assert sys.platform != "win32"

NODE = [sys.executable, "-m", "lightspeed_proxy"]
LONGEST_STOP_S = 6.0  # what the node promises
LARGEST_IDLE_KB = 56_000  # issue 2, "Speed"


@attrs.define
class Node:
    child: Child
    data: tuple[str, int]
    http: tuple[str, int]


@asynccontextmanager
async def running(
    *options: str | Path, dev: bool = True, env: Mapping[str, str] | None = None
) -> AsyncIterator[Node]:
    data_port, http_port, control_port = free_ports(3)
    data, http = ("127.0.0.1", data_port), ("127.0.0.1", http_port)
    command = [*NODE, "run", "--data", f"127.0.0.1:{data_port}", "--http", f"127.0.0.1:{http_port}"]
    command += ["--control", f"127.0.0.1:{control_port}"]
    command += [str(option) for option in options]
    command += ["--dev"] if dev else []
    async with open_child("node", command, env=env) as child:
        await child.printed("is ready")
        assert (await ask(http, "GET", "/readyz")).status == 200
        yield Node(child, data, http)


@asynccontextmanager
async def udp() -> AsyncIterator[trio.socket.SocketType]:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        yield sock


async def health_of(node: Node) -> dict[str, Any]:
    fields = json.loads((await ask(node.http, "GET", "/health")).body)
    assert isinstance(fields, dict)
    return fields


async def play_one_packet(
    node: Node,
    player: trio.socket.SocketType,
    game: trio.socket.SocketType,
    sequence: int = 1,
) -> None:
    """One packet to the game server through the node, and its answer back."""
    header = Header(source=player.getsockname(), destination=game.getsockname(), sequence=sequence)
    with trio.fail_after(5):
        await player.sendto(header.encode() + b"input", node.data)
        payload, exit_address = await game.recvfrom(2048)
        assert payload == b"input"
        await game.sendto(b"state", exit_address)
        answer, _ = await player.recvfrom(2048)
    assert answer[HEADER_BYTES:] == b"state"


async def flags_heard(player: trio.socket.SocketType, within_s: float) -> list[int]:
    heard: list[int] = []
    with trio.move_on_after(within_s):
        while FIN not in heard:
            heard.append(decode((await player.recvfrom(2048))[0]).flags)
    return heard


async def test_a_node_carries_a_packet_and_says_goodbye_when_it_is_stopped() -> None:
    async with running() as node, udp() as player, udp() as game:
        await play_one_packet(node, player, game)
        health = await health_of(node)
        assert health["active_connections"] == 1
        assert health["packets_relayed"] == 2
        assert health["packets_dropped"] == 0
        began = trio.current_time()
        node.child.process.send_signal(signal.SIGTERM)
        assert FIN in await flags_heard(player, LONGEST_STOP_S)
        with trio.fail_after(LONGEST_STOP_S):
            assert await node.child.process.wait() == 0
        assert trio.current_time() - began < LONGEST_STOP_S
    assert "stopped" in node.child.tail()


async def test_busy_players_are_drained_no_longer_than_configured(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    put(file, "[shutdown]\ndrain_s = 2.0\n")
    async with running("--config", file) as node, udp() as player, udp() as game:
        await play_one_packet(node, player, game)
        header = Header(source=player.getsockname(), destination=game.getsockname())
        carried = 0

        async def keep_playing() -> None:
            for sequence in range(2, 10_000):
                packet = attrs.evolve(header, sequence=sequence).encode() + b"input"
                await player.sendto(packet, node.data)
                await trio.sleep(0.02)

        async def count() -> None:
            nonlocal carried
            while True:
                await game.recvfrom(2048)
                carried += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_playing)
            nursery.start_soon(count)
            node.child.process.send_signal(signal.SIGTERM)
            await node.child.printed("stopping")
            began, before = trio.current_time(), carried
            answer = await ask(node.http, "GET", "/health")
            assert (answer.status, json.loads(answer.body)["status"]) == (503, "draining")
            with trio.fail_after(LONGEST_STOP_S):
                assert await node.child.process.wait() == 0
            assert trio.current_time() - began > 1.5
            assert carried - before > 40  # of about 100: running games went on
            nursery.cancel_scope.cancel("test over")


async def test_a_second_sigterm_ends_it_at_once() -> None:
    async with running() as node, udp() as player, udp() as game:
        await play_one_packet(node, player, game)
        node.child.process.send_signal(signal.SIGTERM)
        await node.child.printed("stopping")
        node.child.process.send_signal(signal.SIGTERM)
        with trio.fail_after(LONGEST_STOP_S):
            assert await node.child.process.wait() == 1  # a drain that was waited for says 0
    assert "Traceback" not in node.child.tail()


async def test_sigint_stops_it_too() -> None:
    async with running() as node:
        node.child.process.send_signal(signal.SIGINT)
        with trio.fail_after(LONGEST_STOP_S):
            assert await node.child.process.wait() == 0


async def test_a_reload_takes_a_good_file_and_keeps_the_old_settings_on_a_bad_one(
    tmp_path: Path,
) -> None:
    file = tmp_path / "proxy.toml"
    put(file, "[limits]\nmax_clients = 7\n")
    async with running("--config", file) as node, udp() as player, udp() as game:

        async def limit() -> int:
            health = await health_of(node)
            return int(health["max_connections"])

        await play_one_packet(node, player, game)
        assert await limit() == 7
        put(file, "[limits]\nmax_clients = 8\n")
        node.child.process.send_signal(signal.SIGHUP)
        await node.child.printed("limits.max_clients is now 8 (was 7)")
        assert await limit() == 8
        put(file, "[limits]\nmax_clients = 0\nmax_pps = 1\n")
        node.child.process.send_signal(signal.SIGHUP)
        await node.child.printed("unknown key 'max_pps'")
        await node.child.printed("'max_clients' must be >= 1: 0")
        assert await limit() == 8
        await play_one_packet(node, player, game, sequence=2)  # the flow never noticed
        health = await health_of(node)
        assert health["sessions_created"] == 1


async def test_without_dev_it_answers_health_and_relays_nothing() -> None:
    async with running(dev=False) as node, udp() as player, udp() as game:
        await node.child.printed("relays for nobody")
        header = Header(source=player.getsockname(), destination=game.getsockname())
        await player.sendto(header.encode() + b"input", node.data)
        with trio.fail_after(5):
            fields = await health_of(node)
            while fields["packets_dropped"] == 0:
                fields = await health_of(node)
        assert fields["drops"]["closed"] == 1
        assert fields["packets_relayed"] == 0


async def run_to_end(*args: str | Path) -> tuple[int, str]:
    with trio.fail_after(20):
        done = await trio.run_process(
            [*NODE, *map(str, args)], capture_stderr=True, capture_stdout=True, check=False
        )
    return done.returncode, done.stderr.decode()


async def test_a_port_in_use_is_one_line_with_the_remedy() -> None:
    async with running() as node:
        (free,) = free_ports(1)
        data, http = f"127.0.0.1:{node.data[1]}", f"127.0.0.1:{node.http[1]}"
        status, text = await run_to_end("run", "--dev", "--data", data, "--http", f":{free}")
        assert (status, text.count("\n")) == (1, 1)
        assert f"UDP {data} is in use" in text
        assert "--data" in text
        status, text = await run_to_end(
            "run", "--dev", "--data", f"127.0.0.1:{free}", "--http", http
        )
        assert (status, text.count("\n")) == (1, 1)
        assert f"TCP {http} is in use" in text
        assert "--http" in text


async def test_a_malformed_file_stops_the_start_with_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    put(file, "[limits]\nmax_clients = 0\n[data]\nbind = 5\n[nodes]\n")
    status, text = await run_to_end("run", "--config", file)
    assert status == 78
    assert text.splitlines() == [
        f"{file}:",
        "  want str, got 5 @ config.data.bind",
        "  'max_clients' must be >= 1: 0 @ config.limits.max_clients",
        "  unknown key 'nodes', did you mean 'node'? @ config",
    ]


async def test_an_open_node_on_a_public_address_is_refused() -> None:
    status, text = await run_to_end("run", "--dev", "--data", "0.0.0.0:0")
    assert status == 77
    assert text.count("\n") == 1
    assert "--force" in text


async def test_systemd_hears_ready_watchdog_reload_and_stop(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    put(file, "[limits]\nmax_clients = 7\n")
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        await manager.bind(str(tmp_path / "notify"))
        env = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "400000",
            "JOURNAL_STREAM": "8:1",
        }
        said: list[str] = []

        async def until(text: str) -> str:
            with trio.fail_after(10):
                while True:
                    said.append((await manager.recv(4096)).decode())
                    if text in said[-1]:
                        return said[-1]

        async with running("--config", file, env=env) as node:
            assert (await until("READY=1")).startswith("READY=1\n")
            for _ in range(3):
                await until("WATCHDOG=1")
            before = time.monotonic_ns() // 1000
            node.child.process.send_signal(signal.SIGHUP)
            reloading = await until("RELOADING=1")
            micros = int(reloading.partition("MONOTONIC_USEC=")[2])
            assert before <= micros <= time.monotonic_ns() // 1000
            await until("READY=1")
            node.child.process.send_signal(signal.SIGTERM)
            await until("STOPPING=1")
            with trio.fail_after(LONGEST_STOP_S):
                assert await node.child.process.wait() == 0
        records = node.child.records()
        assert len(records) == len(node.child.lines)  # under systemd every line is JSON
        assert {"time", "level", "logger", "message"} <= records[0].keys()


async def test_status_tells_how_a_running_node_is() -> None:
    async with running() as node:
        with trio.fail_after(20):
            done = await trio.run_process(
                [*NODE, "status", "--json", "--http", f"127.0.0.1:{node.http[1]}"],
                capture_stdout=True,
            )
        fields = json.loads(done.stdout)
        assert fields["status"] == "healthy"
        assert fields["open"] is True


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_an_idle_node_stays_small() -> None:
    async with running() as node:
        await ask(node.http, "GET", "/metrics")
        await ask(node.http, "POST", "/telemetry", b"{}")
        assert resident_kb(node.child.process.pid) <= LARGEST_IDLE_KB


def resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        (line,) = [line for line in file if line.startswith("VmRSS:")]
    return int(line.split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_churn_of_http_connections_leaves_no_descriptor_behind() -> None:
    async with running() as node:
        await ask(node.http, "GET", "/health")
        before = len(os.listdir(f"/proc/{node.child.process.pid}/fd"))
        for _ in range(200):
            assert (await ask(node.http, "GET", "/livez")).status == 200
        with trio.fail_after(5):
            while len(os.listdir(f"/proc/{node.child.process.pid}/fd")) > before:
                await trio.sleep(0.01)


def put(file: Path, text: str) -> None:
    file.write_text(text)
