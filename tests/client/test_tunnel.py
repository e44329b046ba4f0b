from __future__ import annotations

from lightspeed_client.open_tunnel import OpenCarried, OpenTunnel
from lightspeed_client.sealed_flows import SealedCarried
from lightspeed_client.sealed_tunnel import SealedTunnel
from lightspeed_client.tunnel import Carried, OwnedPort, Tunnel, any_port
from lightspeed_protocol.runtime.udp import UdpPort

from .fakes import FakePort


def test_both_tunnels_are_tunnels_and_the_fake_is_a_port() -> None:
    """mypy holds this; at run time only that the names are there."""

    def tunnel(either: OpenTunnel | SealedTunnel) -> Tunnel:
        return either

    def carried(either: OpenCarried | SealedCarried) -> Carried:
        return either

    def port(either: UdpPort | FakePort) -> OwnedPort:
        return either

    for name in ("run", "open", "finish", "notice", "why_silent", "not_ready", "not_found"):
        assert callable(getattr(OpenTunnel, name))
        assert callable(getattr(SealedTunnel, name))


def test_a_socket_is_of_the_nodes_family() -> None:
    assert any_port(("192.0.2.1", 4434)) == ("0.0.0.0", 0)
    assert any_port(("2001:db8::1", 4434)) == ("::", 0)
