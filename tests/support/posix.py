"""For test modules about signals and Unix sockets."""

from __future__ import annotations

import sys

import pytest


def posix_only() -> None:
    """Skips the calling module on Windows; for mypy, an assert on the platform must follow."""
    if sys.platform == "win32":
        pytest.skip("POSIX signals and sockets", allow_module_level=True)
