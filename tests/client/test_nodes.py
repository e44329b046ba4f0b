from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.nodes import (
    MOST_NAME,
    add,
    check_name,
    read_book,
    remove,
    unique,
    who_can_read,
)
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.invite import Invite

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")


def invite(name: str = "home", node: int = 1, token: int = 1, host: str = "192.0.2.1") -> Invite:
    return Invite(host, 4433, bytes((node,)) * 32, bytes((token,)) * 32, name)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "lightspeed" / "nodes.toml"


def names(book: Path) -> list[str]:
    return [node.name for node in read_book(book)]


def test_what_was_added_is_read_back_whole(book: Path) -> None:
    assert read_book(book) == []
    node, change = add(book, invite("spiel zuhause \u00e4\"'", host="2001:db8::1"))
    assert change == "added"
    assert read_book(book) == [node]
    assert (node.host, node.port, node.token) == ("2001:db8::1", 4433, b"\1" * 32)
    assert "AQEB" not in repr(node), "no secret in a log"


@posix
def test_only_its_owner_may_read_it(book: Path) -> None:
    book.parent.mkdir(mode=0o755)
    add(book, invite())
    assert book.stat().st_mode & 0o777 == 0o600
    assert book.parent.stat().st_mode & 0o777 == 0o700
    assert who_can_read(book) is None
    book.chmod(0o640)
    assert "chmod 600" in (who_can_read(book) or "")
    book.chmod(0o600)
    book.parent.chmod(0o770)
    assert "chmod 700" in (who_can_read(book) or "")
    assert who_can_read(book.parent / "none" / "nodes.toml") is None


def test_the_same_invite_again_changes_nothing(book: Path) -> None:
    add(book, invite())
    before = book.read_text()
    for alias in (None, "home"):
        assert add(book, invite(), alias)[1] == "known"
    assert book.read_text() == before


def test_a_new_token_for_the_same_node_replaces_the_old_one(book: Path) -> None:
    add(book, invite())
    node, change = add(book, invite(token=2, host="192.0.2.9"))
    assert (change, node.name, node.token, node.host) == (
        "replaced", "home", b"\2" * 32, "192.0.2.9",
    )  # fmt: skip
    assert read_book(book) == [node]


def test_another_node_or_another_invite_of_that_name_gets_a_name_of_its_own(book: Path) -> None:
    assert add(book, invite())[0].name == "home"
    assert add(book, invite(node=2))[0].name == "home-2"
    assert add(book, invite(node=3))[0].name == "home-3"
    assert add(book, invite("guest", token=7))[0].name == "guest", "a second invite to a node"
    node, change = add(book, invite(node=2, token=9))
    assert (node.name, change) == ("home-2", "replaced")
    assert names(book) == ["home", "home-2", "home-3", "guest"]


def test_an_alias_names_it_and_renames_it(book: Path) -> None:
    assert add(book, invite(), "mine")[0].name == "mine"
    node, change = add(book, invite(), "yours")
    assert (node.name, change) == ("yours", "replaced")
    assert names(book) == ["yours"]
    assert add(book, invite(node=2), "yours")[0].name == "yours-2"
    assert add(book, invite("", node=3, host="node.example.com"))[0].name == "node.example.com"


@pytest.mark.parametrize("alias", [" ", "a\nb", "-x", "x" * 65, " x"])
def test_an_impossible_name_is_refused_and_nothing_is_written(book: Path, alias: str) -> None:
    with pytest.raises(ValueError, match="name"):
        add(book, invite(), alias)
    assert not book.exists()


def test_what_is_removed_is_gone_and_the_rest_stays(book: Path) -> None:
    add(book, invite(token=255))
    add(book, invite(node=2))
    assert "_____" in book.read_text()
    assert remove(book, "home").name == "home"
    assert names(book) == ["home-2"]
    assert "_____" not in book.read_text()
    with pytest.raises(KeyError):
        remove(book, "home")


GOOD = 'name = "a"\nhost = "192.0.2.1"\nport = 4433\npin = "' + "A" * 43 + '"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("[[node]\n", "not TOML"),
        ("\0", "not TOML"),
        ("[[node]]\n" + GOOD.replace("A" * 43, "A" * 42), "pin is damaged"),
        ("[[node]]\n" + GOOD.replace("4433", "0"), "1 to 65535"),
        ("[[node]]\n" + GOOD.replace('"a"', '""'), "want a name"),
        ("[[node]]\n" + GOOD.replace('"192.0.2.1"', '""'), "want a host"),
        ("[[node]]\n" + GOOD.replace("192.0.2.1", r"\u001b[31m"), "want a host"),
        ("[[node]]\n" + GOOD + 'token = "secret-and-short"\n', "token is damaged"),
        ("[[node]]\n" + GOOD + 'tokn = "x"\n', "did you mean 'token'"),
        ("[[node]]\n" + GOOD + "[[node]]\n" + GOOD, "is there twice"),
        ('[[node]]\nname = "a"\n', "host"),
        ("node = 5\n", "want a list"),
    ],
)
def test_a_damaged_book_is_an_error_and_never_an_empty_one(
    book: Path, text: str, says: str
) -> None:
    book.parent.mkdir()
    book.write_text(text)
    with pytest.raises(ConfigError, match=r"nodes\.toml") as caught:
        read_book(book)
    assert says in str(caught.value)
    assert "secret-and-short" not in str(caught.value)
    with pytest.raises(ConfigError):
        add(book, invite())
    assert book.read_text() == text, "left for the player to mend"


@posix
@pytest.mark.parametrize("target", ["nodes.toml", "elsewhere.toml"])
def test_a_link_that_leads_nowhere_is_no_empty_book(book: Path, target: str) -> None:
    book.parent.mkdir()
    book.symlink_to(book.parent / target)
    for act in (lambda: read_book(book), lambda: add(book, invite())):
        with pytest.raises(ConfigError, match="link that leads nowhere"):
            act()
    assert book.is_symlink(), "left for the player to mend"
    assert not (book.parent / "elsewhere.toml").exists()


@posix
def test_a_link_to_a_good_book_is_read(book: Path) -> None:
    real = book.parent.parent / "real" / "nodes.toml"
    node, _ = add(real, invite())
    book.parent.mkdir()
    book.symlink_to(real)
    assert read_book(book) == [node]


def test_the_book_whose_last_node_was_removed_is_empty_and_no_damage(book: Path) -> None:
    add(book, invite())
    remove(book, "home")
    assert read_book(book) == []
    assert add(book, invite())[1] == "added"


def test_commands_at_the_same_time_lose_nothing(book: Path) -> None:
    def work(number: int) -> None:
        for turn in range(5):
            add(book, invite(f"n{number}-{turn}x", node=number * 10 + turn + 1))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(book)) == len(set(names(book))) == 20
    assert [path.name for path in book.parent.iterdir() if path.name.startswith(".")] == []


@given(st.text(min_size=1, max_size=64), st.integers(1, 5))
def test_a_unique_name_is_free_and_fits(wanted: str, times: int) -> None:
    taken: set[str] = set()
    for _ in range(times):
        name = unique(wanted, taken)
        assert name not in taken
        assert len(name) <= MOST_NAME
        taken.add(name)
    assert check_name("ok") == "ok"
