from __future__ import annotations

import datetime as dt
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography.hazmat.primitives.asymmetric import ec
from lightspeed_protocol.errors import LinkDown, WireError
from lightspeed_protocol.runtime.quic import ServerIdentity
from lightspeed_protocol.runtime.quic_client import (
    PinMismatch,
    QuicClient,
    any_address,
    open_client,
    place,
)
from lightspeed_protocol.runtime.quic_door import destination
from lightspeed_protocol.runtime.udp import Address, UdpPort
from trio.testing import MockClock

from tests.support.certs import throw_away_identity
from tests.support.lossy import LossyNet, LossyPort
from tests.support.quic import NODE, Node, make_node, running


@attrs.define(eq=False)
class World:
    net: LossyNet
    node: Node

    @property
    def pin(self) -> bytes:
        return self.node.identity.spki_pin


@asynccontextmanager
async def open_world(identity: ServerIdentity | None = None) -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        net = LossyNet(nursery, random.Random(1))
        node = make_node(net.bind(NODE), identity)
        async with running(node):
            yield World(net, node)
        nursery.cancel_scope.cancel("test over")


async def test_questions_are_answered_side_by_side(autojump_clock: MockClock) -> None:
    answers: dict[int, bytes] = {}

    async def ask(client: QuicClient, number: int) -> None:
        answers[number] = await client.request(f"question {number}".encode())

    async with (
        open_world() as world,
        open_client(NODE, pin=world.pin, bind=world.net.bind) as client,
        trio.open_nursery() as nursery,
    ):
        for number in range(50):  # more than may be open at a time
            nursery.start_soon(ask, client, number)
    assert answers == {number: f"question {number}".encode()[::-1] for number in range(50)}


async def test_somebody_else_at_the_nodes_address_hears_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world:
        other = throw_away_identity().spki_pin
        with pytest.raises(PinMismatch, match="is not the node this invite is for") as caught:
            async with open_client(NODE, pin=other, bind=world.net.bind) as client:
                await client.request(b"my secret token")
        await trio.sleep(1)

        assert world.node.apps == []
        assert world.node.server.counters.handshakes == 0
        assert world.node.server.connections == 0
        assert "192.0.2.1:4433" in str(caught.value)
        assert len(world.net.ports) == 1, "the client's socket is closed"


async def test_a_node_with_another_nodes_certificate_is_found_out(
    autojump_clock: MockClock,
) -> None:
    """The pin is right, but it cannot sign: certificates are public."""
    real = throw_away_identity()
    fake = ServerIdentity(real.certificate, [], ec.generate_private_key(ec.SECP256R1()))
    async with open_world(fake) as world:
        with pytest.raises(LinkDown, match=r"no connection to 192\.0\.2\.1:4433"):
            async with open_client(NODE, pin=real.spki_pin, bind=world.net.bind):
                pass
        assert world.node.apps == []


@pytest.mark.parametrize("years", [-30, 30])
async def test_a_wrong_clock_locks_nobody_out(autojump_clock: MockClock, years: int) -> None:
    identity = throw_away_identity(starts=dt.timedelta(days=365 * years))
    async with (
        open_world(identity) as world,
        open_client(NODE, pin=world.pin, bind=world.net.bind) as client,
    ):
        assert await client.request(b"ab") == b"ba"


async def test_any_key_will_do_where_none_is_asked_for(autojump_clock: MockClock) -> None:
    async with open_world() as world, open_client(NODE, pin=None, bind=world.net.bind) as client:
        assert await client.request(b"ab") == b"ba"


@pytest.mark.parametrize(
    ("alpns", "asked", "got"),
    [
        (("lightspeed/1",), "lightspeed/1", "lightspeed/1"),
        (("lightspeed/1",), None, None),
        (("something",), "lightspeed/1", None),  # it refuses; asked again without
        (("lightspeed/1", "h3"), "h3", "h3"),
    ],
)
async def test_a_protocol_is_agreed_on_or_done_without(
    autojump_clock: MockClock, alpns: tuple[str, ...], asked: str | None, got: str | None
) -> None:
    async with open_world() as world:
        world.node.server.set_alpns(alpns)
        async with open_client(NODE, pin=world.pin, alpn=asked, bind=world.net.bind) as client:
            assert await client.request(b"ab") == b"ba"
            assert client.link.alpn == got


@attrs.define(eq=False)
class PlainServer:
    """aioquic as it is, one connection for each client; without ALPN, as the original."""

    identity: ServerIdentity
    port: LossyPort
    alpn: list[str] | None = None
    connections: dict[Address, QuicConnection] = attrs.field(factory=dict)
    hellos: int = 0

    async def serve(self) -> None:
        configuration = QuicConfiguration(is_client=False, alpn_protocols=self.alpn)
        configuration.certificate = self.identity.certificate
        configuration.private_key = self.identity.private_key
        while True:
            for payload, source in await self.port.receive():
                quic = self.connections.get(source)
                if quic is None or quic._close_event is not None:
                    if payload[0] & 0xF0 != 0xC0:
                        continue
                    quic = self.connections[source] = QuicConnection(
                        configuration=configuration,
                        original_destination_connection_id=destination(payload),
                    )
                    self.hellos += 1
                now = trio.current_time()
                quic.receive_datagram(payload, source, now)
                while (event := quic.next_event()) is not None:
                    if getattr(event, "end_stream", False):
                        quic.send_stream_data(event.stream_id, b"plain", end_stream=True)  # type: ignore[attr-defined]
                for answer, to in quic.datagrams_to_send(now):
                    self.port.send(answer, to)


@pytest.mark.parametrize("alpn", [None, ["hq-interop"]], ids=["without-alpn", "other-alpn"])
async def test_a_peer_without_our_protocol_or_a_retry_is_talked_to_all_the_same(
    autojump_clock: MockClock, alpn: list[str] | None
) -> None:
    async with trio.open_nursery() as nursery:
        net = LossyNet(nursery, random.Random(1))
        server = PlainServer(throw_away_identity(), net.bind(NODE), alpn)
        nursery.start_soon(server.serve)
        if alpn is None:
            async with open_client(NODE, pin=server.identity.spki_pin, bind=net.bind) as client:
                assert await client.request(b"ab") == b"plain"
                assert client.link.alpn is None
            assert server.hellos == 2
        else:
            with pytest.raises(LinkDown, match="what answers there is no LightSpeed node"):
                async with open_client(NODE, pin=server.identity.spki_pin, bind=net.bind):
                    pass
            assert server.hellos == 2
        nursery.cancel_scope.cancel("test over")


async def test_a_silent_node_is_given_up_in_plain_words(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        net = LossyNet(nursery, random.Random(1))
        began = trio.current_time()
        with pytest.raises(LinkDown, match=r"no answer from 192.0.2.1:4433 within 5 s: is the"):
            async with open_client(NODE, pin=None, bind=net.bind):
                pass
        assert trio.current_time() - began == pytest.approx(5.0)
        assert net.ports == {}


async def test_a_machine_without_a_network_is_told_so(autojump_clock: MockClock) -> None:
    class NoRoute(LossyPort):
        def send(self, payload: bytes, to: Address) -> bool:
            return False

    async with trio.open_nursery() as nursery:
        net = LossyNet(nursery, random.Random(1))
        port = NoRoute(net, ("198.51.100.1", 1))
        with pytest.raises(LinkDown, match="is this machine on a network"):
            async with open_client(NODE, pin=None, port=port):
                pass


async def test_an_answer_that_does_not_come_in_time_is_too_slow(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, open_client(NODE, pin=None, bind=world.net.bind) as client:
        for _ in range(20):  # each gives its place back, or the 17th could not be asked
            with pytest.raises(trio.TooSlowError):
                await client.request(b"silence", timeout_s=0.5)
        assert await client.request(b"ab") == b"ba"


async def test_a_reset_is_told_from_an_answer(autojump_clock: MockClock) -> None:
    async with open_world() as world, open_client(NODE, pin=None, bind=world.net.bind) as client:
        with pytest.raises(WireError, match="reset"):
            await client.request(b"reset")
        assert await client.request(b"ab") == b"ba"


async def test_an_answer_without_end_is_cut_off(autojump_clock: MockClock) -> None:
    async with open_world() as world, open_client(NODE, pin=None, bind=world.net.bind) as client:
        assert len(await client.request(b"huge65538")) == 65538
        with pytest.raises(WireError, match="oversized"):
            await client.request(b"huge65539")
        with pytest.raises(WireError, match="oversized"):
            await client.request(b"huge100", largest=99)
        assert await client.request(b"ab") == b"ba"


async def test_a_connection_that_ends_ends_what_was_asked(autojump_clock: MockClock) -> None:
    async with open_world() as world, open_client(NODE, pin=None, bind=world.net.bind) as client:
        with pytest.raises(LinkDown, match=r"192.0.2.1:4433 is gone: enough of you"):
            await client.request(b"leave")
        with pytest.raises(LinkDown, match="enough of you"):
            await client.request(b"anybody?")
        assert await client.wait_closed() == (9, "enough of you")


async def test_what_the_body_raises_comes_out_as_it_was_raised(
    autojump_clock: MockClock,
) -> None:
    class Own(Exception):
        pass

    async with open_world() as world:
        with pytest.raises(Own):
            async with open_client(NODE, pin=None, bind=world.net.bind):
                raise Own
        with pytest.RaisesGroup(Own, Own):
            async with open_client(NODE, pin=None, bind=world.net.bind):
                raise ExceptionGroup("two", [Own(), Own()])
        with trio.move_on_after(1) as scope:
            async with open_client(NODE, pin=None, bind=world.net.bind):
                await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_leaving_tells_the_node(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        async with open_client(NODE, pin=None, bind=world.net.bind) as client:
            await client.request(b"ab")
        await trio.sleep(0.1)
        assert world.node.app.ends == [(0, "")]
        assert world.node.server.connections == 0


async def test_what_the_node_says_by_itself_is_heard(autojump_clock: MockClock) -> None:
    said: list[bytes] = []
    async with (
        open_world() as world,
        open_client(NODE, pin=None, bind=world.net.bind, on_node_stream=said.append) as client,
    ):
        await client.request(b"push")
        await trio.sleep(0.1)
        assert b"".join(said) == b"from the node"
        for byte in b"piece by piece":
            world.node.app.link.send(3, bytes([byte]))
            await trio.sleep(0.1)
        assert b"".join(said) == b"from the nodepiece by piece"


async def test_streams_nobody_listens_to_are_declined(autojump_clock: MockClock) -> None:
    async with open_world() as world, open_client(NODE, pin=None, bind=world.net.bind) as client:
        await client.request(b"push")
        await trio.sleep(0.1)
        assert [type(event).__name__ for event in world.node.app.events][-1] == (
            "StopSendingReceived"
        )


async def test_a_listener_that_fails_ends_the_connection_not_the_program(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def listen(data: bytes) -> None:
        raise RuntimeError("a bug")

    async with (
        open_world() as world,
        open_client(NODE, pin=None, bind=world.net.bind, on_node_stream=listen) as client,
    ):
        await client.request(b"push", timeout_s=1)
        assert await client.wait_closed() == (1, "internal error")
        with pytest.raises(LinkDown, match="internal error") as caught:
            await client.request(b"ab")
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert caplog.records[-1].exc_info is not None


async def test_an_idle_connection_is_kept_for_as_long_as_it_is_wanted(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, open_client(NODE, pin=None, bind=world.net.bind) as client:
        await trio.sleep(600)
        before = len(world.net.sent)
        await trio.sleep(60)
        assert 12 <= len(world.net.sent) - before <= 40, "a ping and its answer every 10 s"
        assert await client.request(b"ab") == b"ba"


async def test_an_outage_of_a_minute_ends_it_and_says_so(autojump_clock: MockClock) -> None:
    async with open_world() as world, open_client(NODE, pin=None, bind=world.net.bind) as client:
        await client.request(b"ab")
        world.net.loss = 1.0
        began = trio.current_time()
        assert await client.wait_closed() == (1, "Idle timeout")
        assert 59 < trio.current_time() - began < 75


@pytest.mark.parametrize("own", [True, False], ids=["our-socket", "the-callers"])
async def test_a_new_socket_goes_on_where_the_old_one_stopped(
    autojump_clock: MockClock, own: bool
) -> None:
    async with open_world() as world:
        mine = None if own else world.net.bind(("198.51.100.1", 999))
        async with open_client(NODE, pin=None, port=mine, bind=world.net.bind) as client:
            await client.request(b"ab")
            addresses = [world.node.app.link.address]
            for number in range(8):
                if own:
                    client.rebind()
                else:
                    client.set_port(world.net.bind(("203.0.113.1", 1 + number)))
                assert await client.request(b"ab") == b"ba"
                await trio.sleep(1)
                addresses.append(world.node.app.link.address)
            assert len(set(addresses)) == 9
            if own:
                assert len(world.net.ports) == 2, "old sockets are closed"
    assert world.node.server.counters.handshakes == 1


async def test_a_new_socket_in_the_middle_of_a_question_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_world() as world, open_client(NODE, pin=None, bind=world.net.bind) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.request, b"huge60000")
            for _ in range(4):
                await trio.sleep(0.03)
                client.rebind()
        assert world.node.server.counters.handshakes == 1


async def test_rebinding_a_real_socket() -> None:
    with UdpPort.bind(("127.0.0.1", 0)) as port:
        node = make_node(port)
        async with running(node) as address, open_client(address, pin=None) as client:
            before = await client.request(b"ab"), node.app.link.address
            client.rebind(("127.0.0.1", 0))
            after = await client.request(b"ab"), node.app.link.address
            assert before[0] == after[0] == b"ba"
            assert before[1] != after[1]


def test_places_are_written_as_people_write_them() -> None:
    assert place(("192.0.2.1", 4433)) == "192.0.2.1:4433"
    assert place(("2001:db8::1", 4433)) == "[2001:db8::1]:4433"
    assert any_address(("192.0.2.1", 4433)) == ("0.0.0.0", 0)
    assert any_address(("2001:db8::1", 4433)) == ("::", 0)


async def test_an_address_is_spelled_as_answers_come() -> None:
    with UdpPort.bind(("::1", 0)) as port:
        node = make_node(port)
        async with running(node) as (_, number):
            spelled = ("0:0:0:0:0:0:0:1", number)
            async with open_client(spelled, pin=None) as client:
                assert await client.request(b"ab") == b"ba"


async def test_a_name_is_no_address() -> None:
    with pytest.raises(ValueError, match=r"example\.com"):
        async with open_client(("example.com", 4433), pin=None):
            pass
