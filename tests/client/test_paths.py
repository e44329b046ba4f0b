from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lightspeed_client import paths


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.toml"
    paths.replace_file(target, "one")
    paths.replace_file(target, "two")
    assert target.read_text() == "two"
    assert list(target.parent.iterdir()) == [target]
    if sys.platform != "win32":
        assert target.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        paths.replace_file(target, "\ud800")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(sys.platform != "linux", reason="XDG directories are Linux")
def test_directories_follow_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    assert paths.config_file() == tmp_path / "c" / "lightspeed" / "lightspeed.toml"
    assert paths.state_dir() == tmp_path / "s" / "lightspeed"
