"""The line a player pastes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.invite import Invite

PIN, TOKEN = bytes(range(32)), bytes(range(200, 232))
INVITE = Invite("node.example.com", 4433, PIN, TOKEN, "home")
LINE = (
    "lightspeed://node.example.com:4433/"
    "?pin=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    "&token=yMnKy8zNzs_Q0dLT1NXW19jZ2tvc3d7f4OHi4-Tl5uc&name=home"
)

hosts = st.ip_addresses().map(str) | st.from_regex(
    r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z][a-z0-9]{0,10}){1,3}", fullmatch=True
)
names = st.text(max_size=64).filter(str.isprintable)


def test_an_invite_is_this_line() -> None:
    assert str(INVITE) == LINE
    assert Invite.parse(LINE) == INVITE


@given(
    st.builds(
        Invite,
        hosts,
        st.integers(1, 65535),
        st.binary(min_size=32, max_size=32),
        st.none() | st.binary(min_size=32, max_size=32),
        names,
    )
)
def test_what_is_written_is_read(invite: Invite) -> None:
    assert Invite.parse(str(invite)) == invite


@given(st.text(max_size=120) | st.text(max_size=60).map(lambda text: f"lightspeed://{text}"))
def test_arbitrary_text_raises_only_a_sentence_with_the_remedy(text: str) -> None:
    try:
        Invite.parse(text)
    except ValueError as error:
        assert "; copy the whole line again" in str(error)
        assert "\n" not in str(error)


@pytest.mark.parametrize("at", range(len(LINE)))
def test_a_line_cut_anywhere_but_in_its_name_is_no_other_invite(at: int) -> None:
    """After the pin's last character it is the same node without a token, and says so itself."""
    try:
        found = Invite.parse(LINE[:at])
    except ValueError:
        return
    assert (found.host, found.port, found.pin) == (INVITE.host, INVITE.port, INVITE.pin)
    assert found.token == (TOKEN if at > LINE.index("&name") - 1 else None)


@pytest.mark.parametrize(
    "pasted",
    [
        f"  {LINE}\n",
        f'"{LINE}"',
        f"<{LINE}>",
        f"`{LINE}`",
        f"**{LINE}**",
        f"\u201c{LINE}\u201d",
        f"\u200b{LINE}\ufeff",
        f"> {LINE}",
        f"({LINE}),",
        LINE.replace("&", "&amp;"),
        LINE.replace("lightspeed", "Lightspeed"),
        LINE.replace("node.example", "NODE.Example"),
        LINE.replace("?pin", "?colour=red&pin"),
        LINE.replace(":4433/", ""),
        LINE.replace(":4433/", ":/"),
        LINE.replace("&token", "%3D&token"),
        LINE + "#top",
        *(
            f"{LINE[:at]}{wrap}{LINE[at:]}"
            for at in (30, 70, 140)
            for wrap in ("\n", "\r\n  ", "\n> ")
        ),
    ],
)
def test_what_programs_do_to_a_line_is_undone(pasted: str) -> None:
    assert Invite.parse(pasted) == INVITE


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        ("", "begins with lightspeed://"),
        ("https://node.example.com/", "begins with lightspeed://"),
        (f"here you are: {LINE}", "other text before, after or inside"),
        (f"{LINE} have fun", "other text before, after or inside"),
        (f"{LINE[:60]} {LINE[60:]}", "other text before, after or inside"),
        (f"see{LINE}", "other text before, after or inside"),
        ("lightspeed://", "it has no pin"),
        ("lightspeed://node.example.com", "it has no pin"),
        ("lightspeed://me@node.example.com/?pin=x", "address cannot be read"),
        ("lightspeed://node.example.com/path?pin=x", "address cannot be read"),
        (LINE.replace("node.example.com", ""), "host '' is no name or address"),
        (LINE.replace("node.", "node.."), "is no name or address"),
        (LINE.replace("node", "-node"), "is no name or address"),
        (LINE.replace("node.example.com", "n" * 64 + ".com"), "is no name or address"),
        (LINE.replace("node.example.com", "192.0.2.256"), "'192.0.2.256' is no name or address"),
        (LINE.replace("node.example.com", "[2001:db8::g]"), "is no name or address"),
        (LINE.replace("node.example.com", "[fe80::1%eth0]"), "is no name or address"),
        (LINE.replace("4433", "https"), "port 'https' is no number"),
        (LINE.replace("4433", "70000"), "port is 1 to 65535, got 70000"),
        (LINE.replace("4433", "0"), "port is 1 to 65535, got 0"),
        (LINE.replace("pin=AA", "pin="), "pin is cut: 41 of 43 characters"),
        (LINE.replace("pin=", "pin=A"), "pin is too long: 44 of 43 characters"),
        (LINE[: LINE.index("&name") - 9], "token is cut: 34 of 43 characters"),
        (LINE.replace("token=yM", "token=y+"), "token is damaged"),
        (LINE.replace("5uc&", "5ud&"), "token is damaged"),
        (LINE + "&token=x", "two tokens"),
        (LINE.replace("home", "h%FF"), "'name' is damaged"),
        (LINE.replace("home", "h%0Aome"), "name is up to 64 printable characters"),
        (LINE + "e" * 64, "name is up to 64 printable characters"),
        (LINE + "&x=" + "y" * 4096, "far too long"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(pasted: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"; copy the whole line again") as caught:
        Invite.parse(pasted)
    assert words in str(caught.value)
    assert "yMnKy8" not in str(caught.value)


def test_no_log_line_can_show_the_token() -> None:
    assert "token" not in repr(INVITE)
    assert repr(TOKEN)[2:20] not in repr(INVITE)


def test_a_line_without_a_token_only_names_a_node() -> None:
    peer = Invite("2001:db8::7", 4433, PIN)
    assert str(peer).startswith("lightspeed://[2001:db8::7]:4433/?pin=")
    assert "token" not in str(peer)
    assert Invite.parse(str(peer)) == peer


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": "a b"}, "host 'a b' is no name or address"),
        ({"port": 0}, "port is 1 to 65535, got 0"),
        ({"pin": b"x"}, "pin is 32 bytes, got 1"),
        ({"token": b""}, "token is 32 bytes, got 0"),
        ({"name": "a\nb"}, "name is up to 64 printable characters"),
    ],
)
def test_an_impossible_invite_cannot_be_made(fields: dict[str, object], words: str) -> None:
    good = {"host": "node.example.com", "port": 4433, "pin": PIN, "token": TOKEN, "name": "home"}
    with pytest.raises(ValueError, match=words):
        Invite(**(good | fields))  # type: ignore[arg-type]
