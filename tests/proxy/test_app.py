from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
import trio
from lightspeed_protocol.control import FrameReader, decode, encode, frame
from lightspeed_protocol.control_messages import (
    ControlMessage,
    Disconnect,
    DisconnectReason,
    Register,
    RegisterAck,
)
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.extensions import (
    Capability,
    RefusalCode,
    RegisterExtensions,
    decode_ack,
    encode_register,
)
from lightspeed_protocol.runtime.http import listen
from lightspeed_protocol.runtime.quic import ServerIdentity
from lightspeed_protocol.runtime.quic_client import QuicClient, open_client
from lightspeed_protocol.runtime.systemd import Notifier
from lightspeed_protocol.runtime.udp import open_socket
from lightspeed_proxy.config import Data, ProxyConfig, Shutdown, Source
from lightspeed_proxy.counters import Counters
from lightspeed_proxy.credentials import FILE, InviteStore
from lightspeed_proxy.identity import load_identity, make_pem
from lightspeed_proxy.refusals import refusal
from trio.testing import MockClock

from lightspeed_proxy import app
from tests.support.nodes import FakeRelay, node_state
from tests.support.posix import posix_only
from tests.support.web import ask

posix_only()
assert sys.platform != "win32"


@attrs.define
class Node:
    http: tuple[str, int]
    control: tuple[str, int]
    relay: FakeRelay
    identity: ServerIdentity
    invites: InviteStore
    done: trio.Event
    exit_error: list[BaseException]

    @asynccontextmanager
    async def client(self, pushed: list[ControlMessage] | None = None) -> AsyncIterator[QuicClient]:
        reader = FrameReader()
        heard = [] if pushed is None else pushed

        def keep(data: bytes) -> None:
            found = [each for each in reader.feed(data) if not isinstance(each, WireError)]
            heard.extend(found)

        pin = self.identity.spki_pin
        async with open_client(self.control, pin=pin, on_node_stream=keep) as client:
            yield client

    async def register(self, client: QuicClient, token: bytes | None) -> ControlMessage:
        ext = RegisterExtensions(credential=token, versions=(8,), features=(1,))
        body = encode(Register(8, 0, encode_register(ext)))
        return decode((await client.request(frame(body), timeout_s=20.0))[2:])


@asynccontextmanager
async def running(
    source: Source, *, notify: str | None = None, dev: bool = True
) -> AsyncIterator[Node]:
    """A node in this process around a fake data plane; ended by a signal or by the test."""
    made: list[FakeRelay] = []

    def make_relay(
        config: ProxyConfig, counters: Counters, *, data: tuple[socket.socket, ...], dev: bool
    ) -> FakeRelay:
        made.append(FakeRelay(config=config, counters=counters, data=data, dev=dev))
        return made[0]

    done = trio.Event()
    errors: list[BaseException] = []

    async def run_node(start: app.Start) -> None:
        try:
            await app.run(start)
        except* (OSError, SystemExit) as group:
            errors.extend(group.exceptions)
        done.set()

    with (
        closing(open_socket(("127.0.0.1", 0))) as data,
        closing(open_socket(("127.0.0.1", 0))) as control,
        closing(listen(("127.0.0.1", 0))) as http,
        tempfile.TemporaryDirectory() as state,
    ):
        source = attrs.evolve(source, state=state)
        async with trio.open_nursery() as nursery:
            start = app.Start(
                source=source,
                config=source.read(),
                data=(data,),
                control=control,
                http=http,
                identity=load_identity(source.read(), {}),
                invites=InviteStore(Path(state, FILE)),
                dev=dev,
                notifier=Notifier(address=notify),
                make_relay=make_relay,
            )
            nursery.start_soon(run_node, start)
            address = http.getsockname()
            while not made or (await ask(address, "GET", "/readyz")).status != 200:
                await trio.lowlevel.checkpoint()
            yield Node(
                address,
                control.getsockname(),
                made[0],
                start.identity,
                start.invites,
                done,
                errors,
            )
            nursery.cancel_scope.cancel("test over")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "proxy.toml"
    path.write_text("[limits]\nmax_clients = 7\n")
    return path


def put(file: Path, text: str | None) -> None:
    """Write the file, or remove it."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


async def until(told: str, node: Node) -> None:
    with trio.fail_after(10):
        while told not in node.relay.told:
            await trio.lowlevel.checkpoint()


async def logged(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(10):
        while text not in caplog.text:
            await trio.lowlevel.checkpoint()


async def test_a_reload_applies_all_of_a_good_file_and_says_what_changed(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(Source(path=file)) as node:
        put(file, '[limits]\nmax_clients = 9\n[data]\nbind = ":1"\n[security]\ndeny_ports = []\n')
        os.kill(os.getpid(), signal.SIGHUP)
        await until("apply", node)
        await logged("deny_ports", caplog)
        assert node.relay.config.limits.max_clients == 9
        assert node.relay.config.security.deny_ports == ()
        assert node.relay.config.data == ProxyConfig().data  # it stays where it is bound
        answer = await ask(node.http, "GET", "/health")
        assert json.loads(answer.body)["max_connections"] == 9
    assert "reload: limits.max_clients is now 9 (was 7)" in caplog.text
    assert "data.bind stays :4434 until a restart (file: :1)" in caplog.text


async def test_a_reload_of_a_bad_file_changes_nothing_and_says_why(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Source(path=file)) as node:
        put(file, "[limits]\nmax_clients = 0\nmax_clents = 5\n[node]\nregion = 1\n")
        os.kill(os.getpid(), signal.SIGHUP)
        await logged("'max_clients' must be >= 1: 0 @ config.limits.max_clients", caplog)
        await logged("unknown key 'max_clents'", caplog)
        await logged("want str, got 1 @ config.node.region", caplog)
        put(file, None)
        os.kill(os.getpid(), signal.SIGHUP)
        await logged("no such file", caplog)
        assert "apply" not in node.relay.told
        metrics = (await ask(node.http, "GET", "/metrics")).body.decode()
        assert 'lightspeed_config_reloads_total{result="refused"} 2.0' in metrics
        assert "lightspeed_max_connections 7.0" in metrics


async def test_a_reload_without_a_file_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Source()) as node:
        os.kill(os.getpid(), signal.SIGHUP)
        await logged("without a configuration file", caplog)
        assert node.relay.told == []


async def test_systemd_hears_every_state(file: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)

        async def heard() -> str:
            await trio.lowlevel.wait_readable(manager)
            return manager.recv(4096).decode()

        async with running(Source(path=file), notify=str(tmp_path / "notify")) as node:
            assert (await heard()).startswith("READY=1\nSTATUS=open to anyone")
            for text in ("[limits]\nmax_clients = 8\n", "[limits]\nmax_clients = 0\n"):
                put(file, text)
                os.kill(os.getpid(), signal.SIGHUP)
                assert (await heard()).startswith("RELOADING=1\nMONOTONIC_USEC=")
                assert (await heard()).startswith("READY=1\nSTATUS=reload")
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await heard()).startswith("STOPPING=1")
            await node.done.wait()


async def test_without_dev_and_invites_the_node_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(Source(), dev=False) as node:
        assert node.relay.dev is False
        assert "relays for nobody yet: make an invite with" in caplog.text
        fields = json.loads((await ask(node.http, "GET", "/health")).body)
        assert (fields["open"], fields["invites"], fields["registered"]) == (False, 0, 0)
        async with node.client() as client:
            assert isinstance(await node.register(client, None), Disconnect)
            _, token = node.invites.add("ada", unix_now=1.0)
            with trio.fail_after(20):
                while isinstance(await node.register(client, token), Disconnect):
                    await trio.sleep(0.2)  # slower than wrong tokens are paced
        fields = json.loads((await ask(node.http, "GET", "/health")).body)
        assert (fields["invites"], fields["registered"]) == (1, 1)
        assert fields["tasks"]["control"] == {"state": "running", "restarts": 0}


async def test_a_revoked_invite_ends_its_sessions(caplog: pytest.LogCaptureFixture) -> None:
    async with running(Source(), dev=False) as node, node.client() as client:
        _, token = node.invites.add("ada", unix_now=1.0)
        with trio.fail_after(20):
            while isinstance(await node.register(client, token), Disconnect):
                await trio.sleep(0.2)  # slower than wrong tokens are paced
            assert len(node.relay.granted) == 1
            node.invites.revoke("ada", unix_now=2.0)
            while node.relay.granted:
                await trio.sleep(0.01)


async def test_with_dev_the_node_says_loudly_that_it_is_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(Source(), dev=True):
        assert "this node is OPEN" in caplog.text


async def test_a_stop_tells_players_takes_nobody_and_answers_draining() -> None:
    async with running(Source()) as node:
        node.relay.sessions = node.relay.flows = 2
        node.relay.last_traffic = trio.current_time() + 60.0  # busy
        os.kill(os.getpid(), signal.SIGTERM)
        await until("say_goodbye", node)
        assert node.relay.told == ["refuse_new", "say_goodbye"]
        health = await ask(node.http, "GET", "/health")
        assert (health.status, json.loads(health.body)["status"]) == (503, "draining")
        assert (await ask(node.http, "GET", "/readyz")).status == 503
        node.relay.flows = 0
        await node.done.wait()
        assert node.relay.told[-1] == "close"
        assert node.exit_error == []


async def test_a_stop_is_said_over_quic_before_the_data_port_says_it() -> None:
    pushed: list[ControlMessage] = []
    async with running(Source()) as node, node.client(pushed) as client:
        assert isinstance(await node.register(client, None), RegisterAck)
        node.relay.flows = 1
        node.relay.last_traffic = trio.current_time() + 60.0
        os.kill(os.getpid(), signal.SIGTERM)
        await until("say_goodbye", node)
        with trio.fail_after(20):
            while not any(isinstance(message, Disconnect) for message in pushed):
                await trio.sleep(0.01)
        goodbye = pushed[-1]
        assert isinstance(goodbye, Disconnect)
        assert goodbye.reason == DisconnectReason.SERVER_SHUTDOWN
        assert not client.link.closed  # it may still ask
        assert await node.register(client, None) == refusal(RefusalCode.DRAINING)
        node.relay.flows = 0
        with trio.fail_after(20):
            assert (await client.wait_closed())[1] == "the node is stopping"
        await node.done.wait()


async def test_a_reload_takes_another_certificate_and_http_3(file: Path, tmp_path: Path) -> None:
    pem = tmp_path / "other.pem"
    pem.write_text(make_pem("other", datetime.now(UTC)))
    pem.chmod(0o600)
    settings = f'[control]\nh3 = true\ncertificate = "{pem}"\nkey = "{pem}"\n'
    async with running(Source(path=file)) as node:
        put(file, settings)
        os.kill(os.getpid(), signal.SIGHUP)
        await until("apply", node)
        later = load_identity(Source(path=file, state=str(tmp_path)).read(), {})
        assert later.spki_pin != node.identity.spki_pin
        async with open_client(node.control, pin=later.spki_pin, alpn="h3") as client:
            assert client.link.alpn == "h3"


async def test_a_reload_with_a_bad_certificate_changes_nothing(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pem = tmp_path / "bad.pem"
    pem.write_text("nonsense")
    async with running(Source(path=file)) as node:
        put(file, f'[control]\ncertificate = "{pem}"\nkey = "{pem}"\n[limits]\nmax_clients = 5\n')
        os.kill(os.getpid(), signal.SIGHUP)
        await logged("reload refused: holds no private key in PEM", caplog)
        assert "apply" not in node.relay.told
        async with node.client() as client:
            answer = await node.register(client, None)
            assert isinstance(answer, RegisterAck)
        assert json.loads((await ask(node.http, "GET", "/health")).body)["max_connections"] == 7


async def test_a_reload_changes_what_players_are_told(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Source(path=file)) as node, node.client() as client:
        before = await node.register(client, None)
        put(file, '[data]\nadvertise = "game.example.com:9"\n[control]\nbind = ":1"\n')
        os.kill(os.getpid(), signal.SIGHUP)
        await until("apply", node)
        after = await node.register(client, None)
    assert isinstance(before, RegisterAck)
    assert isinstance(after, RegisterAck)
    assert decode_ack(before.extensions).data_host == ""
    told = decode_ack(after.extensions)
    assert (told.data_host, told.data_port) == ("game.example.com", 9)
    assert "control.bind stays :4433 until a restart (file: :1)" in caplog.text
    assert node.relay.config.control.bind == ":4433"


def test_what_is_told_is_what_is_known() -> None:
    here = app.what_to_tell(ProxyConfig(data=Data(bind="127.0.0.1:5000")), 5000, dev=True)
    assert (here.data_port, here.data_host, here.visible) == (5000, "", "127.0.0.1")
    assert Capability.NODE_STREAM in here.capabilities
    forwarded = Data(advertise="198.51.100.7:4000")
    there = app.what_to_tell(ProxyConfig(data=forwarded), 5000, dev=False)
    assert (there.data_port, there.data_host) == (4000, "198.51.100.7")
    outward = app.outward(socket.AF_INET)
    assert there.visible in (None, outward)  # never another address than packets leave from


async def test_a_second_signal_waits_for_nothing() -> None:
    async with running(Source()) as node:
        node.relay.flows = 1
        node.relay.last_traffic = trio.current_time() + 60.0
        os.kill(os.getpid(), signal.SIGTERM)
        await until("say_goodbye", node)
        os.kill(os.getpid(), signal.SIGTERM)
        await node.done.wait()
        assert node.exit_error != []  # it did not come to the end of its drain
        assert node.relay.told[-1] == "close"


async def test_a_dead_data_plane_takes_the_node_down() -> None:
    async with running(Source()) as node:
        node.relay.failure.set()
        await node.done.wait()
        assert node.exit_error != []
        assert node.relay.told[-1] == "close"


@attrs.define(eq=False)
class BusyRelay(FakeRelay):
    """Traffic until `busy_until`."""

    busy_until: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.flows = 1

    def heard(self) -> None:
        self.last_traffic = min(trio.current_time(), self.busy_until)


@attrs.frozen
class Told:
    """A control plane that says when it was told to say goodbye."""

    told: list[str]

    def say_goodbye(self) -> None:
        self.told.append("say why")


@pytest.mark.parametrize(
    ("busy_s", "drain_s", "took_s"),
    [
        (0.0, 3.0, 1.0),  # the last packet just came: one quiet second
        (-5.0, 3.0, 0.0),  # quiet for long: nothing to wait for
        (1.5, 3.0, 2.5),
        (60.0, 3.0, 3.0),
        (60.0, 0.0, 0.0),
        (60.0, 5.0, 5.0),
    ],
)
async def test_a_drain_ends_when_it_is_quiet_or_time_is_up(
    busy_s: float, drain_s: float, took_s: float, autojump_clock: MockClock
) -> None:
    config = ProxyConfig(shutdown=Shutdown(drain_s=drain_s))
    counters = Counters()
    began = trio.current_time()
    relay = BusyRelay(config=config, counters=counters, busy_until=began + busy_s)
    relay.heard()
    state = node_state(config, relay=relay)

    async def play() -> None:
        while True:
            relay.heard()
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        await app.drain(state, relay, Told(relay.told), Notifier())
        nursery.cancel_scope.cancel("drained")
    assert trio.current_time() - began == pytest.approx(took_s, abs=0.16)
    assert relay.told == ["refuse_new", "say why", "say_goodbye"]
