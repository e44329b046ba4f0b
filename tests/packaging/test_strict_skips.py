"""Under CI's plugin a skip is a failure, wherever it comes from; what is no skip stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SAMPLE = """
import pytest

def test_skips_itself():
    pytest.skip("no such program")

@pytest.mark.skipif(True, reason="not here")
def test_is_marked():
    pass

@pytest.fixture
def missing():
    pytest.skip("no such service")

def test_asks_a_fixture(missing):
    pass

def test_is_for_another_platform():
    pytest.skip("platform: only Windows has this")

@pytest.mark.xfail
def test_is_known_to_fail():
    assert False

def test_passes():
    pass
"""


def outcome(folder: Path, sample: str, *options: str) -> str:
    """pytest's last line about one sample file, run without this project's settings."""
    file = folder / "test_sample.py"
    file.write_text(sample)
    settings = folder / "pytest.ini"
    settings.write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-q", "-c", settings, file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
    )
    return done.stdout.strip().splitlines()[-1]


def test_skipped_tests_fail_under_the_plugin_and_only_there(tmp_path: Path) -> None:
    plugin = ["-p", "tests.support.strict_skips"]

    assert "1 passed, 4 skipped, 1 xfailed" in outcome(tmp_path, SAMPLE)
    # pytest calls a failure before the test itself an error: the mark and the fixture
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 2 errors" in outcome(
        tmp_path, SAMPLE, *plugin
    )


def test_a_module_that_skips_itself_fails_under_the_plugin(tmp_path: Path) -> None:
    sample = "import pytest\npytest.importorskip('no_such_module')\n"

    assert "1 skipped" in outcome(tmp_path, sample)
    assert "1 error" in outcome(tmp_path, sample, "-p", "tests.support.strict_skips")
