from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import attrs
import pytest
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.config import parse
from lightspeed_proxy.config import (
    Control,
    Data,
    ProxyConfig,
    Source,
    default_file,
    is_public,
    parse_address,
    parse_endpoint,
    show_address,
)

EXAMPLE = Path(__file__).parents[2] / "lightspeed_proxy" / "proxy.toml.example"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as info:
        parse(text, ProxyConfig, name="proxy.toml")
    return info.value.problems


def test_the_example_is_the_default_file_and_reads_back_as_the_defaults() -> None:
    text = EXAMPLE.read_text("utf-8")
    assert text == default_file()
    assert parse(text, ProxyConfig, name="example") == ProxyConfig()


def test_the_example_names_every_key_with_a_comment() -> None:
    lines = default_file().splitlines()
    for section in attrs.fields(ProxyConfig):
        assert f"[{section.name}]" in lines
        assert section.type is not None
        for field in attrs.fields(section.type):
            (at,) = [
                i
                for i, line in enumerate(lines)
                if line.startswith(f"{field.name} = ")
                and f"[{section.name}]" == _section_of(lines, i)
            ]
            assert lines[at - 1].startswith("# ")


def _section_of(lines: list[str], at: int) -> str:
    return next(line for line in reversed(lines[:at]) if line.startswith("["))


def test_defaults_are_those_the_documents_name() -> None:
    config = ProxyConfig()
    assert config.control.address == ("", 4433)
    assert config.data.address == ("", 4434)
    assert config.control.h3 is False
    assert config.security.legacy == "off"
    assert config.http.address == ("127.0.0.1", 8080)
    assert config.limits.max_clients == 100
    assert config.limits.max_pps_per_client == 1000
    assert config.limits.max_bps_per_client == 1_000_000
    assert {19, 53, 123, 161, 1900, 11211} <= set(config.security.deny_ports)


def test_every_mistake_of_a_file_is_listed() -> None:
    text = """
        [node]
        node_id = ""
        [data]
        bind = "localhost:4434"
        [http]
        bind = "127.0.0.1"
        alow = []
        [limits]
        max_clients = "many"
        max_flows_per_client = 0
        idle_timeout_s = nan
        [security]
        max_amplification = 0.5
        deny_ports = [53, 70000]
        deny_destinations = "203.0.113.0/24"
        [shutdown]
        drain_s = 60
        [legacy]
    """
    assert problems(text) == [
        "'node_id' must be 1 to 64 bytes of printable text: '' @ config.node.node_id",
        "want an IP address and a port such as 127.0.0.1:4434,"
        " got 'localhost:4434' @ config.data.bind",
        "want ADDRESS:PORT such as 127.0.0.1:4434, got '127.0.0.1' @ config.http.bind",
        "unknown key 'alow', did you mean 'allow'? @ config.http",
        "want int, got 'many' @ config.limits.max_clients",
        "'max_flows_per_client' must be >= 1: 0 @ config.limits.max_flows_per_client",
        "'idle_timeout_s' must be >= 1.0: nan @ config.limits.idle_timeout_s",
        "'max_amplification' must be >= 1.0: 0.5 @ config.security.max_amplification",
        "want a list, got '203.0.113.0/24' @ config.security.deny_destinations",
        "'deny_ports' must be <= 65535: 70000 @ config.security.deny_ports",
        "'drain_s' must be <= 5.0: 60.0 @ config.shutdown.drain_s",
        "unknown key 'legacy' @ config",
    ]


def test_a_multi_line_name_is_refused() -> None:
    (problem,) = problems('[node]\nregion = "eu\\nforged"\n')
    assert "printable" in problem


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:4434", ("127.0.0.1", 4434)),
        ("[::1]:4434", ("::1", 4434)),
        ("[2001:DB8::0]:0", ("2001:db8::", 0)),
        (":4434", ("", 4434)),
        ("0.0.0.0:4434", ("0.0.0.0", 4434)),
        ("[::]:4434", ("::", 4434)),
    ],
)
def test_addresses_are_read_and_shown(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address
    assert parse_address(show_address(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "4434",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "::1:4434",
        "[::1]",
        "localhost:1",
        "127.0.0.1:+1",
        "127.0.0.1:\u0661",
        "127.1:80",
        "127.0.0.1:-1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want"):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("", True),
        ("0.0.0.0", True),
        ("::", True),
        (".".join("8888"), True),
        ("2600" + "::1", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("10.1.2.3", False),
        ("192.168.1.1", False),
        ("169.254.1.1", False),
        ("fd00::1", False),
        ("100.64.0.1", True),  # a carrier's network is full of strangers
    ],
)
def test_public_is_what_strangers_reach(host: str, public: bool) -> None:
    assert is_public((host, 4434)) is public


def test_the_command_line_stands_above_the_file(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text('[data]\nbind = ":1"\n[http]\nbind = ":2"\nallow = ["10.0.0.0/8"]\n')
    config = Source(path=file, data="127.0.0.1:5", http="127.0.0.1:6").read()
    assert (config.data.bind, config.http.bind) == ("127.0.0.1:5", "127.0.0.1:6")
    assert config.http.allow == (ip_network("10.0.0.0/8"),)
    assert Source(path=file).read().data.address == ("", 1)
    assert Source(path=file).read().http.address == ("0.0.0.0", 2)
    assert Source().read() == ProxyConfig()


def test_a_bind_address_of_the_command_line_leaves_the_rest_of_its_section(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text(
        f"[node]\nregion = 'eu'\nstate_dir = '{tmp_path.as_posix()}'\n"
        "[control]\nadvertise = 'node.example.com'\n[data]\nadvertise = 'node.example.com:1'\n"
    )
    config = Source(path=file, control=":5", data=":6", state=str(tmp_path / "other")).read()
    assert config.control == Control(bind=":5", advertise="node.example.com")
    assert config.data == Data(bind=":6", advertise="node.example.com:1")
    assert (config.node.region, config.node.state_dir) == ("eu", str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("node.example.com", ("node.example.com", 4433)),
        ("Node.Example.com:7", ("node.example.com", 7)),
        ("203.0.113.5", ("203.0.113.5", 4433)),
        ("[2001:db8::5]", ("2001:db8::5", 4433)),
        ("[2001:db8::5]:7", ("2001:db8::5", 7)),
    ],
)
def test_endpoints_are_read(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text, 4433) == endpoint


@pytest.mark.parametrize(
    "text",
    ["", ":", ":7", "2001:db8::5", "a b", "-x", "x:", "x:0", "x:65536", "1.2.3", "x/y", "x" * 254],
)
def test_what_nobody_could_connect_to_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="want"):
        parse_endpoint(text, 4433)


def test_what_invites_name_is_what_was_advertised_else_a_specific_address() -> None:
    assert Control().advertised is None
    assert Control(bind="[::]:7").advertised is None
    assert Control(bind="203.0.113.5:7").advertised == ("203.0.113.5", 7)
    assert Control(bind=":7", advertise="node.example.com").advertised == ("node.example.com", 7)
    assert Control(bind=":0", advertise="node.example.com").advertised == ("node.example.com", 4433)


def test_players_are_told_another_data_address_only_if_there_is_one() -> None:
    assert Data(bind=":7").advertised is None
    assert Data(advertise="node.example.com:9").advertised == ("node.example.com", 9)


PIN = "pin=" + "A" * 43


def test_every_mistake_of_the_control_plane_is_listed() -> None:
    text = f"""
        [node]
        state_dir = "state"
        peers = ["lightspeed://node2.example.com/?{PIN}&token={"A" * 43}"]
        [control]
        advertise = "a b"
        certificate = "cert.pem"
        key = "key.pem"
        h3 = 1
        [data]
        advertise = "x:0"
        [limits]
        max_sessions_per_invite = 0
        resume_s = -1
        [security]
        legacy = "on"
        rekey_s = 0
    """
    assert problems(text) == [
        "'state_dir' must be an absolute path: 'state' @ config.node.state_dir",
        "a peer's line has no token: take `&token=...` out of it @ config.node.peers",
        "want HOST or HOST:PORT such as node.example.com:4433,"
        " got 'a b' @ config.control.advertise",
        "'certificate' must be an absolute path: 'cert.pem' @ config.control.certificate",
        "'key' must be an absolute path: 'key.pem' @ config.control.key",
        "want bool, got 1 @ config.control.h3",
        "want HOST or HOST:PORT such as node.example.com:4434, got 'x:0' @ config.data.advertise",
        "'max_sessions_per_invite' must be >= 1: 0 @ config.limits.max_sessions_per_invite",
        "'resume_s' must be >= 0.0: -1.0 @ config.limits.resume_s",
        "'legacy' must be 'off' or 'registered': 'on' @ config.security.legacy",
        "'rekey_s' must be >= 1.0: 0.0 @ config.security.rekey_s",
    ]


def test_a_certificate_needs_its_key_and_the_other_way_round() -> None:
    for given, missing in (("certificate", "key"), ("key", "certificate")):
        assert problems(f"[control]\n{given} = '/x.pem'\n") == [
            f"'{given}' is set and '{missing}' is not: set both or neither @ config.control"
        ]


def test_peers_are_invite_lines_without_a_token() -> None:
    line = f"lightspeed://node2.example.com:4433/?{PIN}&name=node2"
    config = parse(f"[node]\npeers = ['{line}']\n", ProxyConfig, name="x")
    assert config.node.peers == (line,)
    (problem,) = problems("[node]\npeers = ['node2.example.com']\n")
    assert "an invite begins with lightspeed://" in problem
