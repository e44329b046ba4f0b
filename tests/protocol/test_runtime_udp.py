from __future__ import annotations

import socket

import pytest
import trio
import trio.testing
from lightspeed_protocol.runtime.udp import BATCH, LARGEST_BYTES, UdpPort, open_socket


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_reader_drains_what_is_there(host: str) -> None:
    with UdpPort.bind((host, 0)) as a, UdpPort.bind((host, 0)) as b:
        for number in range(10):
            assert a.send(bytes([number]), b.address)
        heard = await b.receive()
        assert [payload for payload, _ in heard] == [bytes([number]) for number in range(10)]
        assert {source for _, source in heard} == {a.address}


async def test_a_batch_is_bounded() -> None:
    with UdpPort.bind(("127.0.0.1", 0)) as a, UdpPort.bind(("127.0.0.1", 0)) as b:
        for _ in range(BATCH + 3):
            a.send(b"x", b.address)
        assert [len(await b.receive()) for _ in range(2)] == [BATCH, 3]


async def test_a_datagram_too_long_shows_as_too_long() -> None:
    with UdpPort.bind(("127.0.0.1", 0)) as a, UdpPort.bind(("127.0.0.1", 0)) as b:
        a.send(bytes(LARGEST_BYTES), b.address)
        a.send(bytes(LARGEST_BYTES + 100), b.address)
        assert [len(p) for p, _ in await b.receive()] == [LARGEST_BYTES, LARGEST_BYTES + 1]


async def test_a_send_that_cannot_be_is_counted_not_raised() -> None:
    with UdpPort.bind(("127.0.0.1", 0)) as port:
        assert not port.send(bytes(70000), ("127.0.0.1", 9))
        assert not port.send(b"x", ("255.255.255.255", 9))
        assert port.unsent == 2


async def test_closing_wakes_the_reader() -> None:
    port = UdpPort.bind(("127.0.0.1", 0))

    async def reader() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await port.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        port.close()
        port.close()  # twice is once


def test_an_address_in_use_raises_and_leaves_nothing_open() -> None:
    with open_socket(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        open_socket(taken.getsockname())


def test_an_ipv6_socket_takes_ipv6_only() -> None:
    with open_socket(("::1", 0)) as sock:
        assert sock.family == socket.AF_INET6
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
