from __future__ import annotations

from pathlib import Path

import click
import pytest
from lightspeed_client.cli_options import (
    FEC,
    HostPort,
    Number,
    Percent,
    pick_server,
    pick_way,
    run_checks,
)
from lightspeed_client.modes.checks import Check, failed, passed
from lightspeed_client.nodes import add
from lightspeed_client.paths import nodes_file
from lightspeed_protocol.invite import Invite

from .commands import use_home

CONTEXT = click.Context(click.Command("x"))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_home(tmp_path, monkeypatch)


def save(name: str, number: int = 1) -> None:
    invite = Invite("192.0.2.1", 4433, bytes((number,)) * 32, bytes(32), name)
    add(nodes_file(), invite)


def test_addresses_convert_and_fail_as_usage() -> None:
    assert HostPort().convert("192.0.2.5:7", None, None) == ("192.0.2.5", 7)
    assert HostPort(4434).convert("192.0.2.5", None, None) == ("192.0.2.5", 4434)
    assert HostPort().convert(("192.0.2.5", 7), None, None) == ("192.0.2.5", 7)
    with pytest.raises(click.BadParameter, match="port is missing"):
        HostPort().convert("192.0.2.5", None, None)


def test_fec_stays_as_written() -> None:
    assert FEC.convert("xor:4", None, None) == "xor:4"
    with pytest.raises(click.BadParameter, match="want off"):
        FEC.convert("most", None, None)


def test_the_command_line_wins_over_the_settings_and_those_over_the_node_book() -> None:
    save("home")
    assert pick_way(CONTEXT, None, ("192.0.2.1", 1), "192.0.2.2") == ("192.0.2.1", 1)
    assert pick_way(CONTEXT, None, None, "192.0.2.2") == ("192.0.2.2", 4434)
    for configured in ("192.0.2.2", ""):
        way = pick_way(CONTEXT, "home", None, configured)
        assert isinstance(way, list)
        assert [node.name for node in way] == ["home"]
    assert pick_server(CONTEXT, ("192.0.2.1", 1), "192.0.2.2:5") == ("192.0.2.1", 1)
    assert pick_server(CONTEXT, None, "192.0.2.2:5") == ("192.0.2.2", 5)


def test_without_a_word_it_is_the_node_book() -> None:
    save("home")
    save("work", 2)
    way = pick_way(CONTEXT, None, None, "")
    assert isinstance(way, list)
    assert [node.name for node in way] == ["home", "work"]


def test_without_any_the_remedy_is_named() -> None:
    with pytest.raises(click.UsageError, match=r"lightspeed add INVITE.*config set node\.address"):
        pick_way(CONTEXT, None, None, "")
    with pytest.raises(click.UsageError, match=r"config set redirect\.server"):
        pick_server(CONTEXT, None, "")


def test_a_node_that_is_not_in_the_book_is_named_with_what_was_meant() -> None:
    save("home")
    with pytest.raises(click.UsageError, match="did you mean home"):
        pick_way(CONTEXT, "hom", None, "")
    with pytest.raises(click.UsageError, match="not both"):
        pick_way(CONTEXT, "home", ("192.0.2.1", 1), "")


def test_only_an_invited_node_carries_to_ipv6_servers() -> None:
    six = ("2001:db8::5", 1)
    save("home")
    assert pick_server(CONTEXT, six, "", pick_way(CONTEXT, None, None, "")) == six
    with pytest.raises(click.UsageError, match="IPv4 servers only"):
        pick_server(CONTEXT, six, "", ("192.0.2.1", 4434))


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("check", "status"), [(passed("a", "b"), 0), (failed("a", "b"), 1)])
def test_checks_decide_the_exit_status(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    check: Check,
    status: int,
    as_json: bool,
) -> None:
    monkeypatch.setattr("lightspeed_client.cli_options.set_up_logs", lambda **_: None)

    async def checks(tell: object) -> list[Check]:
        assert callable(tell)
        tell(check)
        return [check]

    with pytest.raises(SystemExit) as caught:
        run_checks(checks, as_json=as_json)
    assert caught.value.code == status
    assert ("{" in capsys.readouterr().out) == as_json


@pytest.mark.parametrize("text", ["nan", "NaN%"])
def test_nan_is_no_number(text: str) -> None:
    with pytest.raises(click.BadParameter, match="nan"):
        Percent(0, 50).convert(text, None, None)
    assert Percent(0, 50).convert("1%", None, None) == 1.0
    assert Number(0, 50).convert("1", None, None) == 1.0
