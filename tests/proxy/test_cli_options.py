from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path

import click
import pytest
from lightspeed_proxy.cli_options import (
    Cidr,
    Duration,
    absolute,
    address,
    leave,
    pick_path,
    read_or_exit,
)
from lightspeed_proxy.config import ProxyConfig, Source

CONTEXT = click.Context(click.Command("x"))
OPTION = click.Option(["--x"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("45m", 2700), ("90s", 90)]
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5h", "1d12h", "36501d", "9 d"])
def test_what_is_no_duration_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.BadParameter, match="want 30d, 12h, 45m or 90s"):
        Duration().convert(text, None, None)


def test_networks_are_read() -> None:
    assert Cidr().convert("198.51.100.0/24", None, None) == ip_network("198.51.100.0/24")
    assert Cidr().convert("2001:db8::1", None, None) == ip_network("2001:db8::1/128")
    for text in ("", "example.com", "198.51.100.1/24"):
        with pytest.raises(click.BadParameter, match=r"want a network such as 198\.51\.100\.0/24"):
            Cidr().convert(text, None, None)


def test_addresses_stay_as_written() -> None:
    assert address(CONTEXT, OPTION, None) is None
    assert address(CONTEXT, OPTION, "[::1]:4433") == "[::1]:4433"
    with pytest.raises(click.BadParameter, match="want an IP address and a port"):
        address(CONTEXT, OPTION, "localhost:1")


def test_a_directory_is_seen_from_where_the_command_was_typed() -> None:
    assert absolute(CONTEXT, OPTION, None) is None
    assert absolute(CONTEXT, OPTION, "state") == str(Path.cwd() / "state")
    assert absolute(CONTEXT, OPTION, os.sep + "state") == os.path.abspath(os.sep + "state")


def test_the_usual_file_is_read_if_it_is_there(tmp_path: Path) -> None:
    usual = tmp_path / "proxy.toml"
    assert pick_path(None, usual) is None
    assert pick_path(None, usual / "below") is None
    usual.write_text("")
    assert pick_path(None, usual) == usual
    assert pick_path(None, usual / "below") is None
    assert pick_path(tmp_path / "other", usual) == tmp_path / "other"


def test_a_mistake_in_the_settings_ends_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_or_exit(Source()) == ProxyConfig()
    with pytest.raises(SystemExit) as info:
        read_or_exit(Source(path=tmp_path / "missing.toml"))
    assert info.value.code == 78
    assert "no such file" in capsys.readouterr().err


def test_leaving_says_why_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        leave("because", 1)
    assert info.value.code == 1
    assert capsys.readouterr() == ("", "because\n")
