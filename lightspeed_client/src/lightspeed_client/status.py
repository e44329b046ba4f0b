"""What a running client leaves for `lightspeed status`: one small file a process, each second.

A file is believed while its process lives and it is not older than `FRESH_S`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

import attrs

from .paths import replace_file

FRESH_S: Final = 5.0


@attrs.define(eq=False)
class StatusFile:
    """Written by a running client, from a thread. Raises `OSError` when it cannot be."""

    path: Path
    _removed: bool = False

    @classmethod
    def of_this_process(cls, state: Path) -> StatusFile:
        return cls(state / f"status-{os.getpid()}.json")

    def write(self, record: dict[str, Any], wall_time: float) -> None:
        record = {**record, "pid": os.getpid(), "written_at": round(wall_time, 3)}
        replace_file(self.path, json.dumps(record) + "\n")
        if self._removed:  # meanwhile, by the task that gave up waiting for this thread
            self.remove()

    def remove(self) -> None:
        self._removed = True
        with contextlib.suppress(OSError):
            self.path.unlink()


def running_clients(state: Path, wall_time: float) -> list[dict[str, Any]]:
    """What each running client last said; files of dead ones are removed."""
    found = []
    for path in sorted(state.glob("status-*.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
            pid, written_at = int(record["pid"]), float(record["written_at"])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            record, pid, written_at = {}, 0, 0.0
        if not is_alive(pid):
            StatusFile(path).remove()
        elif abs(wall_time - written_at) <= FRESH_S:
            found.append(record)
    return found


def is_alive(pid: int) -> bool:
    """Whether the process exists. On Windows nothing safe tells: the file's age decides."""
    if pid <= 0:
        return False
    if sys.platform == "win32":  # os.kill(pid, 0) would send it Ctrl-C there
        return True
    else:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
