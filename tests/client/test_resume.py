from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lightspeed_client.resume import SLOTS, Memory, ResumeFile, file_stem, forget_all, take_slot

SECRET = bytes(range(16))
PIN = bytes(32)


def slot(state: Path, node: str = "home", pin: bytes = PIN) -> ResumeFile:
    found = take_slot(state, node, pin)
    assert found is not None
    return found


async def test_a_restarted_client_finds_what_the_killed_one_kept(tmp_path: Path) -> None:
    killed = slot(tmp_path)
    assert await killed.load() is None
    await killed.save(SECRET)
    killed.close()  # as the system does for a killed process
    again = slot(tmp_path)
    assert await again.load() == SECRET
    await again.forget()
    assert await again.load() is None
    again.close()


async def test_two_running_clients_never_share_a_session(tmp_path: Path) -> None:
    one, two = slot(tmp_path), slot(tmp_path)
    await one.save(SECRET)
    assert await two.load() is None
    await two.save(SECRET[::-1])
    one.close()
    again = slot(tmp_path)
    assert await again.load() == SECRET, "and each its own after a restart"
    again.close()
    two.close()


async def test_each_node_has_its_own_and_no_secret_goes_to_another_key(tmp_path: Path) -> None:
    home, other = slot(tmp_path), slot(tmp_path, "other")
    await home.save(SECRET)
    assert await other.load() is None
    home.close()
    new_key = slot(tmp_path, pin=b"\1" * 32)
    assert await new_key.load() is None
    new_key.close()
    other.close()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pin": 1, "resume": 2}', '{"resume": "00"}', "\0"]
)
async def test_a_damaged_file_means_a_new_session(tmp_path: Path, text: str) -> None:
    found = slot(tmp_path)
    found.path.write_text(text)
    assert await found.load() is None
    found.close()


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    found = slot(tmp_path)
    await found.save(SECRET)
    if sys.platform != "win32":
        assert found.path.stat().st_mode & 0o777 == 0o600
        assert found.path.parent.stat().st_mode & 0o777 == 0o700
    found.close()


def test_slots_are_bounded_and_a_state_that_cannot_be_written_gives_none(tmp_path: Path) -> None:
    taken = [slot(tmp_path) for _ in range(SLOTS)]
    assert take_slot(tmp_path, "home", PIN) is None
    for each in taken:
        each.close()
    (tmp_path / "file").write_text("")
    assert take_slot(tmp_path / "file", "home", PIN) is None


async def test_a_removed_nodes_secrets_go_too(tmp_path: Path) -> None:
    home, other = slot(tmp_path), slot(tmp_path, "other")
    await home.save(SECRET)
    await other.save(SECRET)
    forget_all(tmp_path, "home")
    assert await home.load() is None
    assert await other.load() == SECRET
    home.close()
    other.close()


def test_any_name_makes_a_file_name_and_no_two_the_same() -> None:
    names = ["home", "../../etc", "home/", "Home", "h" * 64, "h" * 63 + "x", "spiel zuhause"]
    stems = {file_stem(name) for name in names}
    assert len(stems) == len(names)
    assert all(set(stem) <= set("abcdefghijklmnopqrstuvwxyzH0123456789_-") for stem in stems)


async def test_memory_forgets_with_its_session() -> None:
    memory = Memory()
    await memory.save(SECRET)
    assert await memory.load() == SECRET
    await memory.forget()
    assert await memory.load() is None
