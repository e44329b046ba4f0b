"""A pytest plugin for CI: a skipped test is a failed one.

    pytest -p tests.support.strict_skips

CI installs every package the tests ask for and runs as root, so a skip there means that
something the project promises was not shown. A reason that starts with `PLATFORM` is let
through: what only Windows can show is not shown on Linux.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

PLATFORM = "platform: "


def _words(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason without the file and line that pytest stores beside it."""
    found = report.longrepr
    text = str(found[2]) if isinstance(found, tuple) else str(found)
    return text.removeprefix("Skipped: ")


def _harden(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail") or _words(report).startswith(PLATFORM):
        return
    report.outcome = "failed"
    report.longrepr = f"skipped, which CI does not allow: {_words(report)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Test reports, whether the skip came from a mark, a fixture or the test itself."""
    report = yield
    _harden(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Whole modules that skip while they are imported."""
    report = yield
    _harden(report)
    return report
