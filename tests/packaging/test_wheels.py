"""Each wheel holds what it should, installs alone and its command starts. By `make packaging`.

Dependencies come from wherever pip is set up to find them; the versions are those of
constraints.txt.
"""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = ["lightspeed_protocol", "lightspeed_proxy", "lightspeed_client"]
VECTORS = str(ROOT / "tests" / "wire" / "wire_vectors.json")
STARTS = {
    "lightspeed_protocol": (
        ["python", "-m", "lightspeed_protocol.conformance", VECTORS],
        "0 mismatches",
    ),
    "lightspeed_proxy": (["lightspeed-proxy", "--help"], "Usage: lightspeed-proxy"),
    "lightspeed_client": (["lightspeed", "--help"], "Usage: lightspeed"),
}
BUILD_S = 120
INSTALL_S = 300


def run(*words: str | Path, timeout: float, cwd: Path = ROOT) -> str:
    """A command's output; fails the test with it unless the command worked."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three wheels, fresh from the source."""
    folder = tmp_path_factory.mktemp("wheels")
    for name in DISTRIBUTIONS:
        build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir"]
        run(*build, folder, ROOT / name, timeout=BUILD_S)
    return folder


def wheel_of(wheels: Path, name: str) -> Path:
    (found,) = wheels.glob(f"{name}-*.whl")
    return found


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_wheel_holds_every_module_its_types_and_its_licence(wheels: Path, name: str) -> None:
    source = ROOT / name / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel_of(wheels, name)) as archive:
        held = set(archive.namelist())

    assert wanted <= held
    assert f"{name}/py.typed" in held
    assert any(entry.endswith("licenses/LICENSE") for entry in held)
    assert not any(entry.startswith(("tests/", "src/")) for entry in held)


def test_the_clients_wheel_holds_the_games(wheels: Path) -> None:
    with zipfile.ZipFile(wheel_of(wheels, "lightspeed_client")) as archive:
        assert "lightspeed_client/games/games.toml" in archive.namelist()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_wheel_installs_alone_and_its_command_starts(
    wheels: Path, tmp_path: Path, name: str
) -> None:
    """Run from an empty folder, so that nothing of the checkout can be imported by accident."""
    home = tmp_path / "env"
    venv.create(home, with_pip=True)
    binaries = home / ("Scripts" if sys.platform == "win32" else "bin")
    run(
        binaries / "python",
        *("-m", "pip", "install", "-q", "--disable-pip-version-check"),
        *("-c", str(ROOT / "constraints.txt"), "--find-links", str(wheels)),
        wheel_of(wheels, name),
        timeout=INSTALL_S,
    )
    (command, *options), words = STARTS[name]

    assert words.lower() in run(binaries / command, *options, timeout=60, cwd=tmp_path).lower()
    installed = run(binaries / "python", "-m", "pip", "list", timeout=60).lower()
    others = {"lightspeed_proxy", "lightspeed_client"} - {name}
    assert not any(other.replace("_", "-") in installed for other in others)
