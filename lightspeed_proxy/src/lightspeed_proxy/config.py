"""The node's settings: what they are called, what they default to, what is refused.

Source: PROTOCOL.md (ports), CLI.md (names and defaults in [limits]), ARCHITECTURE.md (closed to
strangers by default). Bytes of a client's rate are counted as they are on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import attrs
from attrs.validators import and_, deep_iterable, ge, gt, le
from lightspeed_protocol.runtime.config import Network, parse, read_text, render, setting

DEFAULT_PATH: Final = Path("/etc/lightspeed/proxy.toml")

NEEDS_RESTART: Final = ("data.bind", "http.bind")  # a bound socket is not moved while it runs

# Asked with a forged source these answer far more than they were sent, or are no game at all.
REFLECTORS: Final = (
    19,  # chargen
    53,  # DNS
    69,  # TFTP
    111,  # portmap
    123,  # NTP
    137,  # NetBIOS names
    161,  # SNMP
    389,  # LDAP over UDP
    1900,  # SSDP
    5353,  # mDNS
    11211,  # memcached
)

LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

Address = tuple[str, int]


def parse_address(text: str) -> Address:
    """``127.0.0.1:4434``, ``[::1]:4434``, or ``:4434`` for every IPv4 address of this machine."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"want [ADDRESS]:PORT around an IPv6 address, got {text!r}")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"want ADDRESS:PORT such as 127.0.0.1:4434, got {text!r}")
    try:
        return str(ip_address(host or "0.0.0.0")), int(port)
    except ValueError:
        raise ValueError(
            f"want an IP address and a port such as 127.0.0.1:4434, got {text!r}"
        ) from None


def show_address(address: Address) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_public(address: Address) -> bool:
    """Whether strangers may reach a socket bound there: 0.0.0.0 and :: count as public."""
    ip = ip_address(address[0])
    # is_private holds for 0.0.0.0 and for documentation ranges too: nobody is behind those
    return ip.is_unspecified or not (ip.is_private or ip.is_loopback or ip.is_link_local)


def an_address(_instance: object, _field: Any, value: str) -> None:
    parse_address(value)


def text_of(longest: int) -> Callable[[object, Any, str], None]:
    """Printable text that fits a length byte on the wire and one line of a log."""

    def check(_instance: object, field: Any, value: str) -> None:
        if not value or len(value.encode()) > longest or not value.isprintable():
            raise ValueError(
                f"{field.name!r} must be 1 to {longest} bytes of printable text: {value!r}"
            )

    return check


@attrs.frozen(kw_only=True)
class Node:
    node_id: str = setting(
        "node-1", "What this node calls itself, in /health and to its players.", text_of(64)
    )
    region: str = setting(
        "unknown", 'Where it stands, in your own words, such as "eu-west".', text_of(64)
    )


@attrs.frozen(kw_only=True)
class Data:
    bind: str = setting(
        "0.0.0.0:4434", "UDP address that players' tunnels come to. Needs a restart.", an_address
    )

    @property
    def address(self) -> Address:
        return parse_address(self.bind)


@attrs.frozen(kw_only=True)
class Http:
    bind: str = setting(
        "127.0.0.1:8080",
        "TCP address of /health, /livez, /readyz, /metrics and /telemetry. Only this machine can"
        " reach the default. Needs a restart.",
        an_address,
    )
    allow: tuple[Network, ...] = setting(
        LOOPBACK,
        "Networks that may read /metrics and post /telemetry once `bind` lets them in; others get"
        " 403. /health, /livez and /readyz answer anyone who reaches the port.",
    )

    @property
    def address(self) -> Address:
        return parse_address(self.bind)


@attrs.frozen(kw_only=True)
class Limits:
    max_clients: int = setting(
        100, "Players at once. One more is refused and counted.", and_(ge(1), le(1_000_000))
    )
    max_flows_per_client: int = setting(
        16,
        "Game conversations of one player at once. Each takes a socket: this times max_clients"
        " must fit the limit on open files.",
        and_(ge(1), le(10_000)),
    )
    max_pps_per_client: int = setting(
        1000, "Packets a second from one player.", and_(ge(1), le(10_000_000))
    )
    max_bps_per_client: int = setting(
        1_000_000, "Bytes (not bits) a second from one player.", and_(ge(1), le(10_000_000_000))
    )
    idle_timeout_s: float = setting(
        300.0,
        "Seconds without a packet after which a session or a conversation is forgotten.",
        and_(ge(1.0), le(86_400.0)),
    )


@attrs.frozen(kw_only=True)
class Security:
    max_amplification: float = setting(
        30.0,
        "Bytes of answers per byte sent above which answers are dropped.",
        and_(ge(1.0), le(10_000.0)),
    )
    amplification_grace_bytes: int = setting(
        65_536,
        "Answers up to this many bytes are never held against a player.",
        and_(ge(0), le(1_000_000_000)),
    )
    max_destinations_per_window: int = setting(
        10, "New game servers one player may reach within the window.", and_(ge(1), le(100_000))
    )
    destinations_window_s: float = setting(
        10.0, "Length of that window in seconds.", and_(gt(0.0), le(86_400.0))
    )
    ban_s: float = setting(
        3600.0,
        "Seconds for which a player who broke these rules is refused.",
        and_(ge(0.0), le(31_536_000.0)),
    )
    allow_destinations: tuple[Network, ...] = setting(
        (),
        "If not empty: only game servers in these networks are reached, such as"
        ' ["198.51.100.0/24"]. Listing a private network here opens it.',
    )
    deny_destinations: tuple[Network, ...] = setting(
        (),
        "Networks never reached, besides private, loopback, link-local, multicast and reserved"
        " ones, which are always refused.",
    )
    deny_ports: tuple[int, ...] = setting(
        REFLECTORS,
        "Destination ports never reached: services that turn small questions into large answers.",
        deep_iterable(and_(ge(0), le(65535))),
    )


@attrs.frozen(kw_only=True)
class Shutdown:
    drain_s: float = setting(
        3.0,
        "Seconds that running games keep flowing after a stop was asked for.",
        and_(ge(0.0), le(5.0)),  # the whole stop takes at most 6 s
    )


@attrs.frozen(kw_only=True)
class ProxyConfig:
    node: Node = attrs.field(factory=Node)
    data: Data = attrs.field(factory=Data)
    http: Http = attrs.field(factory=Http)
    limits: Limits = attrs.field(factory=Limits)
    security: Security = attrs.field(factory=Security)
    shutdown: Shutdown = attrs.field(factory=Shutdown)


@attrs.frozen(kw_only=True)
class Source:
    """Where the settings come from: a file (or none) and what the command line puts above it."""

    path: Path | None = None
    data: str | None = None
    http: str | None = None

    def read(self) -> ProxyConfig:
        """The effective settings; raises `ConfigError`."""
        return self.parse("" if self.path is None else read_text(self.path))

    def parse(self, text: str) -> ProxyConfig:
        """The effective settings if this is what the file says; raises `ConfigError`."""
        config = parse(text, ProxyConfig, name=str(self.path))
        if self.data is not None:
            config = attrs.evolve(config, data=Data(bind=self.data))
        if self.http is not None:
            config = attrs.evolve(config, http=attrs.evolve(config.http, bind=self.http))
        return config


def default_file() -> str:
    head = (
        "Settings of a LightSpeed node. Every key stands here with its default; delete what you do"
        " not change. `lightspeed-proxy check` finds mistakes, `systemctl reload lightspeed-proxy`"
        " applies changes without disturbing running games."
    )
    return render(ProxyConfig(), head=head)
