from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lightspeed_client.main import main


def test_a_bad_file_is_exit_78_with_every_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.toml"
    path.write_text("[tunnel]\nfec = 5\nkeepalive = 1\n")
    monkeypatch.setattr(sys, "argv", ["lightspeed", "--config", str(path), "config", "show"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 78
    err = capsys.readouterr().err
    assert str(path) in err
    assert "want str, got 5" in err
    assert "did you mean 'keepalive_ms'" in err


def test_good_use_is_exit_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lightspeed", "config", "default"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "[tunnel]" in capsys.readouterr().out
