"""Where things are, and what may not be in any file of the repository."""

from __future__ import annotations

import ast
import ipaddress
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = 600

SOURCES = sorted(ROOT.glob("lightspeed_*/src/**/*.py"))
# Modules whose whole content is shown by the tests of others.
SHOWN_ELSEWHERE = {
    "lightspeed_protocol/errors",  # five classes, raised and caught everywhere
    "lightspeed_proxy/main",  # by tests/real, as a process
    "lightspeed_client/main",  # the same
}

SKIPPED = {".venv", ".git", "dist", "__pycache__", "results"}
# Written in pieces so that this file passes its own test.
REGISTRIES = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"))]
HOMES = ["/" + "/".join(parts) + "/" for parts in (("work", "main"), ("work", "shared"))]
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
RETIRED = {"192.88.99.0"}  # the 6to4 relays' range, reserved, which Python calls global
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")


def all_files() -> list[Path]:
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.is_file()
        and not any(
            part in SKIPPED or part.endswith(("_cache", ".egg-info")) or part == ".hypothesis"
            for part in path.relative_to(ROOT).parts
        )
    ]


def module_name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().split("/src/")[1]


def has_code(path: Path) -> bool:
    """False for the likes of `__init__.py` with a docstring and a version."""
    tree = ast.parse(path.read_text())
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(tree)
    )


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_every_module_has_its_test_file(path: Path) -> None:
    """The client's `a/b.py`: `tests/client/a/test_b.py` or `tests/client/test_a_b.py`."""
    module = module_name(path)
    if not has_code(path) or module in SHOWN_ELSEWHERE:
        return
    distribution, *folders, name = module.split("/")
    if name == "__init__":
        name = folders.pop() if folders else distribution
    tests = ROOT / "tests" / distribution.removeprefix("lightspeed_")
    wanted = [
        tests.joinpath(*folders, f"test_{name}.py"),
        tests / f"test_{'_'.join([*folders, name])}.py",
    ]

    assert any(file.exists() for file in wanted), f"write {wanted[-1].relative_to(ROOT)}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_every_module_says_what_it_decides_and_is_of_one_subject(path: Path) -> None:
    text = path.read_text()

    assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert len(text.splitlines()) <= MOST_LINES
    assert not UNFINISHED.search(text)
    if has_code(path):
        assert "from __future__ import annotations" in text or path.name == "errors.py"


def test_no_file_names_a_registry_or_a_place_on_this_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in all_files()
        for word in REGISTRIES + HOMES
        if word.encode() in path.read_bytes()
    ]

    assert found == []


def test_no_file_holds_an_address_that_may_be_somebodys() -> None:
    """Loopback, private, reserved, documentation. Not asked of tests: the policy is tested."""
    found = []
    for path in all_files():
        if ROOT / "tests" in path.parents:
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for literal in IPV4.findall(text):
            try:
                address = ipaddress.ip_address(literal)
            except ValueError:
                continue  # a version number, or a bad address in a test
            if address.is_global and not address.is_multicast and literal not in RETIRED:
                found.append(f"{path.relative_to(ROOT)}: {literal}")

    assert found == []


@pytest.mark.parametrize("name", ["lightspeed_protocol", "lightspeed_proxy", "lightspeed_client"])
def test_each_distribution_carries_the_licence(name: str) -> None:
    assert (ROOT / name / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_constraints_pin_every_developers_tool() -> None:
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]

    assert set(groups["dev"]) <= pins
