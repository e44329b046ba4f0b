"""The client as a player runs it: a process on loopback, against the fake node of the tests."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from lightspeed_protocol.runtime.udp import UdpPort

from tests.client.fakes import FakeNode
from tests.support.posix import posix_only

posix_only()
assert sys.platform != "win32"

SERVER = "203.0.113.5:27960"  # only the fake node is ever asked for it


@attrs.define(eq=False)
class Client:
    """A running `lightspeed redirect --json`; `records` grows as it writes."""

    process: trio.Process
    records: list[dict[str, Any]] = attrs.field(factory=list)

    @property
    def local(self) -> tuple[str, int]:
        host, _, port = self.records[0]["local"][0].rpartition(":")
        return host, int(port)

    async def read(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        async for chunk in self.process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            self.records += [json.loads(line) for line in lines]

    async def until(self, true: Callable[[], bool], *, within_s: float) -> None:
        with trio.fail_after(within_s):
            while not true():
                await trio.sleep(0.02)

    async def until_state(self, state: str, *, within_s: float) -> None:
        await self.until(lambda: bool(self.records) and self.records[-1]["state"] == state,
                         within_s=within_s)  # fmt: skip


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
    }


@asynccontextmanager
async def open_client(home: Path, node: tuple[str, int], *extra: str) -> AsyncIterator[Client]:
    command = [
        sys.executable, "-m", "lightspeed_client", "redirect", "--server", SERVER,
        "--proxy", f"{node[0]}:{node[1]}", "--json", *extra,
    ]  # fmt: skip
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process, command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                check=False, env=environment(home),
            )
        )  # fmt: skip
        client = Client(process)
        nursery.start_soon(client.read)
        await client.until(lambda: bool(client.records), within_s=10)
        yield client
        if process.returncode is None:
            process.kill()


async def talk(game: UdpPort, payload: bytes, to: tuple[str, int]) -> list[bytes]:
    game.send(payload, to)
    with trio.move_on_after(1):
        return [datagram for datagram, _ in await game.receive()]
    return []


async def run_lightspeed(home: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(30):
        return await trio.run_process(
            [sys.executable, "-m", "lightspeed_client", *args],
            capture_stdout=True, capture_stderr=True, check=False, env=environment(home),
        )  # fmt: skip


def with_node(
    scenario: Callable[[FakeNode, UdpPort, trio.CancelScope], Awaitable[object]],
    node: FakeNode | None = None,
) -> Callable[[], Awaitable[None]]:
    """Run a scenario beside a node on loopback."""

    async def run() -> None:
        fake = FakeNode() if node is None else node
        with UdpPort.bind(("127.0.0.1", 0)) as port:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fake.serve, port)
                await scenario(fake, port, nursery.cancel_scope)
                nursery.cancel_scope.cancel("scenario over")

    return run


@pytest.mark.parametrize("fec", ["off", "xor:4"])
async def test_two_games_play_and_sigterm_ends_it_with_fin_and_exit_0(
    tmp_path: Path, fec: str
) -> None:
    async def scenario(node: FakeNode, port: UdpPort, _: trio.CancelScope) -> None:
        async with open_client(tmp_path, port.address, "--fec", fec, "--local-port", "0") as client:
            with UdpPort.bind(("127.0.0.1", 0)) as one, UdpPort.bind(("127.0.0.1", 0)) as two:
                for number in range(20):
                    assert await talk(one, b"one %d" % number, client.local) == [b"one %d" % number]
                    assert await talk(two, b"two %d" % number, client.local) == [b"two %d" % number]
                tunnels = {source for _, source in node.got}
                assert len(tunnels) == 2

                with UdpPort.bind(("127.0.0.1", 0)) as stranger:  # keepalives go on meanwhile
                    for tunnel in tunnels:
                        head = struct.pack("!BBHI", 0x10, 0, 5000, 0)
                        stranger.send(head + bytes(12) + b"evil", tunnel)
                        port.send(struct.pack("!BBHI12x", 0x11, 0, 60000, 0), tunnel)
                    heard: list[object] = []
                    with trio.move_on_after(1.5):
                        heard += await one.receive()
                    assert heard == []
                assert len(node.keepalives) >= 4
                await client.until_state("carrying", within_s=3)
                status = await run_lightspeed(tmp_path, "status", "--json")
                assert json.loads(status.stdout)["server"] == SERVER

            client.process.send_signal(signal.SIGTERM)
            with trio.fail_after(6):
                assert await client.process.wait() == 0
            await client.until(lambda: client.records[-1].get("final") is True, within_s=1)
            assert set(node.fins) == tunnels
            totals = client.records[-1]["totals"]
            assert (totals["sent"], totals["received"], totals["flows"]) == (40, 40, 2)
            assert totals["strangers"] == 2
            assert [r for r in client.records if r.get("final")] == client.records[-1:]
            for key in ("state", "path", "rtt_ms", "jitter_ms", "loss", "repaired", "sent",
                        "received", "overhead"):  # fmt: skip
                assert all(key in record for record in client.records)

        reports = list((tmp_path / "state" / "lightspeed" / "reports").iterdir())
        assert len(reports) == 1
        assert json.loads(reports[0].read_text())["sent"] == 40
        assert (await run_lightspeed(tmp_path, "status")).returncode == 1
        assert b"40 packets from the game" in (await run_lightspeed(tmp_path, "report")).stdout

    await with_node(scenario)()


async def test_the_client_carries_again_within_3_s_of_the_nodes_return(tmp_path: Path) -> None:
    address: tuple[str, int] = ("127.0.0.1", 0)
    with UdpPort.bind(address) as first:
        address = first.address
        async with open_client(tmp_path, address) as client:
            with UdpPort.bind(("127.0.0.1", 0)) as game:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(FakeNode().serve, first)
                    assert await talk(game, b"before", client.local) == [b"before"]
                    await client.until_state("carrying", within_s=3)
                    nursery.cancel_scope.cancel("kill -9")
                first.close()
                with trio.fail_after(8):
                    while client.records[-1]["state"] != "no-answer":
                        game.send(b"lost", client.local)
                        await trio.sleep(0.1)
                assert client.process.returncode is None
                assert "UDP port" in client.records[-1]["notice"]

                with UdpPort.bind(address) as second:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(FakeNode().serve, second)
                        with trio.fail_after(15):
                            while client.records[-1]["state"] != "carrying":
                                game.send(b"again", client.local)
                                await trio.sleep(0.1)
                        assert b"again" in await talk(game, b"again", client.local)
                        nursery.cancel_scope.cancel("scenario over")


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    node = FakeNode(answers_fin=False)

    async def scenario(node: FakeNode, port: UdpPort, _: trio.CancelScope) -> None:
        async with open_client(tmp_path, port.address) as client:
            with UdpPort.bind(("127.0.0.1", 0)) as game:
                await talk(game, b"hello", client.local)
            os.kill(client.process.pid, signal.SIGSTOP)  # both are waiting when it goes on
            client.process.send_signal(signal.SIGTERM)
            client.process.send_signal(signal.SIGINT)
            os.kill(client.process.pid, signal.SIGCONT)
            with trio.fail_after(15):
                assert await client.process.wait() == 1
            assert node.fins

    await with_node(scenario, node)()


async def test_a_taken_port_is_one_line_and_exit_1(tmp_path: Path) -> None:
    with UdpPort.bind(("127.0.0.1", 0)) as taken:
        result = await run_lightspeed(
            tmp_path, "redirect", "--server", SERVER, "--proxy", "127.0.0.1:9",
            "--local-port", str(taken.address[1]),
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.count(b"\n") == 1
    assert b"in use" in result.stderr


async def test_a_full_disk_costs_the_report_and_not_the_session(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory can be made here")

    async def scenario(node: FakeNode, port: UdpPort, _: trio.CancelScope) -> None:
        async with open_client(tmp_path, port.address) as client:
            with UdpPort.bind(("127.0.0.1", 0)) as game:
                assert await talk(game, b"hello", client.local) == [b"hello"]
            client.process.send_signal(signal.SIGTERM)
            with trio.fail_after(6):
                assert await client.process.wait() == 0
            await client.until(lambda: client.records[-1].get("final") is True, within_s=1)

    await with_node(scenario)()


async def test_a_reader_that_leaves_ends_the_client_cleanly(tmp_path: Path) -> None:
    async def scenario(node: FakeNode, port: UdpPort, _: trio.CancelScope) -> None:
        command = [
            sys.executable, "-m", "lightspeed_client", "redirect", "--server", SERVER,
            "--proxy", f"127.0.0.1:{port.address[1]}", "--json",
        ]  # fmt: skip
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(
                    trio.run_process, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    check=False, env=environment(tmp_path),
                )
            )  # fmt: skip
            assert process.stdout is not None
            assert process.stderr is not None
            await process.stdout.receive_some(10)
            await process.stdout.aclose()
            with trio.fail_after(8):
                assert await process.wait() == 0
            text = bytes(await process.stderr.receive_some(9999))
            assert text == b"", "a broken pipe is no news"

    await with_node(scenario)()


@pytest.mark.parametrize("command", ["probe", "test", "doctor"])
async def test_checks_tell_by_exit_status(tmp_path: Path, command: str) -> None:
    async def scenario(node: FakeNode, port: UdpPort, scope: trio.CancelScope) -> None:
        there, gone = f"127.0.0.1:{port.address[1]}", "127.0.0.1:9"
        bad_home = tmp_path / "bad"
        (bad_home / "config" / "lightspeed").mkdir(parents=True)
        (bad_home / "config" / "lightspeed" / "lightspeed.toml").write_text("x = 1\n")
        args = {
            "probe": (("probe", there, "--count", "3"), ("probe", gone, "--count", "1")),
            "test": (
                ("test", "--proxy", there, "--server", "127.0.0.1:9"),
                ("test", "--proxy", gone, "--server", "127.0.0.1:9", "--game", "openarena"),
            ),
            "doctor": (("doctor",), ("doctor",)),
        }[command]
        good = await run_lightspeed(tmp_path, *args[0], "--json")
        assert good.returncode == 0, good.stderr
        json.loads(good.stdout)
        bad = await run_lightspeed(bad_home if command == "doctor" else tmp_path, *args[1])
        assert bad.returncode == 1
        assert b"Traceback" not in bad.stderr

    await with_node(scenario)()
