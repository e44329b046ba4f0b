from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from lightspeed_client.locks import locked, open_lock, try_lock

HOLDER = """
import sys
from pathlib import Path
from lightspeed_client.locks import open_lock, try_lock
assert try_lock(open_lock(Path(sys.argv[1])))
print("mine", flush=True)
sys.stdin.read()
"""


def test_another_process_is_kept_out_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mine\n"
        handle = open_lock(path)
        assert not try_lock(handle)
        holder.kill()
        holder.wait()
        assert try_lock(handle)
        os.close(handle)


def test_one_after_the_other(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "b.lock", 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            with locked(path):
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
