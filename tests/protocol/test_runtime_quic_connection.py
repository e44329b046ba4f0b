from __future__ import annotations

import pytest
import trio
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription, Epoch
from lightspeed_protocol.runtime.quic_connection import (
    NO_ALPN,
    WINDOW_BYTES,
    ServerConnection,
    spki_pin,
)
from trio.testing import MockClock

from tests.support.certs import throw_away_identity
from tests.support.quic import (
    MemoryPort,
    Node,
    PlainClient,
    exchange,
    make_node,
    talk,
    up_to_cookie,
)

DECODE_ERROR = QuicErrorCode.CRYPTO_ERROR + AlertDescription.decode_error


def meet(
    alpn: list[str] | None = None, *, filler: int = 0, alpns: tuple[str, ...] = ("lightspeed/1",)
) -> tuple[Node, MemoryPort, PlainClient]:
    port = MemoryPort()
    node = make_node(port, throw_away_identity(filler=filler), alpns=alpns)
    client = PlainClient.make(alpn)
    exchange(node.server, port, client)
    return node, port, client


def server_side(node: Node) -> ServerConnection:
    connection = node.app.link.quic
    assert isinstance(connection, ServerConnection)
    return connection


@pytest.mark.parametrize(
    ("offered", "enabled", "chosen"),
    [
        (["lightspeed/1"], ("lightspeed/1",), "lightspeed/1"),
        (["lightspeed/1"], ("lightspeed/1", "h3"), "lightspeed/1"),
        (["h3", "lightspeed/1"], ("lightspeed/1", "h3"), "lightspeed/1"),
        (["h3"], ("lightspeed/1", "h3"), "h3"),
        (["other", "h3"], ("lightspeed/1", "h3"), "h3"),
        (None, ("lightspeed/1",), None),
        (None, ("lightspeed/1", "h3"), None),
    ],
)
async def test_a_client_gets_what_it_offers_and_the_node_has(
    offered: list[str] | None, enabled: tuple[str, ...], chosen: str | None
) -> None:
    node, _, client = meet(offered, alpns=enabled)

    assert client.handshake is not None
    assert client.handshake.alpn_protocol == chosen
    assert node.app.link.alpn == chosen


@pytest.mark.parametrize(
    ("offered", "enabled"),
    [(["h3"], ("lightspeed/1",)), (["h2", "http/1.1"], ("lightspeed/1", "h3"))],
)
async def test_a_client_that_offers_only_others_is_refused_with_the_alert_for_it(
    offered: list[str], enabled: tuple[str, ...]
) -> None:
    node, _, client = meet(offered, alpns=enabled)

    assert client.end is not None
    assert client.end.error_code == NO_ALPN == 0x178
    assert node.apps == []
    assert node.server.counters.refused_alpn == 1
    assert node.server.connections == 0


async def test_a_hello_in_several_packets_is_read_whole() -> None:
    names = [f"a-protocol-with-a-long-name-{number:03}" for number in range(60)]

    node, _, client = meet([*names, "h3"], alpns=("lightspeed/1", "h3"))

    assert client.handshake is not None
    assert client.handshake.alpn_protocol == "h3"
    assert node.server.counters.handshakes == 1


async def test_a_certificate_bigger_than_the_hello_comes_without_waiting_for_more() -> None:
    """The cookie has proved the address, so there is no limit of three times what came."""
    port = MemoryPort()
    node = make_node(port, throw_away_identity(filler=8000))
    client = PlainClient.make()
    up_to_cookie(node.server, port, client)
    first = client.take()
    for payload in first:
        node.server.datagram(payload, client.source, trio.current_time())

    came = sum(map(len, first))
    assert sum(len(payload) for payload, _ in port.out) > 3 * came


async def test_windows_slide_and_do_not_grow(autojump_clock: MockClock) -> None:
    node, port, client = meet()
    connection = server_side(node)
    for stream in (0, 4, 8):
        client.quic.send_stream_data(stream, bytes(400_000))
        for _ in range(40):
            await talk(node.server, port, client, seconds=0.03)
            taken = sum(len(data) for data in node.app.got.values())
            assert connection._local_max_data.value - taken <= WINDOW_BYTES
            for open_stream in connection._streams.values():
                ahead = open_stream.max_stream_data_local - open_stream.receiver._buffer_start
                assert ahead <= WINDOW_BYTES
    assert [len(node.app.got[stream]) for stream in (0, 4, 8)] == [400_000] * 3


async def test_a_peer_that_ignores_the_window_is_cut_off_and_counted() -> None:
    node, port, client = meet()
    client.quic._remote_max_data = 1 << 40
    client.quic.send_stream_data(0, b"x")
    client.quic._streams[0].max_stream_data_remote = 1 << 40
    sender = client.quic._streams[0].sender
    exchange(node.server, port, client)
    # Nothing but the byte at the end of half a gigabyte.
    sender._buffer_start = sender._buffer_stop = 1 << 29
    sender._buffer.clear()
    client.quic.send_stream_data(0, b"y")
    exchange(node.server, port, client)

    assert client.end is not None
    assert client.end.error_code == QuicErrorCode.FLOW_CONTROL_ERROR
    assert node.app.ends == [(QuicErrorCode.FLOW_CONTROL_ERROR, "Over stream data limit")]
    assert node.server.counters.over_limits == 1


async def test_a_peer_that_opens_too_many_streams_is_cut_off_and_counted() -> None:
    node, port, client = meet()
    client.quic._remote_max_streams_bidi = 1000
    for number in range(17):
        client.quic.send_stream_data(4 * number, b"and then?")
    exchange(node.server, port, client)

    assert client.end is not None
    assert client.end.error_code == QuicErrorCode.STREAM_LIMIT_ERROR
    assert node.server.counters.over_limits == 1


async def test_finished_streams_make_room_for_others(autojump_clock: MockClock) -> None:
    node, port, client = meet()
    for number in range(100):
        client.quic.send_stream_data(4 * number, b"abc", end_stream=True)
    await talk(node.server, port, client)

    assert client.end is None
    assert [client.answer(4 * number) for number in range(100)] == [b"cba"] * 100


@pytest.mark.parametrize("epoch", [Epoch.INITIAL, Epoch.ONE_RTT])
async def test_handshake_out_of_order_is_not_kept_without_end(epoch: Epoch) -> None:
    port = MemoryPort()
    node = make_node(port)
    client = PlainClient.make()
    if epoch is Epoch.INITIAL:
        up_to_cookie(node.server, port, client)
    else:
        exchange(node.server, port, client)
    sender = client.quic._crypto_streams[epoch].sender
    sender._buffer_start = sender._buffer_stop = 20_000
    sender._buffer.clear()
    sender._pending.subtract(0, 20_000)
    sender.write(b"x")
    exchange(node.server, port, client)

    assert client.end is not None
    assert client.end.error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
    assert node.server.connections == 0


async def test_a_hello_that_never_ends_is_refused(autojump_clock: MockClock) -> None:
    port = MemoryPort()
    node = make_node(port)
    client = PlainClient.make()
    up_to_cookie(node.server, port, client)
    sender = client.quic._crypto_streams[Epoch.INITIAL].sender
    sender._buffer[:] = b"\x01\xff\xff\xff" + bytes(len(sender._buffer) - 4)
    sender.write(bytes(17_000))
    await talk(node.server, port, client)

    assert client.end is not None
    assert client.end.error_code == DECODE_ERROR
    assert node.server.counters.handshakes_failed == 1


@pytest.mark.parametrize("farewell", [False, True])
async def test_an_address_in_mid_connection_gets_no_more_than_it_sent_before_it_has_answered(
    farewell: bool,
) -> None:
    """A client could name anybody's address as its new one."""
    node, port, client = meet()
    exchange(node.server, port, client)
    client.source = ("203.0.113.99", 9)
    came = gone = 0
    for number in range(5):
        client.quic.send_stream_data(4 * number, b"huge9000", end_stream=True)
        for payload in client.take():
            came += len(payload)
            node.server.datagram(payload, client.source, trio.current_time())
        if farewell and number == 2:
            node.app.link.close(0, "a" * 190)
        gone += sum(len(payload) for payload, to in port.take() if to == client.source)
        assert gone <= came
    assert gone > 0
    assert not server_side(node)._network_paths[0].is_validated


async def test_a_client_that_moved_is_served_in_full_once_it_has_answered(
    autojump_clock: MockClock,
) -> None:
    node, port, client = meet()
    exchange(node.server, port, client)
    client.source = ("203.0.113.99", 9)
    client.quic.send_stream_data(0, b"huge9000", end_stream=True)
    await talk(node.server, port, client)

    assert client.answer(0) == bytes(9000)
    assert server_side(node)._network_paths[0].is_validated
    assert node.app.link.address == client.source


async def test_a_pin_is_of_the_key_and_outlives_the_certificate() -> None:
    first = throw_away_identity()
    renewed = throw_away_identity(key=first.private_key)  # type: ignore[arg-type]

    assert first.certificate != renewed.certificate
    assert first.spki_pin == renewed.spki_pin == spki_pin(renewed.certificate)
    assert len(first.spki_pin) == 32
    assert first.spki_pin != throw_away_identity().spki_pin


async def test_connections_share_what_is_the_same_in_all() -> None:
    def sets(connection: QuicConnection) -> set[int]:
        handlers = vars(connection)["_QuicConnection__frame_handlers"]
        return {id(epochs) for _, epochs in handlers.values()}

    one, other = (PlainClient.make().quic for _ in range(2))
    assert sets(one) == sets(other)
