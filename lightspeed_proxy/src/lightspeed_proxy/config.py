"""The node's settings: what they are called, what they default to, what is refused.

Source: PROTOCOL.md (ports), CLI.md (names and defaults in [limits], [control] h3, [security]
legacy), ARCHITECTURE.md (closed to strangers by default). Bytes of a client's rate are counted as
they are on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import attrs
from attrs.validators import and_, deep_iterable, ge, gt, le
from lightspeed_protocol.invite import Invite
from lightspeed_protocol.runtime.config import Network, parse, read_text, render, setting

DEFAULT_PATH: Final = Path("/etc/lightspeed/proxy.toml")

CONTROL_PORT: Final = 4433
DATA_PORT: Final = 4434

# A bound socket is not moved while it runs, and a running node stays who it is.
NEEDS_RESTART: Final = ("node.state_dir", "control.bind", "data.bind", "http.bind")

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
    """``127.0.0.1:4434``, ``[::1]:4434``, or ``:4434`` for every address of this machine.

    The last one has an empty host: both families. ``0.0.0.0`` is IPv4 only and ``[::]`` IPv6 only.
    """
    host, port = _split(text, f"want ADDRESS:PORT such as 127.0.0.1:4434, got {text!r}")
    try:
        return str(ip_address(host)) if host else "", port
    except ValueError:
        raise ValueError(
            f"want an IP address and a port such as 127.0.0.1:4434, got {text!r}"
        ) from None


def parse_endpoint(text: str, default_port: int) -> Address:
    """Where others reach something: a host name or an IP address, ``:PORT`` behind it or not."""
    wanted = f"want HOST or HOST:PORT such as node.example.com:{default_port}, got {text!r}"
    bare = ":" not in text or (text.startswith("[") and text.endswith("]"))
    host, port = _split(f"{text}:{default_port}" if bare else text, wanted)
    try:
        return Invite(host, port, bytes(32)).host, port  # what an invite can name
    except ValueError:
        raise ValueError(wanted) from None


def _split(text: str, wanted: str) -> Address:
    """The two halves; `wanted` is what to say when they are not there."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"want [ADDRESS]:PORT around an IPv6 address, got {text!r}")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(wanted)
    return host, int(port)


def show_address(address: Address) -> str:
    """An empty host, every address of both families, shows as ``:PORT``."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_public(address: Address) -> bool:
    """Whether strangers may reach a socket bound there: every address counts as public."""
    if not address[0]:
        return True
    ip = ip_address(address[0])
    # is_private holds for 0.0.0.0 and for documentation ranges too: nobody is behind those
    return ip.is_unspecified or not (ip.is_private or ip.is_loopback or ip.is_link_local)


def an_address(_instance: object, _field: Any, value: str) -> None:
    parse_address(value)


def an_endpoint(default_port: int) -> Callable[[object, Any, str], None]:
    """Empty, or what `parse_endpoint` reads."""

    def check(_instance: object, _field: Any, value: str) -> None:
        if value:
            parse_endpoint(value, default_port)

    return check


def an_absolute_path(_instance: object, field: Any, value: str) -> None:
    if value and not Path(value).is_absolute():
        raise ValueError(f"{field.name!r} must be an absolute path: {value!r}")


def one_of(*words: str) -> Callable[[object, Any, str], None]:
    def check(_instance: object, field: Any, value: str) -> None:
        if value not in words:
            raise ValueError(f"{field.name!r} must be {' or '.join(map(repr, words))}: {value!r}")

    return check


def peer_lines(_instance: object, _field: Any, value: tuple[str, ...]) -> None:
    for line in value:
        if Invite.parse(line).token is not None:
            # it would lie in a file that others may read, and be handed to every player
            raise ValueError("a peer's line has no token: take `&token=...` out of it")


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
    state_dir: str = setting(
        "",
        "Directory for the node's key and its invites. Empty: what systemd gives, else"
        " /var/lib/lightspeed for root and ~/.local/state/lightspeed-proxy for others. Needs a"
        " restart.",
        an_absolute_path,
    )
    peers: tuple[str, ...] = setting(
        (),
        "Other nodes of yours to tell players about: their invite lines without the token, such as"
        ' ["lightspeed://node2.example.com:4433/?pin=...&name=node2"].',
        peer_lines,
    )


@attrs.frozen(kw_only=True)
class Control:
    bind: str = setting(
        f":{CONTROL_PORT}",
        'UDP address that players register at (QUIC). ":4433" is every address of this machine,'
        ' IPv4 and IPv6; "0.0.0.0:4433" is IPv4 only, "[::]:4433" IPv6 only. Needs a restart.',
        an_address,
    )
    advertise: str = setting(
        "",
        "HOST or HOST:PORT that invites name, such as a DNS name or the public address of a router"
        " in front. Empty: the address in `bind`, else a guess.",
        an_endpoint(CONTROL_PORT),
    )
    certificate: str = setting(
        "",
        "PEM file with a certificate of your own (a chain may follow it), and `key`, the PEM file"
        " with its private key. Read again on a reload. Invites pin the key: a new certificate for"
        " the same key keeps them good. Both empty: the node makes its own once and keeps it.",
        an_absolute_path,
    )
    key: str = setting("", "See `certificate`.", an_absolute_path)
    h3: bool = setting(
        False,
        "Whether /health, /metrics and /nodes are answered over HTTP/3 on this port too, under the"
        " rules of [http] allow.",
    )

    def __attrs_post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            there, missing = ("certificate", "key") if self.certificate else ("key", "certificate")
            raise ValueError(f"{there!r} is set and {missing!r} is not: set both or neither")

    @property
    def address(self) -> Address:
        return parse_address(self.bind)

    @property
    def advertised(self) -> Address | None:
        """Host and port for invites; None when only a guess can tell."""
        host, port = self.address
        if self.advertise:
            return parse_endpoint(self.advertise, port or CONTROL_PORT)
        return None if not host or ip_address(host).is_unspecified else (host, port)


@attrs.frozen(kw_only=True)
class Data:
    bind: str = setting(
        f":{DATA_PORT}",
        "UDP address that players' tunnels come to, written like [control] bind. Needs a restart.",
        an_address,
    )
    advertise: str = setting(
        "",
        "HOST:PORT that players send to if that is not `bind`, as behind a router that forwards"
        " another port. Empty: the host of the invite and the port of `bind`.",
        an_endpoint(DATA_PORT),
    )

    @property
    def address(self) -> Address:
        return parse_address(self.bind)

    @property
    def advertised(self) -> Address | None:
        """Host and port to tell players; None for the control host and the port of `bind`."""
        return parse_endpoint(self.advertise, DATA_PORT) if self.advertise else None


@attrs.frozen(kw_only=True)
class Http:
    bind: str = setting(
        "127.0.0.1:8080",
        'TCP address of /health, /livez, /readyz, /metrics and /telemetry; ":8080" is every IPv4'
        " address of this machine. Only this machine can reach the default. Needs a restart.",
        an_address,
    )
    allow: tuple[Network, ...] = setting(
        LOOPBACK,
        "Networks that may read /metrics and post /telemetry once `bind` lets them in; others get"
        " 403. /health, /livez and /readyz answer anyone who reaches the port.",
    )

    @property
    def address(self) -> Address:
        """``:8080`` is every IPv4 address here: what listens for browsers needs no more."""
        host, port = parse_address(self.bind)
        return host or "0.0.0.0", port


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
    max_sessions_per_invite: int = setting(
        4,
        "Devices that may use one invite at once, unless the invite says another number.",
        and_(ge(1), le(10_000)),
    )
    max_repair: float = setting(
        2.0,
        "Bytes sent to a player, repair included, per byte of game packets: the most that loss"
        " repair may cost here. 1.0 turns it off towards players.",
        and_(ge(1.0), le(100.0)),
    )
    idle_timeout_s: float = setting(
        300.0,
        "Seconds without a packet after which a session or a conversation is forgotten.",
        and_(ge(1.0), le(86_400.0)),
    )
    resume_s: float = setting(
        120.0,
        "Seconds after its last sign of life for which a lost player may come back and find the"
        " same conversations with the same outbound ports.",
        and_(ge(0.0), le(86_400.0)),
    )


@attrs.frozen(kw_only=True)
class Security:
    legacy: str = setting(
        "off",
        'Header versions 1 and 2, which cannot be sealed: "off", or "registered" to take them from'
        " the address that a player with an invite has registered from.",
        one_of("off", "registered"),
    )
    rekey_s: float = setting(
        7200.0,
        "Seconds after which a session gets a new key. Nothing is lost by it.",
        and_(ge(1.0), le(86_400.0)),
    )
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
        ' ["127.0.0.0/8"]. A network that lies inside a private, loopback or link-local range opens'
        " it; a wider one opens nothing private.",
    )
    deny_destinations: tuple[Network, ...] = setting(
        (),
        "Networks never reached, whatever `allow_destinations` says. Multicast and reserved ones"
        " never are anyway.",
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
    control: Control = attrs.field(factory=Control)
    data: Data = attrs.field(factory=Data)
    http: Http = attrs.field(factory=Http)
    limits: Limits = attrs.field(factory=Limits)
    security: Security = attrs.field(factory=Security)
    shutdown: Shutdown = attrs.field(factory=Shutdown)


@attrs.frozen(kw_only=True)
class Source:
    """Where the settings come from: a file (or none) and what the command line puts above it."""

    path: Path | None = None
    control: str | None = None
    data: str | None = None
    http: str | None = None
    state: str | None = None

    def read(self) -> ProxyConfig:
        """The effective settings; raises `ConfigError`."""
        return self.parse("" if self.path is None else read_text(self.path))

    def parse(self, text: str) -> ProxyConfig:
        """The effective settings if this is what the file says; raises `ConfigError`."""
        config = parse(text, ProxyConfig, name=str(self.path))
        node, control, data, http = config.node, config.control, config.data, config.http
        if self.state is not None:
            node = attrs.evolve(node, state_dir=self.state)
        if self.control is not None:
            control = attrs.evolve(control, bind=self.control)
        if self.data is not None:
            data = attrs.evolve(data, bind=self.data)
        if self.http is not None:
            http = attrs.evolve(http, bind=self.http)
        return attrs.evolve(config, node=node, control=control, data=data, http=http)


def default_file() -> str:
    head = (
        "Settings of a LightSpeed node. Every key stands here with its default; delete what you do"
        " not change. `lightspeed-proxy check` finds mistakes, `systemctl reload lightspeed-proxy`"
        " applies changes without disturbing running games."
    )
    return render(ProxyConfig(), head=head)
