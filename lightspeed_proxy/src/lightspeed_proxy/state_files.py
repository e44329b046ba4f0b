"""Where the node keeps what must outlive it, and how: one directory, files only its owner reads.

A file is replaced whole or not at all. Root may write for a node that runs as another user
(systemd's DynamicUser): what root writes belongs to the directory's owner. Source: systemd.exec(5)
for $STATE_DIRECTORY, the XDG base directories for a user's own node.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs
from lightspeed_protocol.errors import ConfigError

from .config import ProxyConfig

SYSTEM_DIR: Final = Path("/var/lib/lightspeed")
USER_DIR: Final = "lightspeed-proxy"
ANOTHER: Final = "name another directory with --state DIR or [node] state_dir"


@attrs.frozen
class Stamp:
    """What changes when a file does. Replacing it gives it another inode."""

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int


def state_dir(config: ProxyConfig, environ: Mapping[str, str]) -> Path:
    """The directory: as configured, else systemd's, else the system's or the user's own."""
    if config.node.state_dir:
        return Path(config.node.state_dir)
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]  # systemd lists several with colons
    if given:
        return Path(given)
    return SYSTEM_DIR if is_root() and may_write(SYSTEM_DIR) else users_dir(environ)


def users_dir(environ: Mapping[str, str]) -> Path:
    """Where a node that a user started keeps its things."""
    home = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(home):
        return Path(home, USER_DIR)
    try:
        return Path(environ.get("HOME") or Path.home(), ".local", "state", USER_DIR)
    except RuntimeError:  # a user without an entry in the password file
        raise ConfigError("state directory", [f"this user has no home; {ANOTHER}"]) from None


def may_write(directory: Path) -> bool:
    """Whether this user may make files there, or make the directory if it is not there yet."""
    while not os.path.lexists(directory) and directory != directory.parent:
        directory = directory.parent
    return os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK)


def problem_with(directory: Path) -> str | None:
    """What would keep the node from using it, in words; looks only."""
    if os.path.lexists(directory) and not os.path.isdir(directory):
        return f"{directory} is not a directory; {ANOTHER}"
    if not may_write(directory):
        return f"{directory} cannot be written by this user; {ANOTHER}"
    return None


def one_line(exc: ConfigError) -> str:
    """The file and its problems, for a list that holds others too."""
    return " ".join(line.strip() for line in str(exc).splitlines())


def make_dir(directory: Path) -> None:
    """Make it, for this user only, unless it is there. Raises `ConfigError`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            str(directory), [f"cannot be made: {exc.strerror or exc}; {ANOTHER}"]
        ) from None


def stamp_of(path: Path) -> Stamp | None:
    """None for a file that is not there, or whose directory may not be looked into."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def write_file(path: Path, text: str) -> None:
    """Put the file there, whole or not at all, mode 0600. Raises `ConfigError`."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write_new(new, text)
        try:
            os.replace(new, path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        _sync_dir(path.parent)
    except OSError as exc:
        raise ConfigError(
            str(path), [f"cannot be written: {exc.strerror or exc}; {ANOTHER}"]
        ) from None


def _write_new(path: Path, text: str) -> None:
    # O_EXCL: whoever owns the directory cannot make root write through a link of theirs
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "wb") as file:
            _give_to_owner(handle, path.parent)
            file.write(text.encode())
            file.flush()
            os.fsync(handle)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def readers_besides_owner(path: Path) -> str | None:
    """ "group" or "everybody" if they may read the file, as its mode says."""
    mode = path.stat().st_mode if sys.platform != "win32" else 0  # there, an access list decides
    if mode & stat.S_IROTH:
        return "everybody"
    return "its group" if mode & stat.S_IRGRP else None


if sys.platform == "win32":

    def is_root() -> bool:
        return False

    @contextlib.contextmanager
    def locked(directory: Path) -> Iterator[None]:
        """There is no such lock here: two commands at once may lose one's change."""
        yield

    def _give_to_owner(handle: int, directory: Path) -> None:
        pass  # the directory's access list decides

    def _sync_dir(directory: Path) -> None:
        pass  # a directory cannot be opened here

else:
    import fcntl

    def is_root() -> bool:
        return os.geteuid() == 0

    @contextlib.contextmanager
    def locked(directory: Path) -> Iterator[None]:
        """Nobody else changes files in the directory meanwhile. Raises `ConfigError`.

        The lock is on the directory itself, so that it leaves no file behind. It is held for
        milliseconds, and the kernel releases it when its holder dies.
        """
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            raise ConfigError(
                str(directory), [f"cannot be opened: {exc.strerror or exc}; {ANOTHER}"]
            ) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as exc:
                raise ConfigError(
                    str(directory), [f"cannot be locked: {exc.strerror or exc}; {ANOTHER}"]
                ) from None
            yield
        finally:
            os.close(handle)

    def _give_to_owner(handle: int, directory: Path) -> None:
        owner = directory.stat()
        if is_root() and owner.st_uid != 0:
            os.fchown(handle, owner.st_uid, owner.st_gid)

    def _sync_dir(directory: Path) -> None:
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
