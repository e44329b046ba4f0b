from __future__ import annotations

from ipaddress import ip_network

import attrs
import pytest
from lightspeed_proxy.destinations import DestinationPolicy

OPEN = DestinationPolicy()
DEV = DestinationPolicy(
    dev=True, node_ports=frozenset({4434}), is_own=lambda host: host == "10.0.0.1"
)


@pytest.mark.parametrize("host", ["8.8.8.8", "93.184.216.34", "2a00:1450::1"])
def test_public_servers_are_permitted(host: str) -> None:
    assert OPEN.permits(host, 27015)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.1.1",
        "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1",
        "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1",
        "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:8.8.8.8",
        "2001:db8::1", "fe80::1", "fc00::1", "ff02::1", "64:ff9b::808:808", "2002::1",
        "::127.0.0.1", "::ffff:0:7f00:1", "::2", "400::1", "1fff::1", "4000::1", "5f00::1",
        "fec0::1",
    ],
)  # fmt: skip
def test_special_ranges_are_refused(host: str) -> None:
    assert not OPEN.permits(host, 27015)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.9.9.9",
        "192.168.1.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "8.8.8.8",
        "2a00:1450::1",
    ],
)
def test_dev_opens_loopback_and_private_ranges(host: str) -> None:
    assert DEV.permits(host, 27015)


@pytest.mark.parametrize(
    "host",
    [
        "224.0.0.1", "0.0.0.0", "255.255.255.255", "198.18.0.1", "::", "::10.0.0.2", "ff02::1",
        "4000::1",
    ],
)  # fmt: skip
def test_dev_does_not_open_what_is_no_host(host: str) -> None:
    assert not DEV.permits(host, 27015)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "10.0.0.1", "8.8.8.8"])
def test_the_node_never_sends_to_a_node(host: str) -> None:
    assert not DEV.permits(host, 4434)
    assert DEV.permits(host, 27015)


def test_an_own_public_address_is_refused() -> None:
    policy = DestinationPolicy(is_own=lambda host: host == "8.8.4.4")
    assert not policy.permits("8.8.4.4", 27015)
    assert policy.permits("8.8.8.8", 27015)


def test_ports_and_denied_networks_are_refused() -> None:
    policy = DestinationPolicy(deny=(ip_network("8.8.0.0/16"),), deny_ports=frozenset({53}))
    assert not policy.permits("8.8.8.8", 27015)
    assert not policy.permits("9.9.9.9", 53)
    assert not policy.permits("9.9.9.9", 0)
    assert policy.permits("9.9.9.9", 27015)


def test_an_allow_list_is_the_whole_list_and_may_open_a_private_range() -> None:
    policy = DestinationPolicy(allow=(ip_network("10.7.0.0/16"), ip_network("240.0.0.0/4")))
    assert policy.permits("10.7.1.1", 27015)
    assert not policy.permits("8.8.8.8", 27015)
    assert not policy.permits("240.0.0.1", 27015)  # reserved stays reserved


ROUNDABOUT = ["0.0.0.0/0", "::/0", "126.0.0.0/7", "8.0.0.0/6", "169.0.0.0/8", "fc00::/6", "::/127"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "fe80::1", "4000::1"]
)
def test_an_allowed_network_wider_than_a_private_one_does_not_open_it(host: str) -> None:
    policy = DestinationPolicy(allow=tuple(map(ip_network, ROUNDABOUT)))
    assert not policy.permits(host, 27015)
    assert policy.permits("8.8.8.8", 27015)
    assert policy.permits("2a00:1450::1", 27015)
    named = attrs.evolve(policy, allow=(*policy.allow, ip_network(host)))
    assert named.permits(host, 27015) == (host != "4000::1")  # which is nobody's


def test_own_addresses_are_opened_only_by_a_private_network_that_was_named() -> None:
    own = {"8.8.4.4", "10.7.0.1", "10.9.0.1", "127.0.0.1", "::1"}
    nets = ("8.8.0.0/16", "10.7.0.0/16", "127.0.0.0/8", "::1/128", "0.0.0.0/0")
    policy = DestinationPolicy(allow=tuple(map(ip_network, nets)), is_own=own.__contains__)
    permitted = {host for host in own | {"8.8.8.8"} if policy.permits(host, 27015)}
    assert permitted == {"8.8.8.8", "10.7.0.1", "127.0.0.1", "::1"}


def test_in_dev_an_allow_list_still_limits() -> None:
    policy = DestinationPolicy(allow=(ip_network("126.0.0.0/7"),), dev=True)
    assert policy.permits("127.0.0.1", 27015)
    assert not policy.permits("10.0.0.1", 27015)


def test_deny_beats_allow() -> None:
    net = ip_network("9.0.0.0/8")
    assert not DestinationPolicy(allow=(net,), deny=(net,)).permits("9.9.9.9", 27015)
