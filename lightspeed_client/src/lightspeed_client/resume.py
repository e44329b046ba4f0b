"""Keeps what a restarted client needs to go on with its session: one small file a running client.

Clients of one node at one time take slots, each locked by the process that has it: a second
client never takes the first one's session, and a killed one's slot is free again at once. The
file (mode 0600) is removed by a clean end. Source: PROTOCOL.md, "Extensions" (resume).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

import attrs
import trio

from .locks import open_lock, try_lock
from .paths import replace_file

SLOTS: Final = 8  # running clients of one node that can be resumed
SECRET_BYTES: Final = 16


class Keeper(Protocol):
    """Where the resume secret of a session is kept."""

    async def load(self) -> bytes | None: ...
    async def save(self, secret: bytes) -> None:
        """Raises `OSError`."""
        ...

    async def forget(self) -> None: ...


@attrs.define(eq=False)
class Memory:
    """For commands whose session ends with them."""

    secret: bytes | None = None

    async def load(self) -> bytes | None:
        return self.secret

    async def save(self, secret: bytes) -> None:
        self.secret = secret

    async def forget(self) -> None:
        self.secret = None


@attrs.define(eq=False)
class ResumeFile:
    """One slot, ours until `close` or the end of the process. Files are touched in threads."""

    path: Path
    pin: bytes  # of the node: its secret is told to no other
    _lock: int

    async def load(self) -> bytes | None:
        return await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)

    async def save(self, secret: bytes) -> None:
        record = {"pin": self.pin.hex(), "resume": secret.hex()}
        text = json.dumps(record) + "\n"
        await trio.to_thread.run_sync(replace_file, self.path, text, abandon_on_cancel=True)

    async def forget(self) -> None:
        await trio.to_thread.run_sync(self._remove, abandon_on_cancel=True)

    def close(self) -> None:
        """Let go of the slot."""
        os.close(self._lock)

    def _read(self) -> bytes | None:
        try:
            record: Any = json.loads(self.path.read_text("utf-8"))
            secret = bytes.fromhex(record["resume"])
            if record["pin"] == self.pin.hex() and len(secret) == SECRET_BYTES:
                return secret
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none, or damaged: then a new session begins
        return None

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


def take_slot(state: Path, node: str, pin: bytes) -> ResumeFile | None:
    """The first free slot for a node; None when all are taken or nothing can be written."""
    directory = state / "sessions"
    stem = file_stem(node)
    for number in range(1, SLOTS + 1):
        try:
            lock = open_lock(directory / f"{stem}-{number}.lock")
        except OSError:
            return None
        if try_lock(lock):
            return ResumeFile(directory / f"{stem}-{number}.json", pin, lock)
        os.close(lock)
    return None


def forget_all(state: Path, node: str) -> None:
    """Remove what was kept for a node that the player removes."""
    for path in (state / "sessions").glob(f"{file_stem(node)}-*.json"):
        with contextlib.suppress(OSError):
            path.unlink()


def file_stem(node: str) -> str:
    """A file name for any node's name: readable, and never the same for two."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", node)[:24]
    return f"{readable}-{sha256(node.encode()).hexdigest()[:8]}"
