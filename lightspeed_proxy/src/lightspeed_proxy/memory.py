"""Gives memory back once a crowd has left, and collects garbage only while nobody plays.

CPython's own allocator returns a megabyte only when nothing at all in it is alive, and the few
numbers that a node keeps changing are spread over what a crowd has filled: after some rounds of
10 000 sessions all of it stays (measured: 28 MB before, 45 MB for ever). The C library's
allocator can return any free page, so on Linux the node runs on that one.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Final

import trio

LOOK_S: Final = 10.0
QUIET_S: Final = 2.0  # without a game packet
NEVER: Final = 1 << 30
YOUNG: Final = 2  # collections of the youngest, until the next ones are looked at too

ALLOCATOR: Final = {
    "PYTHONMALLOC": "malloc",
    "MALLOC_ARENA_MAX": "1",  # one heap for all threads: nearly everything is in the packet loop
}


def wanted_environment(environ: MutableMapping[str, str]) -> bool:
    """Enter what chooses the allocator; False when the choice has been made already.

    Whoever set PYTHONMALLOC meant it, and after the restart it is set.
    """
    if "PYTHONMALLOC" in environ:
        return False
    environ.update(ALLOCATOR)
    return True


async def run_collector(
    last_traffic: Callable[[], float],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Never returns. Full collections wait until no game packet has passed for `QUIET_S`.

    One looks at every object there is: 90 ms in a node with 600 control connections, and so long
    no packet would move. Those of young objects go on, in smaller portions: `YOUNG` for Python's
    10, which is 3 ms while many register.
    """
    before = gc.get_threshold()
    gc.set_threshold(before[0], YOUNG, NEVER)
    task_status.started()
    try:
        while True:
            await trio.sleep(LOOK_S)
            if trio.current_time() - last_traffic() >= QUIET_S:
                gc.collect()
    finally:
        gc.set_threshold(*before)


if sys.platform == "linux":

    def use_c_allocator() -> None:
        """Start this program anew on the C library's allocator: same process id, same words.

        Python reads the choice only when it starts. Nothing may be open yet. Without glibc
        this does nothing.
        """
        if "CS_GNU_LIBC_VERSION" in os.confstr_names and wanted_environment(os.environ):
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def give_back() -> None:
        """Return free pages to the kernel. Takes milliseconds: only while nobody plays."""
        import ctypes

        gc.collect()
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except AttributeError:
            return  # not glibc

else:

    def use_c_allocator() -> None:
        """Nothing to do: other systems' nodes are for trying out."""

    def give_back() -> None:
        """Free what Python holds on to; the rest is the system's business."""
        gc.collect()
