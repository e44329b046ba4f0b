from __future__ import annotations

import contextlib
import os
import sys
from ipaddress import ip_network
from pathlib import Path

import attrs
import pytest
from attrs.validators import ge
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.config import (
    LARGEST_FILE_BYTES,
    Network,
    differences,
    load,
    parse,
    read_text,
    render,
    setting,
)


@attrs.frozen(kw_only=True)
class Limits:
    packets: int = setting(1000, "How many.", ge(1))
    bytes: int = setting(10, "How large.", ge(1))
    ratio: float = setting(1.5, 'A ratio, also called "quotient".')
    nets: tuple[Network, ...] = setting((ip_network("::1/128"),), "Which networks.")


@attrs.frozen(kw_only=True)
class Node:
    name: str = setting('a "b" \\ ü', "Its name.")
    on: bool = setting(False, "Whether.")
    ports: tuple[int, ...] = setting((1, 2), "Which ports.")


@attrs.frozen(kw_only=True)
class Settings:
    node: Node = attrs.field(factory=Node)
    limits: Limits = attrs.field(factory=Limits)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as info:
        parse(text, Settings, name="file.toml")
    return info.value.problems


def test_every_mistake_is_reported_with_its_place() -> None:
    text = """
        surplus = 1
        [node]
        name = 5
        on = 1
        ports = "80"
        [limits]
        packets = 0
        bytes = -3
        ration = 2.0
        nets = ["10.0.0.0/8", "10.0.0.1/8", 7, "host"]
    """
    assert problems(text) == [
        "want str, got 5 @ config.node.name",
        "want bool, got 1 @ config.node.on",
        "want a list, got '80' @ config.node.ports",
        "'packets' must be >= 1: 0 @ config.limits.packets",
        "'bytes' must be >= 1: -3 @ config.limits.bytes",
        "want a network such as 203.0.113.0/24: 10.0.0.1/8 has host bits set"
        " @ config.limits.nets[1]",
        "want str, got 7 @ config.limits.nets[2]",
        "want a network such as 203.0.113.0/24: 'host' does not appear to be an IPv4 or IPv6"
        " network @ config.limits.nets[3]",
        "unknown key 'ration', did you mean 'ratio'? @ config.limits",
        "unknown key 'surplus' @ config",
    ]


def test_a_section_that_is_no_table_is_a_mistake() -> None:
    assert problems("limits = 4") == ["want a table, got 4 @ config.limits"]


@pytest.mark.parametrize("value", ["true", "4434.9", '"4434"', "[1]", "{}", "1979-05-27"])
def test_an_int_is_never_made_from_something_else(value: str) -> None:
    (problem,) = problems(f"[limits]\npackets = {value}\n")
    assert problem.startswith("want int, got ")
    assert problem.endswith("@ config.limits.packets")


def test_a_whole_number_will_do_for_a_float() -> None:
    assert parse("[limits]\nratio = 2\n", Settings, name="x").limits.ratio == 2.0


def test_a_doubled_key_and_a_broken_line_name_the_line() -> None:
    assert "line 3" in problems("[limits]\npackets = 1\npackets = 2\n")[0]
    assert "line 1" in problems("a = \n")[0]


def test_the_default_file_reads_back_as_the_defaults() -> None:
    text = render(Settings(), head="Top.")
    assert parse(text, Settings, name="x") == Settings()
    assert text.splitlines()[:4] == ["# Top.", "", "[node]", "# Its name."]


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.lists(st.integers(0, 65535)))
def test_any_text_survives_being_written_and_read(name: str, ports: list[int]) -> None:
    settings = Settings(node=Node(name=name, ports=tuple(ports)))
    assert parse(render(settings, head="x"), Settings, name="x") == settings


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parse(text, Settings, name="x")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(ConfigError) as info:
            load(path, Settings)
        assert str(path) in str(info.value)
        return info.value.problems[0]

    assert "no such file" in refusal(tmp_path / "missing.toml")
    assert "is a directory" in refusal(tmp_path)
    file = tmp_path / "file.toml"
    file.write_bytes(b'[node]\nname = "\xff"\n')
    assert refusal(file) == "line 2: not UTF-8 (byte 0xff); save it as UTF-8"
    file.write_bytes(b"#" * (LARGEST_FILE_BYTES + 1))
    assert "more than" in refusal(file)
    if sys.platform != "win32" and os.geteuid() != 0:
        file.chmod(0)
        assert "may not be read" in refusal(file)


def test_differences_name_the_key_and_both_values() -> None:
    old = Settings()
    new = Settings(limits=Limits(packets=5), node=Node(on=True))
    assert differences(old, new) == [
        ("node.on", False, True),
        ("limits.packets", 1000, 5),
    ]
    assert differences(old, Settings()) == []


if sys.platform != "win32":

    def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
        pipe = tmp_path / "proxy.toml"
        os.mkfifo(pipe)
        with pytest.raises(ConfigError, match="not a regular file"):
            read_text(pipe)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_bytes(b"\xef\xbb\xbf# hello\n")
    assert read_text(file) == "# hello\n"
