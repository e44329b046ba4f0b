"""Decides where the client keeps things: the user's config and state directories."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import platformdirs

APP = "lightspeed"


def config_dir() -> Path:
    """Settings and the player's own games."""
    return platformdirs.user_config_path(APP, appauthor=False)


def state_dir() -> Path:
    """Session reports and what a running client says about itself."""
    return platformdirs.user_state_path(APP, appauthor=False)


def config_file() -> Path:
    return config_dir() / "lightspeed.toml"


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
