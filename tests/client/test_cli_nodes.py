from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from lightspeed_client.cli import cli
from lightspeed_client.paths import config_file, nodes_file, state_dir
from lightspeed_client.resume import take_slot
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.invite import Invite

from .commands import call, use_home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="XDG directories are Linux")

TOKEN = bytes(range(32))
INVITE = Invite("127.0.0.1", 9, bytes(32), TOKEN, "home")
SECRET = str(INVITE).partition("token=")[2].partition("&")[0]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_home(tmp_path, monkeypatch)


def test_an_invite_is_added_listed_and_removed_and_its_token_never_shown() -> None:
    shown = ""
    for args, says in (
        (("nodes",), "no nodes yet"),
        (("add", str(INVITE)), "the node home (127.0.0.1:9) is added"),
        (("add", str(INVITE)), "nothing changed"),
        (("nodes",), "home: 127.0.0.1:9"),
        (("nodes", "--json"), '"token": true'),
        (("remove", "home"), "is removed"),
        (("nodes", "--json"), "[]"),
    ):
        result = call(*args)
        assert result.exit_code == 0, result.output
        assert says in result.output
        shown += result.output
    assert SECRET not in shown


def test_what_chat_programs_do_to_a_line_is_undone_and_stdin_keeps_it_out_of_the_history() -> None:
    line = str(INVITE)
    spoiled = f"  \u201c{line[:40]}\n   {line[40:90]}\r\n{line[90:]}\u201d \n"
    result = CliRunner().invoke(cli, ["add", "-"], input=spoiled)
    assert result.exit_code == 0, result.output
    assert call("add", f"'{line}'").output.startswith("the node home (127.0.0.1:9) is in your list")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("https://example.com", "begins with lightspeed://"),
        (str(INVITE)[:-20], "cut"),
        (str(INVITE).replace("pin=", "pim="), "no pin"),
        (str(INVITE).partition("&")[0], "put it in quotes"),
        ("", "begins with"),
    ],
)
def test_a_line_that_is_no_invite_is_exit_2_with_the_remedy(line: str, says: str) -> None:
    result = call("add", line)
    assert result.exit_code == 2, result.output
    assert says.lower() in result.output.lower()
    assert SECRET not in result.output
    assert not nodes_file().exists()


def test_a_line_without_a_token_wants_to_be_named_on_purpose() -> None:
    open_line = str(Invite("127.0.0.1", 9, bytes(32)))
    assert call("add", open_line).exit_code == 2
    assert call("add", open_line, "--as", "lan").exit_code == 0
    assert "lan: 127.0.0.1:9, without a token" in call("nodes").output
    assert call("add", open_line, "--as", "a\tb").exit_code == 2


def test_a_node_in_the_settings_is_pointed_out() -> None:
    assert call("config", "set", "node.address", "192.0.2.1").exit_code == 0
    assert "which is used unless --node is given" in call("add", str(INVITE)).output
    other = Invite("127.0.0.1", 9, bytes(32), bytes(32), "guest")
    assert "same node as home" in call("add", str(other)).output


def test_an_unknown_name_is_exit_2_with_what_was_meant() -> None:
    call("add", str(INVITE))
    result = call("remove", "hom")
    assert result.exit_code == 2
    assert "did you mean home" in result.output


def test_a_removed_node_leaves_no_session_behind() -> None:
    call("add", str(INVITE))
    slot = take_slot(state_dir(), "home", bytes(32))
    assert slot is not None
    slot.path.write_text("{}")
    slot.close()
    call("remove", "home")
    assert not slot.path.exists()


def test_a_check_of_a_node_that_is_not_there_is_exit_1_and_says_why() -> None:
    call("add", str(INVITE))
    nowhere = "x" * 70  # no name for DNS, so nobody waits for it
    nodes_file().write_text(nodes_file().read_text().replace("127.0.0.1", nowhere))
    result = call("nodes", "--check", "--json")
    assert result.exit_code == 1
    (record,) = json.loads(result.stdout)
    assert (record["name"], record["usable"]) == ("home", False)
    assert record["problem"]
    assert SECRET not in result.output
    call("remove", "home")
    assert call("nodes", "--check").exit_code == 1


def test_a_book_that_others_can_read_is_said() -> None:
    call("add", str(INVITE))
    nodes_file().chmod(0o644)
    result = call("nodes")
    assert "chmod 600" in result.stderr
    assert "home" in result.stdout


def test_a_damaged_book_stops_every_command_that_needs_it() -> None:
    config_file().parent.mkdir(parents=True)
    nodes_file().write_text("[[node]]\n")
    for args in ("nodes", "redirect --server 192.0.2.5:1", "remove x", "probe"):
        assert isinstance(call(*args.split()).exception, ConfigError), args
    result = call("add", str(INVITE))
    assert isinstance(result.exception, ConfigError)
