"""What is put off is the real thing when it is needed, and leaves no trace before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lightspeed_protocol.runtime.imports import postponed

NAMES = ("big_one", "big_one.part", "plain_one")


@pytest.fixture(autouse=True)
def big_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two that nobody else has: a package with a part, and a single file."""
    package = tmp_path / "big_one"
    package.mkdir()
    (package / "__init__.py").write_text("class Trouble(Exception): pass\n")
    (package / "part.py").write_text("LENGTH = 7\n")
    (tmp_path / "plain_one.py").write_text("VALUE = 'real'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


def load(name: str) -> ModuleType:
    """As an `import` statement does it, without a type checker looking for the module."""
    scope: dict[str, Any] = {}
    exec(f"import {name} as module", scope)
    module = scope["module"]
    assert isinstance(module, ModuleType)
    return module


def test_it_is_imported_when_something_is_asked_of_it_and_not_before() -> None:
    with postponed("plain_one"):
        held = load("plain_one")
    assert "plain_one" not in sys.modules
    assert held.VALUE == "real"
    assert sys.modules["plain_one"] is not held


def test_whoever_imports_it_afterwards_gets_the_real_one() -> None:
    with postponed("plain_one"):
        held = load("plain_one")
    real = load("plain_one")
    assert real is not held
    assert real.VALUE == "real"


def test_it_may_be_asked_while_others_are_still_put_off() -> None:
    with postponed("plain_one", "big_one"):
        held = load("plain_one")
        assert held.VALUE == "real"
        assert sys.modules["plain_one"] is not held
        load("big_one")
    assert "plain_one" in sys.modules
    assert "big_one" not in sys.modules


def test_a_part_can_be_taken_from_its_package_without_importing_either() -> None:
    with postponed("big_one", "big_one.part"):
        scope: dict[str, Any] = {}
        exec("from big_one import part", scope)
    assert not {"big_one", "big_one.part"} & sys.modules.keys()
    assert scope["part"].LENGTH == 7


def test_an_exception_of_it_catches_the_real_one() -> None:
    with postponed("big_one"):
        held = load("big_one")
    real = load("big_one")
    with pytest.raises(held.Trouble):
        raise real.Trouble


def test_what_is_known_of_it_is_there_at_once() -> None:
    with postponed("plain_one", VALUE="known"):
        scope: dict[str, Any] = {}
        exec("from plain_one import VALUE", scope)
    assert scope["VALUE"] == "known"
    assert "plain_one" not in sys.modules
    assert load("plain_one").VALUE == "real"


def test_what_is_there_already_stays() -> None:
    real = load("plain_one")
    with postponed("plain_one"):
        assert load("plain_one") is real
    assert load("plain_one") is real


def test_what_the_real_one_lacks_is_missing() -> None:
    with postponed("plain_one"):
        held = load("plain_one")
    with pytest.raises(AttributeError, match="NOTHING"):
        _ = held.NOTHING


def test_an_error_inside_the_block_leaves_nothing_behind() -> None:
    with pytest.raises(LookupError), postponed("plain_one"):
        raise LookupError
    assert load("plain_one").VALUE == "real"


@pytest.mark.parametrize(
    "module", ["lightspeed_protocol.runtime.quic", "lightspeed_protocol.runtime.http"]
)
def test_our_own_modules_leave_out_what_they_put_off(module: str) -> None:
    """In a process of its own: pytest has imported some of it here."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    left_out = {"asyncio", "certifi", "multiprocessing", "service_identity", "OpenSSL"}
    assert not left_out & set(done.stdout.split())
