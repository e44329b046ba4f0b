"""What a test may ask of the machine, and the words it is skipped with when that is missing.

`make test` skips and says why. `.ci/run` installs what is missing and loads
`tests.support.strict_skips`, under which every such skip is a failure.

Ask in a fixture or a plain function: out of an async test pytest-trio lets the reason get lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

GAMES_PATH = "/usr/games"  # where Debian puts games; root's PATH lacks it


def need_command(name: str, *, package: str) -> str:
    """The command's full path; skips with the Debian package's name when it is not there."""
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), GAMES_PATH]))
    if path is None:
        pytest.skip(f"no {name} on this machine: apt-get install {package}")
    return path


def need_file(path: Path, *, package: str) -> None:
    """Skips with the Debian package's name when the file is not there."""
    if not path.exists():
        pytest.skip(f"no {path} on this machine: apt-get install {package}")


def need_root() -> None:
    """Skips unless the tests run as root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        pytest.skip("needs root")


def need_netns() -> None:
    """Skips unless network namespaces can be made here and nftables works in them."""
    need_root()
    need_command("ip", package="iproute2")
    need_command("nft", package="nftables")
    why = _namespaces_fail()
    if why:
        pytest.skip(f"network namespaces do not work here: {why}")


@cache
def _namespaces_fail() -> str:
    """Empty if a namespace with an nftables rule can be made; else the kernel's words."""
    name = f"ls-try-{os.getpid()}"
    added = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=10)
    if added.returncode:
        return added.stderr.strip()
    try:
        tried = subprocess.run(
            ["ip", "netns", "exec", name, "nft", "add", "table", "inet", "try"],
            capture_output=True,
            text=True,
            timeout=10,
        )
        return tried.stderr.strip() if tried.returncode else ""
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10, check=False)
