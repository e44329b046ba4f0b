from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
from ipaddress import ip_network
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.errors import ConfigError
from lightspeed_proxy.credentials import (
    FILE,
    HASH_BYTES,
    MOST,
    Invite,
    InviteError,
    Invites,
    InviteStore,
    hash_token,
)

NOW = 1_000_000
TOKEN = bytes(range(32))


def an_invite(name: str = "anna", token: bytes = TOKEN, **fields: object) -> Invite:
    values = {"name": name, "token_sha256": hash_token(token), "created": NOW, **fields}
    return Invite(**values)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> InviteStore:
    return InviteStore(tmp_path / "state" / FILE)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as info:
        Invites.parse(text, name="invites.json")
    return info.value.problems


names = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="&?#/"), min_size=1, max_size=64
)
some_invites = st.builds(
    Invite,
    name=names,
    token_sha256=st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES),
    created=st.integers(0, 1 << 32),
    expires=st.none() | st.integers(1, 1 << 32),
    revoked=st.none() | st.integers(0, 1 << 32),
    max_pps=st.none() | st.integers(1, 1000),
    max_bps=st.none() | st.integers(1, 1000),
    max_sessions=st.none() | st.integers(1, 100),
    destinations=st.just(())
    | st.just((ip_network("198.51.100.0/24"), ip_network("2001:db8::/32"))),
)


@given(
    st.lists(
        some_invites, max_size=5, unique_by=(lambda each: each.name, lambda each: each.token_sha256)
    )
)
def test_what_is_written_is_read_back_and_is_json(written: list[Invite]) -> None:
    text = Invites(tuple(written)).render()
    assert list(Invites.parse(text, name="x")) == written
    assert len(json.loads(text)["invites"]) == len(written)


@given(st.text())
def test_any_text_is_a_list_of_invites_or_a_mistake_with_a_remedy(text: str) -> None:
    with pytest.raises(ConfigError, match="restore the file"):
        Invites.parse(text, name="x")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_json_in_a_field_is_an_invite_or_a_mistake_with_its_line(value: object) -> None:
    good = json.loads(Invites((an_invite(),)).render())
    for key in good["invites"][0]:
        line = json.dumps({**good["invites"][0], key: value})
        text = f'{{"version": 1, "invites": [\n{line}\n]}}\n'
        try:
            Invites.parse(text, name="x")
        except ConfigError as exc:
            assert exc.problems[0].startswith("line 2: ")


def test_only_the_hash_of_a_token_is_kept(store: InviteStore) -> None:
    made, token = store.add("anna", unix_now=NOW)
    text = store.path.read_text()
    assert len(token) == 32
    assert made.token_sha256 == hashlib.sha256(token).digest()
    assert made.token_sha256.hex() in text
    assert token.hex() not in text
    assert made.token_sha256.hex() not in repr(made)


def test_a_token_finds_its_invite_and_nothing_else_does() -> None:
    anna, bob = an_invite(), an_invite("bob", b"b" * 32)
    invites = Invites((anna, bob))
    assert invites.find(TOKEN) is anna
    assert invites.find(b"b" * 32) is bob
    for wrong in (b"", TOKEN[:-1], TOKEN + b"x", bytes(32), anna.token_sha256):
        assert invites.find(wrong) is None


def test_an_invite_is_good_until_it_expires_or_is_revoked() -> None:
    invite = an_invite(expires=NOW + 10)
    invites = Invites((invite,))
    assert invites.problem(invite, NOW) is None
    assert invites.problem(invite, NOW + 9.9) is None
    assert invites.problem(invite, NOW + 10) == "expired"
    assert invites.revoking("anna", NOW).problem(invite, NOW) == "revoked"
    assert (invites.usable(NOW), invites.usable(NOW + 10)) == (1, 0)


def test_a_revoked_invite_stays_ended_when_another_takes_its_name() -> None:
    old, new = an_invite(), an_invite(token=b"n" * 32)
    invites = Invites((old,)).revoking("anna", NOW).adding(new, NOW)
    assert [each.name for each in invites] == ["anna"]
    assert invites.problem(old, NOW) == "revoked"
    assert invites.problem(new, NOW) is None
    assert invites.find(TOKEN) is None


def test_a_name_is_taken_until_its_invite_has_ended() -> None:
    invites = Invites((an_invite(expires=NOW + 10),))
    with pytest.raises(InviteError, match="choose another name, or end that one with"):
        invites.adding(an_invite(token=b"n" * 32), NOW)
    assert len(invites.adding(an_invite(token=b"n" * 32), NOW + 10)) == 1


def test_revoking_twice_keeps_the_first_time() -> None:
    invites = Invites((an_invite(),)).revoking("anna", NOW + 1).revoking("anna", NOW + 2)
    assert [each.revoked for each in invites] == [NOW + 1]


def test_an_unknown_name_is_answered_with_the_near_ones() -> None:
    invites = Invites((an_invite("annabel"), an_invite("bob", b"b" * 32)))
    with pytest.raises(InviteError, match="no invite 'anabel', did you mean 'annabel'"):
        invites.revoking("anabel", NOW)
    with pytest.raises(InviteError, match="`lightspeed-proxy invites` lists all"):
        invites.revoking("zacharias", NOW)


def test_a_full_list_drops_ended_invites_and_then_takes_no_more() -> None:
    many = tuple(
        an_invite(f"n{i}", i.to_bytes(32, "big"), expires=NOW + i + 1) for i in range(MOST)
    )
    new = an_invite("new")
    with pytest.raises(InviteError, match="revoke some"):
        Invites(many).adding(new, NOW)
    kept = [each.name for each in Invites(many).adding(new, NOW + 2)]
    assert kept[:1] == ["n2"]
    assert kept[-1:] == ["new"]


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "a b", "a\nb", "a&b", "a?b", "a#b", "a/b", "a\u00a0b", "a\u202eb"]
)
def test_a_name_that_would_break_a_line_is_refused(store: InviteStore, name: str) -> None:
    with pytest.raises(ValueError, match="want a name of 1 to 64"):
        store.add(name, unix_now=NOW)
    assert not store.path.exists()


def test_every_mistake_of_the_file_is_listed_with_its_line() -> None:
    good = attrs.evolve(an_invite("good"), token_sha256=bytes(32))
    head, line, foot = Invites((good,)).render().splitlines()
    row = json.loads(line)
    rows = [
        line,
        json.dumps({**row, "name": "a b"}),
        json.dumps({**row, "name": "c", "max_pps": 0, "token_sha256": "11" * 32}),
        json.dumps({**row, "name": "d", "expires": True, "token_sha256": "22" * 32}),
        json.dumps({**row, "name": "e", "token_sha256": "33"}),
        json.dumps({**row, "name": "f", "destinations": ["nowhere"]}),
        json.dumps({**row, "name": "g", "admin": True}),
        json.dumps({key: value for key, value in row.items() if key != "expires"}),
        json.dumps({**row, "name": "h"}),
        json.dumps({**row, "token_sha256": "44" * 32}),
        line[:20],
        "[]",
        "[" * 100_000,
    ]
    found = problems("\n".join([head, *(f"{each}," for each in rows), foot]))
    assert [each.split(":")[0] for each in found[:-1]] == [f"line {n}" for n in range(3, 15)]
    for each, part in zip(
        found,
        [
            "want a name of 1 to 64",
            "'max_pps' must be >= 1: 0",
            "want int, got True",
            "'token_sha256' must be 32 bytes, got 1",
            "want a network such as",
            "keys missing or unknown: admin",
            "keys missing or unknown: expires",
            "the name or the token of 'h' was there before",
            "the name or the token of 'good' was there before",
            "not JSON (Unterminated string",
            "want dict, got []",
            "not an invite",
            "restore the file, or move it away",
        ],
        strict=True,
    ):
        assert part in each


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"version": 1, "invites": []}',
        '{"version": 1, "invites": [\n',
        '{"version": 2, "invites": [\n]}\n',
    ],
)
def test_what_another_program_wrote_is_refused_and_never_empty(text: str) -> None:
    (problem,) = problems(text)
    assert "is not as lightspeed-proxy writes it" in problem


def test_no_file_is_no_invites(store: InviteStore) -> None:
    assert list(store.load()) == []
    assert not store.changed()


def test_a_command_refuses_a_broken_file_and_leaves_it_as_it_is(store: InviteStore) -> None:
    store.add("anna", unix_now=NOW)
    broken = store.path.read_text()[:-5]
    store.path.write_text(broken)
    with pytest.raises(ConfigError):
        store.add("bob", unix_now=NOW)
    with pytest.raises(ConfigError):
        store.revoke("anna", unix_now=NOW)
    assert store.path.read_text() == broken


def test_a_running_node_hears_of_every_change_once(store: InviteStore) -> None:
    node = InviteStore(store.path)
    assert len(node.load()) == 0
    store.add("anna", unix_now=NOW)
    assert node.changed()
    assert len(node.load()) == 1
    assert not node.changed()
    store.revoke("anna", unix_now=NOW)
    assert node.changed()
    assert node.load().usable(NOW) == 0
    store.path.write_text("broken")
    assert node.changed()
    with pytest.raises(ConfigError):
        node.load()
    assert not node.changed(), "a mistake is told once"


def test_a_file_that_is_gone_is_a_mistake_for_a_running_node(store: InviteStore) -> None:
    store.add("anna", unix_now=NOW)
    node = InviteStore(store.path)
    node.load()
    store.path.unlink()
    assert node.changed()
    with pytest.raises(ConfigError, match="no such file"):
        node.load()


def test_a_file_that_cannot_be_looked_at_is_not_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        InviteStore(tmp_path / ("x" * 1000)).load()


def _add(path: Path, name: str) -> None:
    InviteStore(path).add(name, unix_now=NOW)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such lock")
def test_commands_at_the_same_time_do_not_lose_each_other(store: InviteStore) -> None:
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_add, args=(store.path, f"n{i}")) for i in range(4)]
    for other in others:
        other.start()
    for i in range(20):
        store.add(f"m{i}", unix_now=NOW)
    for other in others:
        other.join(timeout=60)
        assert other.exitcode == 0
    assert len(store.load()) == 24


def test_limits_come_back_as_given(store: InviteStore) -> None:
    made, _ = store.add(
        "anna",
        unix_now=NOW + 0.5,
        expires=NOW + 9,
        max_pps=2,
        max_bps=3,
        max_sessions=4,
        destinations=(ip_network("198.51.100.0/24"),),
    )
    assert store.load().get("anna") == made
    assert made.created == NOW
    with pytest.raises(ValueError, match="'max_pps' must be >= 1"):
        store.add("bob", unix_now=NOW, max_pps=0)


def test_a_list_that_would_be_too_long_to_read_is_not_written(store: InviteStore) -> None:
    nets = tuple(ip_network(f"2001:db8::{i:x}") for i in range(1, 60_000))
    with pytest.raises(InviteError, match="fewer --destinations"):
        store.add("anna", unix_now=NOW, destinations=nets)
    assert not store.path.exists()
