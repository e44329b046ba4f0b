from __future__ import annotations

import hashlib
import json
import time
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from lightspeed_protocol.invite import Invite as Line
from lightspeed_proxy.cli import cli
from lightspeed_proxy.cli_invites import outward_address, pick_endpoint, reach_of, table
from lightspeed_proxy.config import Source
from lightspeed_proxy.credentials import FILE, Invites, InviteStore
from lightspeed_proxy.identity import node_pin


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def call(state: Path, *args: str) -> Result:
    file = state.parent / "proxy.toml"
    if not file.exists():
        file.write_text("")  # so that a file of this machine is not read
    return CliRunner().invoke(cli, [*args, "--config", str(file), "--state", str(state)])


def invite(state: Path, name: str, *args: str) -> Line:
    result = call(state, "invite", name, "--host", "node.example.com", *args)
    assert result.exit_code == 0, result.output
    return Line.parse(result.stdout)


def kept(state: Path) -> Invites:
    return InviteStore(state / FILE).load()


def test_an_invite_is_one_line_that_the_node_knows(state: Path) -> None:
    result = call(state, "invite", "anna", "--host", "node.example.com:5")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1, "only the line, so that it can be piped"
    line = Line.parse(result.stdout)
    assert (line.host, line.port, line.name) == ("node.example.com", 5, "anna")
    assert line.pin == node_pin(Source(state=str(state)).read(), {})
    assert line.token is not None
    found = kept(state).find(line.token)
    assert found is not None
    assert found.name == "anna"


def test_the_token_is_shown_once_and_kept_nowhere(state: Path) -> None:
    result = call(state, "invite", "anna", "--host", "node.example.com")
    token = Line.parse(result.stdout).token
    assert token is not None
    shown = result.stdout.split("token=")[1].split("&")[0]
    assert shown not in result.stderr
    files = "".join(path.read_text() for path in state.iterdir())
    listed = call(state, "invites", "--json").output + call(state, "invites").output
    for text in (shown, token.hex()):
        assert text not in files
        assert text not in listed
    assert hashlib.sha256(token).hexdigest() in files
    assert hashlib.sha256(token).hexdigest() not in listed


def test_limits_are_kept_and_listed(state: Path) -> None:
    before = int(time.time())
    invite(
        state, "anna", "--expires", "30d", "--max-pps", "200", "--max-bps", "3000",
        "--max-sessions", "2", "--destinations", "198.51.100.0/24", "--destinations", "2001:db8::1",
    )  # fmt: skip
    (found,) = kept(state)
    assert found.expires is not None
    assert found.expires - found.created == 30 * 86_400
    assert found.created >= before
    assert (found.max_pps, found.max_bps, found.max_sessions) == (200, 3000, 2)
    assert found.destinations == (ip_network("198.51.100.0/24"), ip_network("2001:db8::1/128"))
    listed = call(state, "invites").stdout
    wanted = "200 packets/s, 3000 bytes/s, 2 devices, only 198.51.100.0/24 2001:db8::1/128"
    assert wanted in listed
    (facts,) = json.loads(call(state, "invites", "--json").stdout)
    assert facts["state"] == "good"
    assert facts["destinations"] == ["198.51.100.0/24", "2001:db8::1/128"]
    assert facts["max_sessions"] == 2


def test_json_holds_the_line_and_what_it_allows(state: Path) -> None:
    result = call(state, "invite", "anna", "--host", "[2001:db8::5]:7", "--max-pps", "9", "--json")
    fields: dict[str, Any] = json.loads(result.stdout)
    assert Line.parse(fields["invite"]).host == fields["host"] == "2001:db8::5"
    assert (fields["port"], fields["name"], fields["max_pps"]) == (7, "anna", 9)
    assert fields["expires"] is None
    assert "token_sha256" not in fields


def test_a_name_is_taken_while_its_invite_is_good(state: Path) -> None:
    first = invite(state, "anna")
    again = call(state, "invite", "anna", "--host", "node.example.com")
    assert again.exit_code == 1
    assert "choose another name, or end that one with" in again.stderr
    assert again.stdout == ""
    assert call(state, "revoke", "anna").exit_code == 0
    second = invite(state, "anna")
    assert first.token is not None
    assert second.token is not None
    assert kept(state).find(first.token) is None
    assert kept(state).find(second.token) is not None


def test_revoking_ends_an_invite_and_says_what_follows(state: Path) -> None:
    line = invite(state, "anna")
    result = call(state, "revoke", "anna")
    assert result.exit_code == 0
    assert "ends its sessions within a second" in result.stdout
    assert line.token is not None
    found = kept(state).find(line.token)
    assert found is not None
    assert kept(state).problem(found, time.time()) == "revoked"
    assert "revoked" in call(state, "invites").stdout


def test_an_unknown_name_is_1_and_names_the_near_ones(state: Path) -> None:
    invite(state, "annabel")
    result = call(state, "revoke", "anabel")
    assert result.exit_code == 1
    assert "did you mean 'annabel'?" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["invite"],
        ["invite", "a b", "--host", "node.example.com"],
        ["invite", "anna", "--host", "a b"],
        ["invite", "anna", "--host", "node.example.com:0"],
        ["invite", "anna", "--expires", "soon"],
        ["invite", "anna", "--max-pps", "0"],
        ["invite", "anna", "--max-sessions", "0"],
        ["invite", "anna", "--destinations", "example.com"],
        ["revoke"],
    ],
)
def test_a_mistake_on_the_command_line_is_2_and_makes_nothing(state: Path, args: list[str]) -> None:
    assert call(state, *args).exit_code == 2
    assert not (state / FILE).exists()


@pytest.mark.parametrize(
    "args", [["invite", "bob", "--host", "node.example.com"], ["invites"], ["revoke", "anna"]]
)
def test_a_broken_list_is_refused_with_its_line_and_stays(state: Path, args: list[str]) -> None:
    invite(state, "anna")
    path = state / FILE
    broken = path.read_text().replace('"name"', '"nam')
    path.write_text(broken)
    result = call(state, *args)
    assert result.exit_code == 78
    assert result.stdout == ""
    assert str(path) in result.stderr
    assert "line 2: not JSON" in result.stderr
    assert "restore the file" in result.stderr
    assert path.read_text() == broken


def test_a_broken_key_makes_no_invite(state: Path) -> None:
    state.mkdir()
    (state / "identity.pem").write_text("broken")
    result = call(state, "invite", "anna", "--host", "node.example.com")
    assert result.exit_code == 78
    assert "restore it from a backup" in result.stderr
    assert not (state / FILE).exists()


def test_a_mistake_in_the_settings_is_78(state: Path) -> None:
    (state.parent / "proxy.toml").write_text("[bogus]\n")
    for args in (["invite", "anna"], ["invites"]):
        assert call(state, *args).exit_code == 78


def test_revoking_needs_no_settings_where_the_directory_is_given(state: Path) -> None:
    invite(state, "anna")
    (state.parent / "proxy.toml").write_text("[bogus]\n")
    result = call(state, "revoke", "anna")
    assert (result.exit_code, result.stdout[:12]) == (0, "revoked anna")


def test_no_invites_is_said_and_is_an_empty_list_for_programs(state: Path) -> None:
    result = call(state, "invites")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "lightspeed-proxy invite NAME" in result.stderr
    assert json.loads(call(state, "invites", "--json").stdout) == []


def test_an_invite_names_what_was_asked_then_advertised_then_bound(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"

    def endpoint(text: str, given: str | None = None) -> tuple[tuple[str, int], list[str]]:
        file.write_text(text)
        return pick_endpoint(Source(path=file).read(), given, lambda: "198.51.100.9")

    advertised = '[control]\nbind = ":7"\nadvertise = "node.example.com"\n'
    assert endpoint(advertised, "other.example.com:8") == (("other.example.com", 8), [])
    assert endpoint(advertised, "other.example.com") == (("other.example.com", 7), [])
    assert endpoint(advertised) == (("node.example.com", 7), [])
    bound, notes = endpoint('[control]\nbind = "127.0.0.1:7"\n')
    assert bound == ("127.0.0.1", 7)
    assert notes == ["127.0.0.1 can be reached from this machine only"]
    for text in ("", '[control]\nbind = "0.0.0.0:4433"\n', '[control]\nbind = ":0"\n'):
        guessed, notes = endpoint(text)
        assert guessed == ("198.51.100.9", 4433)
        assert "is a guess" in notes[0]


def test_a_machine_without_a_network_must_be_told_its_address() -> None:
    with pytest.raises(ValueError, match="give --host"):
        pick_endpoint(Source().read(), None, lambda: None)


def test_the_outward_address_is_an_address_of_this_machine_or_none() -> None:
    found = outward_address()
    assert found is None or not ip_address(found).is_unspecified


@pytest.mark.parametrize(
    ("host", "reach"),
    [
        ("127.0.0.1", "from this machine only"),
        ("::1", "from this machine only"),
        ("localhost", "from this machine only"),
        ("10.1.2.3", "from its own network only"),
        ("fd00::1", "from its own network only"),
        ("169.254.1.1", "from its own network only"),
        ("node.example.com", None),
        (".".join("8888"), None),
    ],
)
def test_where_an_address_can_be_reached_from_is_told(host: str, reach: str | None) -> None:
    assert reach_of(host) == reach


def test_columns_stand_below_each_other() -> None:
    assert table([("A", "B"), ("long", "x"), ("", "yy")]) == "A     B\nlong  x\n      yy"
