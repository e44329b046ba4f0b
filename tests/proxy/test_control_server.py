"""The control plane behind a real QUIC port, asked by the project's own client."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from aioquic.quic.events import StreamDataReceived
from lightspeed_protocol.control import FrameReader, decode, encode, frame
from lightspeed_protocol.control_messages import (
    ControlMessage,
    Disconnect,
    Ping,
    Pong,
    Probe,
    ProbeMethod,
    ProbeResult,
    Register,
    RegisterAck,
    Rekey,
    ServerInfo,
)
from lightspeed_protocol.errors import LinkDown, WireError
from lightspeed_protocol.extensions import (
    Feature,
    RefusalCode,
    RegisterExtensions,
    decode_ack,
    decode_refusal,
    encode_register,
)
from lightspeed_protocol.runtime.daemon import stage
from lightspeed_protocol.runtime.quic_client import QuicClient, open_client
from lightspeed_protocol.runtime.udp import open_socket
from lightspeed_proxy.admission import WRONG_PER_S
from lightspeed_proxy.config import Control, Limits, ProxyConfig, Security
from lightspeed_proxy.control import ControlApp
from lightspeed_proxy.control_server import (
    CROWD,
    CROWD_OF_ONE,
    GRACE_S,
    QUIET_S,
    ControlServer,
)
from lightspeed_proxy.credentials import FILE, InviteStore
from lightspeed_proxy.h3 import H3App
from lightspeed_proxy.probe import AT_ONCE, Prober, Tries
from lightspeed_proxy.state import NodeState

from tests.support.certs import throw_away_identity
from tests.support.nodes import TOKEN, FakeRelay, node_state

from .test_control import FakeLink
from .test_h3 import MemoryLink, connect

NAME = "ada"
PATIENCE_S = 30.0


@attrs.define(eq=False)
class World:
    """A control plane on loopback, its invites' file and one good token."""

    server: ControlServer
    store: InviteStore
    token: bytes
    address: tuple[str, int]
    pushed: list[ControlMessage] = attrs.field(factory=list)

    @property
    def state(self) -> NodeState:
        return self.server.state

    @property
    def ended(self) -> dict[str, int]:
        return {why: n for why, n in self.state.admission.counters.ended.items() if n}

    @asynccontextmanager
    async def client(self) -> AsyncIterator[QuicClient]:
        reader = FrameReader()

        def keep(data: bytes) -> None:
            self.pushed += [each for each in reader.feed(data) if not isinstance(each, WireError)]

        pin = self.server.identity.spki_pin
        async with open_client(self.address, pin=pin, on_node_stream=keep) as client:
            yield client

    async def register(self, client: QuicClient, **words: Any) -> RegisterAck:
        answer = await ask(client, self.request(**words))
        assert isinstance(answer, RegisterAck), answer
        return answer

    def request(self, **words: Any) -> Register:
        given = {"credential": self.token, "versions": (8,), "features": (Feature.NODE_STREAM,)}
        return Register(8, 0, encode_register(RegisterExtensions(**{**given, **words})))

    async def told(self, kind: type[ControlMessage]) -> Any:
        """The next message of this kind that the node says by itself."""
        with trio.fail_after(PATIENCE_S):
            while True:
                for message in self.pushed:
                    if isinstance(message, kind):
                        self.pushed.remove(message)
                        return message
                await trio.sleep(0.01)


async def ask(client: QuicClient, message: ControlMessage) -> ControlMessage:
    answer = await client.request(frame(encode(message)), timeout_s=PATIENCE_S)
    assert int.from_bytes(answer[:2], "big") == len(answer) - 2
    return decode(answer[2:])


@asynccontextmanager
async def running(
    tmp_path: Path, config: ProxyConfig | None = None, prober: Prober | None = None
) -> AsyncIterator[World]:
    store = InviteStore(tmp_path / FILE)
    _, token = store.add(NAME, unix_now=1.0)
    store.add("bob", unix_now=1.0)
    relay = FakeRelay()
    state = node_state(config, relay=relay)
    state.admission.invites = store.load()
    server = ControlServer(
        state=state,
        store=store,
        plane=relay,
        identity=throw_away_identity(),
        prober=prober or Prober(),
    )
    with closing(open_socket(("127.0.0.1", 0))) as sock:
        async with stage(partial(server.run, sock)):
            yield World(server, store, token, sock.getsockname())


async def until(done: Any) -> None:
    with trio.fail_after(PATIENCE_S):
        while not done():
            await trio.sleep(0.01)


async def test_a_player_registers_over_quic(tmp_path: Path) -> None:
    async with running(tmp_path) as world, world.client() as client:
        assert isinstance(await ask(client, Ping(1)), Pong)
        ack = await world.register(client)
        assert decode_ack(ack.extensions).version == 8
        assert ack.session_id in world.state.admission.members
        assert await world.told(ServerInfo) == ServerInfo(0, 0, 100)
        assert isinstance(await ask(client, Rekey()), Rekey)
    assert world.server.counters.handshakes == 1


async def test_who_guesses_too_often_hears_why_and_loses_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as world, world.client() as client:
        wrong = world.request(credential=bytes(32))
        later = trio.current_time() + 60.0  # as if this host had guessed far too much already
        for _ in range(WRONG_PER_S):
            world.state.admission._wrong.admit("127.0.0.1", later)
        answer = await ask(client, wrong)
        assert isinstance(answer, Disconnect)
        assert decode_refusal(answer.extensions).code == RefusalCode.TOO_OFTEN
        with trio.fail_after(PATIENCE_S):
            assert "too many wrong invites" in (await client.wait_closed())[1]


async def test_a_stream_without_a_message_is_reset_and_the_connection_lives(tmp_path: Path) -> None:
    async with running(tmp_path) as world, world.client() as client:
        with pytest.raises(WireError, match="reset"):
            await client.request(b"\0\0", timeout_s=PATIENCE_S)
        assert isinstance(await ask(client, Ping(1)), Pong)
        assert world.state.control.malformed == 1


async def test_a_revoked_invite_ends_its_sessions_and_no_others(tmp_path: Path) -> None:
    async with running(tmp_path) as world, world.client() as client:
        await world.register(client)
        world.store.revoke(NAME, unix_now=2.0)
        message = await world.told(Disconnect)
        assert decode_refusal(message.extensions).code == RefusalCode.SESSION_ENDED
        assert "revoked" in decode_refusal(message.extensions).text
        assert world.ended == {"revoked": 1}
        answer = await ask(client, world.request())
        assert isinstance(answer, Disconnect)
        assert decode_refusal(answer.extensions).code == RefusalCode.REVOKED


async def test_a_new_invite_is_known_without_a_reload(tmp_path: Path) -> None:
    async with running(tmp_path) as world, world.client() as client:
        other = InviteStore(world.store.path)  # another process
        _, token = other.add("eve", unix_now=5.0)
        await until(lambda: world.state.admission.invites.get("eve") is not None)
        await world.register(client, credential=token)


async def test_a_file_that_cannot_be_read_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as world, world.client() as client:
        await world.register(client)
        text = world.store.path.read_text()
        world.store.path.write_text(text.replace("ada", ""))
        await until(lambda: "the invites stay as they were" in caplog.text)
        assert len(world.state.admission.invites) == 2
        assert world.ended == {}
        world.store.path.write_text(text)
        world.store.revoke(NAME, unix_now=3.0)
        await world.told(Disconnect)
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1


async def test_a_session_nobody_comes_back_for_ends(tmp_path: Path) -> None:
    config = ProxyConfig(limits=Limits(resume_s=0.0))
    async with running(tmp_path, config) as world:
        async with world.client() as client:
            await world.register(client)
        await until(lambda: world.ended == {"lost": 1})


async def test_a_session_survives_its_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        async with world.client() as client:
            first = await world.register(client)
        secret = decode_ack(first.extensions).resume
        await until(lambda: not world.server.apps)
        async with world.client() as client:
            second = await world.register(client, resume=secret)
        assert second.session_id == first.session_id
        assert decode_ack(second.extensions).resumed


async def test_a_session_survives_a_restart_of_the_control_plane(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        async with world.client() as client:
            first = await world.register(client)
        with closing(open_socket(("127.0.0.1", 0))) as sock:
            async with stage(partial(world.server.run, sock)):
                again = attrs.evolve(world, address=sock.getsockname())
                async with again.client() as client:
                    secret = decode_ack(first.extensions).resume
                    second = await again.register(client, resume=secret)
                    assert second.session_id == first.session_id


async def test_new_keys_come_by_themselves(tmp_path: Path) -> None:
    config = ProxyConfig(security=Security(rekey_s=1.0))
    async with running(tmp_path, config) as world, world.client() as client:
        await world.register(client)
        assert [(await world.told(Rekey)).epoch for _ in range(2)] == [1, 2]


async def test_everybody_is_told_of_a_stop(tmp_path: Path) -> None:
    async with running(tmp_path) as world, world.client() as one, world.client() as other:
        await world.register(one)
        await world.register(other, features=())
        world.server.say_goodbye()
        message = await world.told(Disconnect)
        assert message.reason == 2
        assert decode_refusal(message.extensions).code == RefusalCode.DRAINING
        with trio.fail_after(PATIENCE_S):
            assert (await other.wait_closed())[0] == 2
        answer = await ask(one, world.request())
        assert isinstance(answer, Disconnect)
        assert decode_refusal(answer.extensions).code == RefusalCode.DRAINING
        assert len(world.state.admission.members) == 2  # they play on until the drain is over


async def test_the_end_of_the_control_plane_reaches_its_clients(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        ready, ended = trio.Event(), trio.Event()

        async def play(world: World) -> None:
            async with world.client() as client:
                ready.set()
                with trio.fail_after(PATIENCE_S):
                    assert "stopping" in (await client.wait_closed())[1]
            ended.set()

        async with running(tmp_path) as world:
            nursery.start_soon(play, world)
            await ready.wait()
        await ended.wait()
        assert world.server.apps == set()


@pytest.mark.parametrize("answers", [True, False])
async def test_a_probe_is_measured_and_counted(tmp_path: Path, answers: bool) -> None:
    async def echo(address: str, port: int, count: int, tries: Tries) -> None:
        tries.sent = count
        tries.round_trips_s += [0.001 * n for n in range(1, count + 1)] if answers else []

    async def knock(address: str, port: int, count: int, tries: Tries) -> None:
        tries.sent = 1

    async with running(tmp_path, prober=Prober(echo=echo, knock=knock)) as world:
        async with world.client() as client:
            await world.register(client)
            answer = await ask(client, Probe(0, 3, "198.51.100.1", 27015))
        counters = world.state.control
    if answers:
        assert answer == ProbeResult(ProbeMethod.ICMP, 3, 3, 1000, 2000)
    else:
        assert answer == ProbeResult(ProbeMethod.NOTHING, 1, 0, 0, 0)
    assert (counters.probes, counters.probes_unanswered) == (1, 0 if answers else 1)


async def test_only_so_many_probes_run_at_once(tmp_path: Path) -> None:
    async def echo(address: str, port: int, count: int, tries: Tries) -> None:
        tries.round_trips_s.append(0.1)

    async with running(tmp_path, prober=Prober(echo=echo)) as world, world.client() as client:
        await world.register(client)
        world.server.prober.running = AT_ONCE
        answer = await ask(client, Probe(0, 1, "198.51.100.1", 1))
        assert isinstance(answer, Disconnect)
        assert decode_refusal(answer.extensions).code == RefusalCode.TOO_OFTEN
        world.server.prober.running -= 1
        assert isinstance(await ask(client, Probe(0, 1, "198.51.100.1", 1)), ProbeResult)


async def test_a_new_identity_and_protocol_hold_for_new_connections(tmp_path: Path) -> None:
    async with running(tmp_path) as world, world.client() as old:
        later = throw_away_identity()
        config = ProxyConfig(control=Control(h3=True))
        world.state.config = config
        world.server.apply(config, later)
        assert isinstance(await ask(old, Ping(1)), Pong)
        async with world.client() as new:  # pins the new key
            assert isinstance(await ask(new, Ping(1)), Pong)
        async with open_client(world.address, pin=later.spki_pin, alpn="h3") as browser:
            assert browser.link.alpn == "h3"
        assert world.state.pin == later.spki_pin


async def test_without_h3_the_port_does_not_speak_it(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        pin = world.server.identity.spki_pin
        async with open_client(world.address, pin=pin, alpn="h3") as client:
            assert client.link.alpn is None  # it asked once more, without
        assert world.server.counters.refused_alpn == 1


async def test_strangers_make_room_in_a_crowd(tmp_path: Path) -> None:
    relay = FakeRelay()
    server = ControlServer(
        state=node_state(relay=relay),
        store=InviteStore(tmp_path / FILE),
        plane=relay,
        identity=throw_away_identity(),
    )
    now = trio.current_time()

    def connect(opened_at: float) -> FakeLink:
        number = len(server.apps)
        link = FakeLink((f"198.51.{number >> 8}.{number & 255}", 1))
        app = ControlApp(link, server)
        app.quiet_since = opened_at
        server.apps.add(app)
        return link

    player = connect(now - 100.0)
    (app,) = server.apps
    ext = encode_register(RegisterExtensions(credential=TOKEN, versions=(8,)))
    register = frame(encode(Register(8, 0, ext)))
    app.handle(StreamDataReceived(data=register, end_stream=True, stream_id=0))
    strangers = [connect(now - GRACE_S) for _ in range(CROWD - 2)]
    fresh = connect(now)
    await server._tick_connections()
    assert server.state.control.crowded_out == 0
    connect(now)
    await server._tick_connections()
    assert server.state.control.crowded_out == CROWD - 2
    assert all(link.closed for link in strangers)
    assert not player.closed
    assert not fresh.closed


@attrs.define(eq=False)
class Waiting:
    """A control server with connections that have been there for so long."""

    server: ControlServer

    @classmethod
    def make(cls, tmp_path: Path) -> Waiting:
        relay = FakeRelay()
        return cls(
            ControlServer(
                state=node_state(relay=relay),
                store=InviteStore(tmp_path / FILE),
                plane=relay,
                identity=throw_away_identity(),
            )
        )

    def connect(self, host: str, since_s: float = 0.0) -> tuple[FakeLink, ControlApp]:
        link = FakeLink((host, 1))
        app = ControlApp(link, self.server)
        app.quiet_since -= since_s
        self.server.apps.add(app)
        return link, app

    @property
    def crowded_out(self) -> int:
        return self.server.state.control.crowded_out


REGISTER = frame(
    encode(Register(8, 0, encode_register(RegisterExtensions(credential=TOKEN, versions=(8,)))))
)


@pytest.mark.parametrize("host", ["198.51.100.1", "2001:db8::{}"])
async def test_strangers_of_one_host_make_room(tmp_path: Path, host: str) -> None:
    here = Waiting.make(tmp_path)
    player, app = here.connect(host.format("a"), 1000.0)
    app.handle(StreamDataReceived(data=REGISTER, end_stream=True, stream_id=0))
    assert app.member is not None
    late = [here.connect(host.format(n), GRACE_S)[0] for n in range(CROWD_OF_ONE + 20)]
    fresh = here.connect(host.format("b"))[0]
    elsewhere = [here.connect(f"203.0.113.{n}", GRACE_S)[0] for n in range(5)]
    await here.server._tick_connections()
    assert sum(link.closed for link in late) == here.crowded_out == 21
    assert not any(link.closed for link in (player, fresh, *elsewhere))
    for app in tuple(here.server.apps):
        if app.link.closed:
            here.server.left(app)
    await here.server._tick_connections()
    assert here.crowded_out == 21


async def test_nobody_stays_for_long_without_a_session(tmp_path: Path) -> None:
    here = Waiting.make(tmp_path)
    player, app = here.connect("198.51.100.1", 1000.0)
    app.handle(StreamDataReceived(data=REGISTER, end_stream=True, stream_id=0))
    early, _ = here.connect("198.51.100.2", QUIET_S - 5.0)
    late, _ = here.connect("198.51.100.3", QUIET_S)
    await here.server._tick_connections()
    assert (player.closed, early.closed, late.closed) == (False, False, True)
    assert app.member is not None
    here.server.state.admission.end(app.member, "left")  # it may register anew, in time
    await here.server._tick_connections()
    assert not player.closed
    app.quiet_since -= QUIET_S
    await here.server._tick_connections()
    assert player.closed


async def test_one_who_asks_nothing_over_http_3_is_ended(tmp_path: Path) -> None:
    here = Waiting.make(tmp_path)

    def browse(since_s: float) -> MemoryLink:
        link = connect().link
        app = here.server._make_app(link)  # type: ignore[arg-type]
        assert isinstance(app, H3App)
        assert app in here.server.browsers
        app.quiet_since -= since_s
        return link

    fresh, idle, long_idle = browse(0.0), browse(GRACE_S), browse(QUIET_S)
    await here.server._tick_connections()
    assert [link.closed for link in (fresh, idle, long_idle)] == [False, False, True]
    for _ in range(CROWD_OF_ONE):  # of the same host, if over another protocol
        here.connect(fresh.address[0])
    await here.server._tick_connections()
    assert [link.closed for link in (fresh, idle)] == [False, True]
    assert here.crowded_out == 2
    for app in tuple(here.server.browsers):
        app.closed(0, "")
    assert here.server.browsers == set()


async def test_a_task_that_fails_ends_the_connection_it_was_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def echo(address: str, port: int, count: int, tries: Tries) -> None:
        raise KeyError("what nobody thought of")

    async with (
        running(tmp_path, prober=Prober(echo=echo)) as world,
        world.client() as one,
        world.client() as other,
    ):
        await world.register(one)
        with pytest.raises(LinkDown):
            await ask(one, Probe(0, 1, "198.51.100.1", 1))
        assert isinstance(await ask(other, Ping(1)), Pong)
        assert world.server.counters.failed == 1
        assert not world.server.prober.running
    assert "a QUIC connection failed and was closed" in caplog.text


async def test_a_socket_that_fails_is_the_supervisors_to_see(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        gone = open_socket(("127.0.0.1", 0))
        gone.close()
        with pytest.RaisesGroup(OSError, flatten_subgroups=True, allow_unwrapped=True):
            await world.server.run(gone)


async def test_game_packets_are_carried_while_somebody_connects(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        relay = world.server.plane
        assert isinstance(relay, FakeRelay)
        assert relay.breaths == 0
        async with world.client() as client:
            await world.register(client)
            assert relay.breaths >= 6
