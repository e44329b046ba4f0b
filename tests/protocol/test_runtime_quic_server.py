from __future__ import annotations

import random
import socket
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from aioquic.quic.crypto import CryptoPair
from aioquic.tls import Epoch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightspeed_protocol.cookie import RetryCookies
from lightspeed_protocol.runtime.quic_client import open_client
from lightspeed_protocol.runtime.quic_door import long_header
from lightspeed_protocol.runtime.quic_server import QuicLimits, give_way
from lightspeed_protocol.runtime.udp import UdpPort, open_socket
from trio.testing import MockClock

from tests.support.certs import throw_away_identity
from tests.support.lossy import LossyNet
from tests.support.quic import (
    HOME,
    NODE,
    MemoryPort,
    Node,
    PlainClient,
    assert_kept_nothing,
    exchange,
    make_node,
    running,
    talk,
    up_to_cookie,
)


async def test_a_client_is_served_over_real_sockets() -> None:
    for host in ("127.0.0.1", "::1"):
        with UdpPort.bind((host, 0)) as port:
            node = make_node(port)
            async with (
                running(node) as address,
                open_client(address, pin=node.identity.spki_pin) as client,
            ):
                assert await client.request(b"hello") == b"olleh"
                assert node.app.link.alpn == "lightspeed/1"
                assert node.server.connections == 1


async def test_stopping_is_heard_by_every_client(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        net = LossyNet(nursery, random.Random(1))
        node = make_node(net.bind(NODE))
        async with (
            running(node) as address,
            open_client(address, pin=None, bind=net.bind) as one,
            open_client(address, pin=None, bind=net.bind) as other,
        ):
            for client in (one, other):
                await client.request(b"hello")
            began = trio.current_time()
            node.stop.cancel("the operator said so")
            for client in (one, other):
                assert await client.wait_closed() == (0, "the node is stopping")
            assert trio.current_time() - began < 0.1
        assert [app.ends for app in node.apps] == [[(0, "the node is stopping")]] * 2
        nursery.cancel_scope.cancel("test over")


async def test_a_new_server_may_follow_on_the_same_socket() -> None:
    """As the supervisor does after a failure."""
    with UdpPort.bind(("127.0.0.1", 0)) as port:
        for _ in range(2):
            node = make_node(port)
            async with running(node) as address, open_client(address, pin=None) as client:
                assert await client.request(b"ab") == b"ba"


async def test_a_nat_that_changes_the_clients_port_costs_nothing(
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        net = LossyNet(nursery, random.Random(1))
        node = make_node(net.bind(NODE))
        port = net.bind(HOME)
        async with (
            running(node) as address,
            open_client(address, pin=None, port=port) as client,
        ):
            assert await client.request(b"before") == b"erofeb"
            for number in range(5):
                port.rebind(("203.0.113.7", 50000 + number))
                assert await client.request(b"after") == b"retfa"
                assert node.app.link.address == ("203.0.113.7", 50000 + number)
        nursery.cancel_scope.cancel("test over")


async def test_a_client_that_changes_its_connection_id_is_found_by_the_new_one() -> None:
    node, port, client = meet()
    exchange(node.server, port, client)
    ids = set(node.server._links)
    for number in range(12):
        client.quic.change_connection_id()
        client.quic.send_stream_data(4 * number, b"me again", end_stream=True)
        exchange(node.server, port, client)
        assert client.answer(4 * number) == b"niaga em"
    assert len(ids & set(node.server._links)) == 1  # the one of the Retry, to know it again by
    assert len(node.server._links) <= 10
    assert node.server.counters.dropped["unknown"] == 0

    client.quic.close()
    exchange(node.server, port, client)
    assert_kept_nothing(node.server)


def meet(**options: Any) -> tuple[Node, MemoryPort, PlainClient]:
    port = MemoryPort()
    node = make_node(port, **options)
    client = PlainClient.make()
    exchange(node.server, port, client)
    return node, port, client


async def test_no_more_goes_to_an_unproven_address_than_came_from_it() -> None:
    """Byte for byte, at every moment, until the client has shown the cookie."""
    port = MemoryPort()
    node = make_node(port)
    client = PlainClient.make()
    came = gone = 0
    while node.server.connections == 0:
        for payload in client.take():
            came += len(payload)
            node.server.datagram(payload, client.source, trio.current_time())
        if node.server.connections == 0:
            gone += sum(len(payload) for payload, _ in port.out)
        for payload, _ in port.take():
            client.give(payload)

    assert 0 < gone < came / 10
    assert node.server.counters.unproven_bytes_out == gone


async def test_an_attacker_who_cannot_hear_us_opens_nothing() -> None:
    """The Retry goes to the address he made up; he guesses what was in it."""
    port = MemoryPort()
    node = make_node(port)
    client = PlainClient.make()
    (first,) = client.take()
    rng = random.Random(5)
    for number in range(200):
        victim = ("203.0.113.1", 1000 + number)
        node.server.datagram(first, victim, trio.current_time())
        parsed = long_header(first)
        assert parsed is not None
        guess = RetryCookies(rng.randbytes).make(victim, parsed[1], parsed[1], 0.0)
        forged = with_token(first, guess)
        node.server.datagram(forged, victim, trio.current_time())

    counters = node.server.counters
    assert node.server.connections == counters.admitted == 0
    assert counters.retries_sent == 400
    assert counters.cookies_refused == 200
    assert sum(len(payload) for payload, _ in port.out) < 200 * 2400 / 10


def with_token(packet: bytes, token: bytes) -> bytes:
    """An Initial whose empty token is replaced; what is inside no longer decrypts."""
    head = 7 + packet[5] + packet[6 + packet[5]]
    assert packet[head] == 0
    rest = 1200 - head - 1 - len(token) - 2
    return (
        packet[:head]
        + bytes((len(token),))
        + token
        + (rest | 0x4000).to_bytes(2, "big")
        + packet[-rest:]
    )


async def test_a_first_packet_that_cannot_be_read_keeps_no_place() -> None:
    port = MemoryPort()
    node = make_node(port)
    client = PlainClient.make()
    up_to_cookie(node.server, port, client)
    (packet,) = client.take()
    garbled = packet[:100] + bytes((packet[100] ^ 1,)) + packet[101:]

    assert node.server.datagram(garbled, client.source, trio.current_time())
    assert node.server.counters.handshakes_failed == 1
    assert_kept_nothing(node.server)

    # Its cookie is used up all the same: who has one could send such packets without end.
    assert not node.server.datagram(packet, client.source, trio.current_time())
    assert node.server.counters.dropped["spent"] == 1
    late = PlainClient.make()
    exchange(node.server, port, late)
    assert late.handshake is not None


async def test_a_packet_played_again_after_the_end_opens_no_connection() -> None:
    port = MemoryPort()
    node = make_node(port)
    client = PlainClient.make()
    up_to_cookie(node.server, port, client)
    (packet,) = client.take()
    node.server.datagram(packet, client.source, trio.current_time())
    exchange(node.server, port, client)
    node.app.link.close()
    port.take()
    for _ in range(50):
        assert not node.server.datagram(packet, client.source, trio.current_time())
    assert port.take() == []
    assert node.server.counters.admitted == 1
    assert node.server.counters.dropped["spent"] == 50


async def test_a_packet_played_again_opens_no_second_connection() -> None:
    port = MemoryPort()
    node = make_node(port)
    client = PlainClient.make()
    up_to_cookie(node.server, port, client)
    (packet,) = client.take()
    for number in range(100):
        node.server.datagram(packet, client.source, trio.current_time())
        # And from elsewhere: it finds the same connection, which knows it already.
        node.server.datagram(packet, ("203.0.113.5", 1 + number), trio.current_time())

    assert node.server.connections == 1
    assert node.server.counters.admitted == 1
    assert {to for _, to in port.out} == {client.source}
    exchange(node.server, port, client)
    assert client.handshake is not None


async def test_a_half_open_connection_ends_after_five_seconds(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        net = LossyNet(nursery, random.Random(1))
        node = make_node(net.bind(NODE))
        async with running(node):
            port = MemoryPort()
            client = PlainClient.make()
            talker = net.bind(client.source)
            for payload in client.take():
                talker.send(payload, NODE)
            for payload, _ in await talker.receive():
                client.give(payload)
            for payload in client.take():  # with the cookie; after this it is silent
                talker.send(payload, NODE)
            await trio.sleep(4.9)
            assert node.server.half_open == 1
            await trio.sleep(0.2)
            assert node.server.half_open == 0
            assert node.server.counters.half_open_expired == 1
            assert not port.out
        nursery.cancel_scope.cancel("test over")


async def test_a_silent_client_is_forgotten_after_a_minute(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        net = LossyNet(nursery, random.Random(1))
        node = make_node(net.bind(NODE))
        async with (
            running(node) as address,
            open_client(address, pin=None, bind=net.bind) as client,
        ):
            await client.request(b"hello")
            net.blocked = {NODE[0], HOME[0]}
            await trio.sleep(59)
            assert node.server.connections == 1
            await trio.sleep(2)
            assert node.server.connections == 0
            assert node.app.ends == [(1, "Idle timeout")]
        nursery.cancel_scope.cancel("test over")


def half_a_hello(to: bytes, token: bytes) -> bytes:
    """A real first packet with the cookie, but the ClientHello in it is not whole."""
    head = b"\xc1\x00\x00\x00\x01" + bytes((len(to),)) + to + b"\x00"
    head += bytes((len(token),)) + token
    length = 1200 - len(head) - 2  # the packet number, what is inside and its tag
    head += (length | 0x4000).to_bytes(2, "big") + b"\x00\x00"
    inside = b"\x06\x00\x08" + b"\x01\x00\x02\x00\x03\x03\x00\x00"  # CRYPTO, offset 0, 8 bytes
    pair = CryptoPair()
    pair.setup_initial(cid=to, is_client=True, version=1)
    return pair.encrypt_packet(head, inside + bytes(length - 18 - len(inside)), 0)


async def test_ten_thousand_half_open_connections_leave_room_for_a_player(
    autojump_clock: MockClock,
) -> None:
    """From hosts that really can hear us; then all of them stay silent."""
    port = MemoryPort()
    rng = random.Random(9)
    node = make_node(port, random=rng.randbytes)
    limits = QuicLimits()
    async with running(node):
        most = 0
        for number in range(10_000):
            bot = (f"203.0.113.{number % 200 + 1}", 1 + number)
            rscid = rng.randbytes(8)
            cookie = node.server._door._cookies.make(bot, b"original", rscid, trio.current_time())
            node.server.datagram(half_a_hello(rscid, cookie), bot, trio.current_time())
            port.take()
            most = max(most, node.server.half_open)
            if number % 100 == 0:
                await trio.sleep(0.01)
        counters = node.server.counters
        assert most == limits.half_open
        assert counters.handshakes_failed == 0, "they were no real half-open connections"
        assert counters.admitted + counters.dropped["half-open"] == 10_000
        assert len(node.server._links) <= 2 * limits.half_open
        assert len(node.server._door._hosts) <= limits.half_open

        await trio.sleep(6)
        assert counters.half_open_expired == counters.admitted
        player = PlainClient.make(source=("198.51.100.9", 9))
        exchange(node.server, port, player)
        assert player.handshake is not None
        assert node.server.connections == 1


async def test_a_renewed_certificate_is_shown_to_the_next_client() -> None:
    node, port, client = meet()
    renewed = throw_away_identity()
    node.server.use_identity(renewed)
    late = PlainClient.make(source=("198.51.100.9", 9))
    exchange(node.server, port, late)

    assert late.quic.tls._peer_certificate == renewed.certificate
    assert client.quic.tls._peer_certificate == node.identity.certificate
    client.quic.send_stream_data(0, b"ab", end_stream=True)
    exchange(node.server, port, client)
    assert client.answer(0) == b"ba"


async def test_protocols_are_switched_for_the_next_client() -> None:
    port = MemoryPort()
    node = make_node(port)
    for enabled in (False, True, False):
        node.server.set_alpns(("lightspeed/1", "h3") if enabled else ("lightspeed/1",))
        browser = PlainClient.make(["h3"], source=("198.51.100.9", 9 + enabled))
        exchange(node.server, port, browser)
        assert (browser.handshake is not None) is enabled
        browser.quic.close()
        exchange(node.server, port, browser)


async def test_limits_are_changed_while_it_runs() -> None:
    node, port, _ = meet()
    node.server.set_limits(QuicLimits(connections=1))
    late = PlainClient.make(source=("198.51.100.9", 9))
    exchange(node.server, port, late)
    assert node.server.counters.dropped["full"] == 1

    node.server.set_limits(QuicLimits())
    late = PlainClient.make(source=("198.51.100.9", 9))
    exchange(node.server, port, late)
    assert late.handshake is not None


@pytest.mark.parametrize("size", [1, 7, 100, 900])
async def test_a_request_in_pieces_is_the_same_request(
    autojump_clock: MockClock, size: int
) -> None:
    """Cut at every byte with size 1; a piece is a packet of its own."""
    node, port, client = meet()
    request = random.Random(size).randbytes(1000)
    for start in range(0, len(request), size):
        client.quic.send_stream_data(0, request[start : start + size])
        exchange(node.server, port, client)
        await trio.sleep(0.01)
    client.quic.send_stream_data(0, b"", end_stream=True)
    await talk(node.server, port, client)

    assert client.answer(0) == request[::-1]


def test_a_storm_of_any_bytes_raises_nothing_and_hears_no_more_than_it_sent() -> None:
    """From strangers, and from the address of a client, with its connection ids."""

    @settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(
        noise=st.lists(st.binary(max_size=300), max_size=6),
        cuts=st.lists(st.tuples(st.integers(0, 1199), st.integers(1, 255)), max_size=8),
        own=st.lists(st.binary(max_size=60), max_size=6),
    )
    def storm(noise: list[bytes], cuts: list[tuple[int, int]], own: list[bytes]) -> None:
        async def scenario() -> None:
            node, port, client = meet()
            stranger = ("203.0.113.80", 80)
            packets = list(noise)
            for at, flip in cuts:
                for source_packet in first_packets:
                    changed = bytearray(source_packet)
                    changed[at % len(changed)] ^= flip
                    packets.append(bytes(changed))
                    packets.append(bytes(changed[:at]))
            for packet in packets:
                node.server.datagram(packet, stranger, trio.current_time())
            heard = sum(len(payload) for payload, to in port.take() if to == stranger)
            assert heard <= sum(map(len, packets)) / 2
            cid = client.quic._peer_cid.cid
            for packet in own:
                node.server.datagram(b"\x40" + cid + packet, HOME, trio.current_time())
                node.server.datagram(b"\xc0\0\0\0\1\x08" + cid + packet, HOME, trio.current_time())
            client.quic.send_stream_data(0, b"still here?", end_stream=True)
            exchange(node.server, port, client)
            assert client.answer(0) == b"?ereh llits"
            assert node.server.counters.failed == 0

        trio.run(scenario)

    async def record() -> list[bytes]:
        port = MemoryPort()
        node = make_node(port)
        client = PlainClient.make()
        first = client.take()
        up_to_cookie(node.server, port, client)
        return [*first, *client.take()]

    first_packets = trio.run(record)
    storm()


frames = st.lists(
    st.tuples(st.integers(0, 0x32), st.binary(max_size=40)).map(
        lambda pair: bytes((pair[0],)) + pair[1]
    ),
    max_size=5,
).map(b"".join)


def test_an_authentic_client_that_sends_any_frames_harms_only_itself() -> None:
    """Whatever aioquic makes of it, the connection may end; the node goes on and keeps nothing."""

    @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    @given(plain=frames)
    def storm(plain: bytes) -> None:
        async def scenario() -> None:
            node, port, client = meet()
            neighbour = PlainClient.make(source=("198.51.100.2", 2))
            exchange(node.server, port, neighbour)
            pair = client.quic._cryptos[Epoch.ONE_RTT]
            head = b"\x41" + client.quic._peer_cid.cid + b"\x01\x00"
            packet = pair.encrypt_packet(head, plain + bytes(4), 256)
            node.server.datagram(packet, HOME, trio.current_time())
            neighbour.quic.send_stream_data(0, b"ab", end_stream=True)
            exchange(node.server, port, neighbour)
            assert neighbour.answer(0) == b"ba"
            for app in node.apps:
                app.link.close()
            assert_kept_nothing(node.server)
            assert node.server.counters.failed == 0

        trio.run(scenario)

    storm()


@attrs.define(eq=False)
class Turns:
    """Counts how often another task gets its turn."""

    taken: int = 0

    async def run(self) -> None:
        while True:
            self.taken += 1
            await trio.lowlevel.checkpoint()


async def test_others_get_a_turn_between_two_handshakes() -> None:
    """A batch of datagrams is not handled in one go: the data plane shares the thread."""
    turns = Turns()

    @attrs.define(eq=False)
    class Burst(MemoryPort):
        left: list[tuple[bytes, tuple[str, int]]] = attrs.field(factory=list)

        async def receive(self) -> list[tuple[bytes, tuple[str, int]]]:
            if not self.left:
                await trio.sleep_forever()
            burst, self.left = self.left, []
            return burst

    port = Burst()
    node = make_node(port)
    clients = [PlainClient.make(source=("198.51.100.1", 1 + n)) for n in range(10)]
    for client in clients:
        up_to_cookie(node.server, port, client)
        port.left += [(payload, client.source) for payload in client.take()]
    assert len(port.left) == 10
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await nursery.start(node.server.run)
        before = turns.taken
        while node.server.counters.admitted < 10:
            await trio.lowlevel.checkpoint()
        assert turns.taken - before > 5
        nursery.cancel_scope.cancel("test over")


async def test_what_arrived_during_a_turn_is_read_before_the_next() -> None:
    for _ in range(40):  # trio runs those who are ready in any order
        order: list[str] = []
        with open_socket(("127.0.0.1", 0)) as sock:

            async def read(sock: socket.socket = sock, order: list[str] = order) -> None:
                await trio.lowlevel.wait_readable(sock)
                order.append("packet")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                sock.sendto(b"x", sock.getsockname())
                await give_way()
                order.append("turn")
        assert order == ["packet", "turn"]


async def test_others_breathe_between_the_parts_of_a_handshake_and_not_later() -> None:
    breaths: list[None] = []
    port = MemoryPort()
    node = make_node(port, breathe=lambda: breaths.append(None))
    client = PlainClient.make()
    for payload in client.take():
        node.server.datagram(payload, client.source, trio.current_time())
    assert breaths == []  # a Retry is nothing to breathe at
    exchange(node.server, port, client)
    assert client.handshake is not None
    assert len(breaths) >= 6

    breaths.clear()
    client.quic.send_stream_data(0, b"hello", end_stream=True)
    exchange(node.server, port, client)
    assert client.answer(0) == b"olleh"
    assert breaths == []
