"""Where a node may send: never into its own networks, never where no game server lives.

Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), plus multicast; of
IPv6 only what IANA gives out as global unicast (RFC 4291 section 2.4) can be a public server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import attrs

Network = IPv4Network | IPv6Network

# Left open by `dev`, everything a lab on one machine or one LAN needs; and by `allow` on purpose.
PRIVATE: Final = tuple(
    ip_network(net)
    for net in (
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared address space of carriers
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)
GLOBAL_IPV6: Final = IPv6Network("2000::/3")
# Never a game server, whoever asks.
RESERVED: Final = tuple(
    ip_network(net)
    for net in (
        "0.0.0.0/8",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # the retired 6to4 relays
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
        "2001::/23",
        "2001:db8::/32",  # documentation
        "2002::/16",
        "3fff::/20",  # documentation
    )
)


def _within(address: IPv4Address | IPv6Address, networks: Iterable[Network]) -> bool:
    return any(address.version == net.version and address in net for net in networks)


def _lies_in_private(network: Network) -> bool:
    """Whether every address of it is private, so that whoever names it means just that."""
    return any(
        network.version == private.version
        and network.prefixlen >= private.prefixlen
        and network.network_address in private
        for private in PRIVATE
    )


@attrs.frozen(kw_only=True)
class DestinationPolicy:
    """`is_own` tells whether an address belongs to this machine.

    `node_ports` are this node's and other nodes': a packet sent there might come back, and one
    with headers inside headers would take a session at each turn.

    `deny` beats everything; a non-empty `allow` is the whole list of what is permitted. A network
    in it that lies inside a private range opens that much of it, this machine's own addresses
    there too; a wider one opens nothing private. The reserved ranges cannot be opened.
    """

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    deny_ports: frozenset[int] = frozenset()
    dev: bool = False
    node_ports: frozenset[int] = frozenset()
    is_own: Callable[[str], bool] = lambda _host: False
    _opened: tuple[Network, ...] = attrs.field(init=False)

    @_opened.default
    def _opened_by_allow(self) -> tuple[Network, ...]:
        return tuple(filter(_lies_in_private, self.allow))

    def permits(self, host: str, port: int) -> bool:
        """Whether a new flow may be opened to this numeric address."""
        address = ip_address(host)
        if port == 0 or port in self.deny_ports or port in self.node_ports:
            return False
        if _within(address, RESERVED) or _within(address, self.deny):
            return False
        if self.allow and not _within(address, self.allow):
            return False
        if self.dev or _within(address, self._opened):  # a lab may have its server on this machine
            return address.version == 4 or _within(address, (GLOBAL_IPV6, *PRIVATE))
        if _within(address, PRIVATE) or (address.version == 6 and address not in GLOBAL_IPV6):
            return False
        return not self.is_own(host)
