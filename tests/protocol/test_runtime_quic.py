"""What a `QuicLink` does whoever owns it; the node's end of one is looked at here."""

from __future__ import annotations

import logging
import random

import pytest
import trio
from aioquic.quic.events import QuicEvent, StopSendingReceived, StreamReset
from aioquic.quic.packet import QuicErrorCode
from lightspeed_protocol.runtime.quic import UNSENT_BYTES, QuicLink
from lightspeed_protocol.runtime.quic_client import open_client
from lightspeed_protocol.runtime.quic_server import QuicServer
from trio.testing import MockClock

from tests.support.certs import throw_away_identity
from tests.support.lossy import LossyNet
from tests.support.quic import (
    HOME,
    NODE,
    EchoApp,
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

NEIGHBOUR = ("198.51.100.2", 40002)


def meet(*sources: tuple[str, int]) -> tuple[Node, MemoryPort, list[PlainClient]]:
    port = MemoryPort()
    node = make_node(port)
    clients = [PlainClient.make(source=source) for source in sources or (HOME,)]
    exchange(node.server, port, *clients)
    return node, port, clients


async def test_a_request_is_answered() -> None:
    node, port, (client,) = meet()
    client.quic.send_stream_data(0, b"abc", end_stream=True)
    exchange(node.server, port, client)

    assert client.answer(0) == b"cba"
    assert node.app.link.established
    assert node.app.link.address == HOME


async def test_a_failing_application_ends_its_own_connection_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node, port, (client, neighbour) = meet(HOME, NEIGHBOUR)
    with caplog.at_level(logging.WARNING):
        client.quic.send_stream_data(0, b"boom", end_stream=True)
        exchange(node.server, port, client, neighbour)

    assert client.end is not None
    assert client.end.error_code == QuicErrorCode.INTERNAL_ERROR
    assert node.server.counters.failed == 1
    assert sorted(app.ends for app in node.apps) == [[], [(1, "internal error")]]
    (record,) = caplog.records
    assert record.exc_info is not None
    neighbour.quic.send_stream_data(0, b"still here?", end_stream=True)
    exchange(node.server, port, neighbour)
    assert neighbour.answer(0) == b"?ereh llits"


async def test_a_flood_of_failures_writes_one_traceback_a_minute(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    port = MemoryPort()
    node = make_node(port)
    with caplog.at_level(logging.WARNING):
        for number in range(20):
            client = PlainClient.make(source=("198.51.100.1", 1 + number))
            exchange(node.server, port, client)
            client.quic.send_stream_data(0, b"boom", end_stream=True)
            await talk(node.server, port, client, seconds=0.1)
            await trio.sleep(5.9)

    assert node.server.counters.failed == 20
    assert len(caplog.records) == 2


async def test_an_application_that_fails_at_hearing_the_end_harms_nobody() -> None:
    class Sulking(EchoApp):
        def closed(self, code: int, reason: str) -> None:
            super().closed(code, reason)
            raise RuntimeError("so be it")

    apps: list[Sulking] = []

    def make(link: QuicLink) -> Sulking:
        apps.append(Sulking(link))
        return apps[-1]

    port = MemoryPort()
    server = QuicServer(port, throw_away_identity(), make)
    client = PlainClient.make()
    exchange(server, port, client)
    client.quic.close(error_code=3, reason_phrase="bye")
    exchange(server, port, client)

    assert apps[0].ends == [(3, "bye")]
    assert server.counters.failed == 1
    assert_kept_nothing(server)


async def test_an_application_that_cannot_be_made_ends_the_connection() -> None:
    def make(link: QuicLink) -> EchoApp:
        raise RuntimeError("no such thing")

    port = MemoryPort()
    server = QuicServer(port, throw_away_identity(), make)
    client = PlainClient.make()
    exchange(server, port, client)

    assert client.end is not None
    assert server.counters.failed == 1
    assert_kept_nothing(server)


@pytest.mark.parametrize("who", ["node", "client", "application"])
async def test_the_end_is_heard_once_and_at_once(who: str) -> None:
    node, port, (client,) = meet()
    app = node.app
    if who == "node":
        app.link.close(7, "closing time")
        app.link.close(8, "really")
    elif who == "client":
        client.quic.close(error_code=7, reason_phrase="closing time")
    else:
        client.quic.send_stream_data(0, b"leave", end_stream=True)
    exchange(node.server, port, client)

    expected = (9, "enough of you") if who == "application" else (7, "closing time")
    assert app.ends == [expected]
    assert app.link.end == expected
    assert client.end is not None
    assert (client.end.error_code, client.end.reason_phrase) == expected
    assert_kept_nothing(node.server)


async def test_calls_on_a_closed_link_do_nothing() -> None:
    node, port, (client,) = meet()
    link = node.app.link
    client.quic.send_stream_data(0, b"silence", end_stream=True)
    exchange(node.server, port, client)
    link.close()
    port.take()

    assert link.closed
    link.send(0, b"too late", end=True)
    link.send(link.open_stream(unidirectional=True), b"too late")
    link.reset(0)
    link.stop_reading(0)
    link.ping()
    link.flush()
    assert port.out == []
    assert node.app.ends == [(0, "")]


async def test_a_peers_last_words_are_cut_and_harmless() -> None:
    node, port, (client,) = meet()
    client.quic.close(error_code=1, reason_phrase="a\nb\x1b[2J" + "c" * 500)
    exchange(node.server, port, client)

    ((_, words),) = node.app.ends
    assert words == ("a?b?[2J" + "c" * 500)[:200]


async def test_what_came_before_the_end_is_still_heard() -> None:
    """A client says Disconnect and closes in the same breath."""
    node, _, (client,) = meet()
    client.quic.send_stream_data(0, b"silence", end_stream=True)
    packets = client.take()
    client.quic.close()
    packets += client.take()
    for payload in packets:
        node.server.datagram(payload, HOME, trio.current_time())

    assert node.app.got == {0: b"silence"}
    assert node.app.ends == [(0, "")]


async def test_an_application_that_has_left_hears_no_more_requests() -> None:
    node, port, (client,) = meet()
    client.quic.send_stream_data(0, b"leave", end_stream=True)
    client.quic.send_stream_data(4, b"and one more", end_stream=True)
    exchange(node.server, port, client)

    assert node.app.got == {0: b"leave"}


async def test_a_stream_is_given_up_in_both_directions() -> None:
    node, port, (client,) = meet()
    client.quic.send_stream_data(0, b"half a requ")
    exchange(node.server, port, client)
    node.app.link.reset(0, 5)
    exchange(node.server, port, client)

    client.drain_events()
    assert [event for event in client.events if isinstance(event, StreamReset)] == [
        StreamReset(error_code=5, stream_id=0)
    ]
    assert StopSendingReceived(error_code=5, stream_id=0) in client.events
    assert not node.app.link.closed


async def test_nothing_is_sent_on_a_stream_the_peer_no_longer_wants() -> None:
    node, port, (client,) = meet()
    client.quic.send_stream_data(0, b"sil")
    exchange(node.server, port, client)
    client.quic.stop_stream(0, 4)
    exchange(node.server, port, client)
    wanted = StopSendingReceived(error_code=4, stream_id=0)
    assert wanted in node.app.events

    node.app.link.send(0, b"never mind", end=True)
    node.app.link.reset(0)
    exchange(node.server, port, client)
    assert client.answer(0) == b""
    assert not node.app.link.closed
    assert node.server.counters.failed == 0


async def test_a_peer_is_asked_to_stop() -> None:
    node, port, (client,) = meet()
    client.quic.send_stream_data(0, b"and an")
    exchange(node.server, port, client)
    node.app.link.stop_reading(0, 6)
    node.app.link.stop_reading(400)  # no such stream: nothing happens
    exchange(node.server, port, client)

    client.drain_events()
    assert StopSendingReceived(error_code=6, stream_id=0) in client.events


async def test_the_node_opens_streams_of_its_own() -> None:
    node, port, (client,) = meet()
    client.quic.send_stream_data(0, b"push", end_stream=True)
    exchange(node.server, port, client)

    assert client.answer(3) == b"from the node"


async def test_what_a_peer_does_not_take_is_not_kept_without_end() -> None:
    node, port, (client,) = meet()
    app = node.app
    client.quic.send_stream_data(0, b"silence", end_stream=True)
    exchange(node.server, port, client)
    pieces = 0
    while not app.link.closed:  # the client acknowledges nothing
        app.link.send(0, bytes(10_000))
        pieces += 1
        assert pieces < 100

    assert pieces == UNSENT_BYTES // 10_000 + 1
    assert app.ends == [(QuicErrorCode.APPLICATION_ERROR, "what was sent is not taken")]
    assert node.server.counters.over_limits == 1


async def test_a_big_answer_is_sent_as_the_peer_takes_it(autojump_clock: MockClock) -> None:
    node, port, (client,) = meet()
    client.quic.send_stream_data(0, b"huge200000", end_stream=True)
    await talk(node.server, port, client)

    assert client.answer(0) == bytes(200_000)


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.3])
async def test_requests_are_answered_whatever_is_lost(
    autojump_clock: MockClock, loss: float
) -> None:
    for seed in range(3):
        async with trio.open_nursery() as nursery:
            net = LossyNet(nursery, random.Random(seed), loss=loss)
            node = make_node(net.bind(NODE))
            async with (
                running(node) as address,
                open_client(
                    address, pin=node.identity.spki_pin, bind=net.bind, timeout_s=60
                ) as client,
            ):
                for number in range(20):
                    data = bytes([number]) * 500
                    assert await client.request(data, timeout_s=60) == data
            nursery.cancel_scope.cancel("test over")


async def test_timers_do_not_spin_on_a_clock_that_stands_still(autojump_clock: MockClock) -> None:
    """Fired exactly on time, aioquic may ask for the same instant again, and again."""
    fired: list[float] = []

    class Watched(QuicServer):
        def _fire(self, link: QuicLink, now: float) -> None:
            fired.append(now)
            assert len(fired) < 5000
            super()._fire(link, now)

    async with trio.open_nursery() as nursery:
        net = LossyNet(nursery, random.Random(5), loss=0.3)
        node = make_node(net.bind(NODE))
        node.server = Watched(net.bind(NODE), node.identity, EchoApp)
        async with (
            running(node) as address,
            open_client(address, pin=None, bind=net.bind, timeout_s=60) as client,
        ):
            for _ in range(50):
                await client.request(bytes(3000), timeout_s=60)
        nursery.cancel_scope.cancel("test over")
    assert fired
    most_at_once = max(fired.count(instant) for instant in set(fired))
    assert most_at_once < 5


async def test_events_that_are_no_business_of_the_application_stay_here() -> None:
    node, port, (client,) = meet()
    client.quic.send_ping(1)
    exchange(node.server, port, client)
    node.app.link.ping()
    exchange(node.server, port, client)

    events: list[QuicEvent] = node.app.events
    assert events == []


STRANGER = ("203.0.113.9", 5)


def bytes_to(port: MemoryPort, address: tuple[str, int]) -> int:
    return sum(len(payload) for payload, to in port.out if to == address)


async def test_a_source_that_somebody_wrote_on_a_request_is_not_the_peers_address(
    autojump_clock: MockClock,
) -> None:
    node, port, (client,) = meet()
    await talk(node.server, port, client)
    client.quic.send_stream_data(0, b"huge5000", end_stream=True)
    client.quic.send_stream_data(4, bytes(900), end_stream=True)
    asked = client.take()
    for payload in asked:
        node.server.datagram(payload, STRANGER, trio.current_time())
    assert len(node.app.events) == 2  # the requests were read
    assert node.app.link.quic.get_peer_address() == STRANGER  # as aioquic sees it
    assert node.app.link.address == HOME
    assert 0 < bytes_to(port, STRANGER) <= sum(map(len, asked))


async def test_a_peer_that_answers_from_its_new_address_is_there(
    autojump_clock: MockClock,
) -> None:
    node, port, (client,) = meet()
    await talk(node.server, port, client)
    client.source = STRANGER
    client.quic.send_stream_data(0, b"abc", end_stream=True)
    await talk(node.server, port, client)
    assert client.answer(0) == b"cba"
    assert node.app.link.address == STRANGER
    client.source = HOME
    client.quic.send_ping(1)
    await talk(node.server, port, client)
    assert node.app.link.address == HOME


async def test_the_end_of_a_handshake_proves_no_other_address() -> None:
    """It shows who has the keys, and the client writes any source on it."""
    port = MemoryPort()
    node = make_node(port)
    client = PlainClient.make()
    up_to_cookie(node.server, port, client)
    for payload in client.take():
        node.server.datagram(payload, HOME, trio.current_time())
    for payload, _ in port.take():
        client.give(payload)
    client.quic.send_stream_data(0, b"huge9000", end_stream=True)
    finished = client.take()
    for payload in finished:
        node.server.datagram(payload, STRANGER, trio.current_time())
    assert node.app.link.established
    assert node.app.link.address == HOME
    assert bytes_to(port, STRANGER) <= sum(map(len, finished))


async def test_a_task_that_fails_ends_its_own_connection_and_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node, port, (client, neighbour) = meet(HOME, NEIGHBOUR)

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise TypeError("what nobody thought of")

    async def succeed() -> None:
        await trio.lowlevel.checkpoint()

    with caplog.at_level(logging.WARNING):
        one, other = (app.link for app in node.apps)
        await one.watch(fail)
        await other.watch(succeed)
        exchange(node.server, port, client, neighbour)

    assert one.end == (1, "internal error")
    assert not other.closed
    assert node.server.counters.failed == 1
    assert "what nobody thought of" in caplog.text
    await one.watch(fail)  # of a connection that is gone: counted, and that is all
    assert node.server.counters.failed == 2
