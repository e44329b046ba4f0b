"""Decides where the client keeps things: the user's config and state directories."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs

APP = "lightspeed"
ICACLS_S = 5.0


def config_dir() -> Path:
    """Settings and the player's own games."""
    return platformdirs.user_config_path(APP, appauthor=False)


def state_dir() -> Path:
    """Session reports and what a running client says about itself."""
    return platformdirs.user_state_path(APP, appauthor=False)


def config_file() -> Path:
    return config_dir() / "lightspeed.toml"


def nodes_file() -> Path:
    """The node book; beside the settings, because both are the player's own."""
    return config_dir() / "nodes.toml"


def make_private(path: Path, mode: int) -> None:
    """Only this user may use it, as far as the file system knows users. Never fails.

    On Windows the access list becomes one entry; what a program there inherits is private in the
    user's own profile already, so trouble with the tool is no reason to stop.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "win32":
            user = os.environ.get("USERNAME", "")
            rights = f"{user}:(OI)(CI)F" if path.is_dir() else f"{user}:F"
            subprocess.run(
                ["icacls", str(path), "/inheritance:r", "/grant:r", rights],
                check=False,
                capture_output=True,
                timeout=ICACLS_S,
            )
        else:
            path.chmod(mode)


def try_writing(directory: Path, size: int) -> None:
    """Bring `size` bytes to the disk and remove them again. Raises `OSError`."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".trial.", buffering=0) as file:
        left = memoryview(bytes(size))
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())  # some file systems notice only now that they are full


def replace_file(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Write all of it or nothing: a reader never sees half a file. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
