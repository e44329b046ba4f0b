from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from lightspeed_client.status import StatusFile, is_alive, running_clients


def test_a_running_client_is_found_while_its_word_is_fresh(tmp_path: Path) -> None:
    file = StatusFile.of_this_process(tmp_path)
    file.write({"state": "carrying"}, 1000.0)
    assert running_clients(tmp_path, 1002.0) == [
        {"state": "carrying", "pid": os.getpid(), "written_at": 1000.0}
    ]
    assert running_clients(tmp_path, 1006.0) == [], "it hangs, or the clock jumped"
    file.remove()
    file.remove()
    assert running_clients(tmp_path, 1002.0) == []
    file.write({"state": "carrying"}, 1001.0)  # a thread that was late
    assert list(tmp_path.iterdir()) == []


def test_what_dead_clients_and_vandals_left_is_removed(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = tmp_path / f"status-{child.pid}.json"
    dead.write_text(json.dumps({"pid": child.pid, "written_at": 1000.0}))
    for name, text in {"1": "{", "2": "[]", "3": '{"pid": "x"}', "4": "\0"}.items():
        (tmp_path / f"status-{name}.json").write_text(text)
    assert running_clients(tmp_path, 1000.0) == []
    assert list(tmp_path.iterdir()) == []


def test_no_directory_is_no_client(tmp_path: Path) -> None:
    assert running_clients(tmp_path / "nowhere", 0.0) == []


def test_nonsense_pids_are_dead() -> None:
    assert not is_alive(0)
    assert not is_alive(-1)
    assert is_alive(os.getpid())
