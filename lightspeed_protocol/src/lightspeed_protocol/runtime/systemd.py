"""Tells systemd how the daemon is; does nothing where there is no systemd.

Source: sd_notify(3), sd_watchdog_enabled(3). WATCHDOG=1 goes out at half the interval, so that a
stalled loop is killed and started again.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Mapping

import attrs
import trio

log = logging.getLogger(__name__)

_UNIX = getattr(socket, "AF_UNIX", None)  # not on Windows
_CLOEXEC = getattr(socket, "SOCK_CLOEXEC", 0)


@attrs.frozen(kw_only=True)
class Notifier:
    """Where to report, and how often systemd wants to hear that the loop still turns."""

    address: str | None = None  # a path, or "@name" for an abstract socket
    watchdog_s: float = math.inf

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Notifier:
        """What systemd handed to this process."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        micros = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if not (meant and micros.isascii() and micros.isdigit() and int(micros) > 0):
            return cls(address=address)
        return cls(address=address, watchdog_s=int(micros) / 1e6)

    def ready(self, status: str = "") -> None:
        self._send("READY=1", *_status(status))

    def reloading(self) -> None:
        """`ready` must follow, whether or not the new settings were taken."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1", *_status(status))

    def alive(self, status: str = "") -> None:
        self._send("WATCHDOG=1", *_status(status))

    def _send(self, *lines: str) -> None:
        if self.address is None or _UNIX is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(_UNIX, socket.SOCK_DGRAM | _CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), name)
        except OSError as exc:  # systemd is gone or busy: nothing the daemon should fall over
            log.debug("systemd was not told %s: %s", lines[0], exc)


def _status(text: str) -> list[str]:
    return [f"STATUS={text}"] if text else []


async def run_watchdog(
    notifier: Notifier, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Never returns. Without a watchdog it only sleeps."""
    task_status.started()
    if math.isinf(notifier.watchdog_s):
        await trio.sleep_forever()
    while True:
        notifier.alive()
        await trio.sleep(notifier.watchdog_s / 2)
