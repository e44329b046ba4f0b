from __future__ import annotations

from typing import Any

import pytest
import trio
from lightspeed_client.app import PortInUse, RedirectSettings, open_redirect, pick_local_port
from lightspeed_client.fec_choice import parse_fec
from lightspeed_protocol.runtime.udp import UdpPort, open_socket
from trio.testing import MockClock

from tests.support.repair import xor

from .fakes import NODE, SERVER, FakeNet, FakeNode


def test_settings_take_text_or_pairs_and_refuse_nonsense() -> None:
    settings = RedirectSettings(server="203.0.113.5:27960", node="192.0.2.1")
    assert (settings.server, settings.node) == (SERVER, NODE)
    mistakes: tuple[dict[str, Any], ...] = (
        {"server": "203.0.113.5"},
        {"server": "203.0.113.5:1", "fec": parse_fec("auto")},
        {"server": "203.0.113.5:1", "fec": parse_fec("xor:4,off")},
        {"server": "203.0.113.5:1", "local_port": 70000},
        {"server": "203.0.113.5:1", "keepalive_s": 0.0},
    )
    for wrong in mistakes:
        with pytest.raises(ValueError, match=r"\S"):
            RedirectSettings(node=NODE, **wrong)


async def test_both_loopbacks_listen_on_one_port(autojump_clock: MockClock) -> None:
    net = FakeNet()
    settings = RedirectSettings(server=SERVER, node=NODE, local_port=27960)
    async with open_redirect(settings, bind=net.bind) as redirect:
        assert redirect.local_addresses == [("127.0.0.1", 27960), ("::1", 27960)]


async def test_without_ipv6_the_client_says_so_and_carries_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    net = FakeNet(no_ipv6=True)
    async with open_redirect(RedirectSettings(server=SERVER, node=NODE), bind=net.bind) as redirect:
        assert len(redirect.local_addresses) == 1
    assert "127.0.0.1 only" in caplog.text


async def test_a_taken_v6_port_is_no_reason_to_fail(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    net = FakeNet(taken={("::1", 27960), ("::1", 40000)})
    chosen = RedirectSettings(server=SERVER, node=NODE, local_port=27960)
    async with open_redirect(chosen, bind=net.bind) as redirect:
        assert len(redirect.local_addresses) == 1
    assert "not listening on [::1]:27960" in caplog.text
    async with open_redirect(RedirectSettings(server=SERVER, node=NODE), bind=net.bind) as redirect:
        assert len(redirect.local_addresses) == 2, "any port: one that both have"


async def test_a_port_in_use_is_one_clear_error(autojump_clock: MockClock) -> None:
    net = FakeNet(taken={("127.0.0.1", 27960)})
    settings = RedirectSettings(server=SERVER, node=NODE, local_port=27960)
    with pytest.raises(PortInUse, match=r"port 27960 .* is in use: .* --local-port"):
        async with open_redirect(settings, bind=net.bind):
            pass
    assert not net.ports


async def test_a_failing_body_ends_every_task_and_closes_every_socket(
    autojump_clock: MockClock,
) -> None:
    net = FakeNet()
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with open_redirect(RedirectSettings(server=SERVER, node=NODE), bind=net.bind):
            await trio.sleep(1)
            raise ZeroDivisionError
    assert not net.ports


def test_the_servers_port_number_is_taken_here_if_it_is_free() -> None:
    with open_socket(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert pick_local_port(0, port) == 0
        assert pick_local_port(port, 5) == port, "asked for: the error comes when it is opened"
    assert pick_local_port(0, port) == port


async def test_real_sockets_carry(autojump_clock: MockClock) -> None:
    node = FakeNode()
    with UdpPort.bind(("127.0.0.1", 0)) as node_port, UdpPort.bind(("127.0.0.1", 0)) as game:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, node_port)
            settings = RedirectSettings(server=SERVER, node=node_port.address, fec=xor(4))
            async with open_redirect(settings) as redirect:
                game.send(b"hello", redirect.local_addresses[0])
                assert await game.receive() == [(b"hello", redirect.local_addresses[0])]
            nursery.cancel_scope.cancel("test over")
    assert len(node.fins) == 1
