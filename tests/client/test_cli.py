from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from lightspeed_client.cli import cli
from lightspeed_client.paths import config_file

from lightspeed_client import __version__

from .commands import call, use_home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="XDG directories are Linux")

OWN_COMMANDS = (
    "config", "doctor", "games", "live-test", "probe", "redirect", "report", "status", "test",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_home(tmp_path, monkeypatch)


@pytest.mark.parametrize("command", [*OWN_COMMANDS, "config set", "config show", "config default"])
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_without_touching_anything(command: str, flag: str) -> None:
    result = call(*command.split(), flag)
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert not config_file().exists()


def test_the_groups_own_help_texts_fit_their_lines() -> None:
    lines = call("--help").output.splitlines()
    own = [line for line in lines if line.split()[:1] and line.split()[0] in OWN_COMMANDS]
    assert len(own) == len(OWN_COMMANDS)
    assert [line for line in own if line.endswith("...")] == []


def test_the_groups_list_is_what_can_be_called() -> None:
    with click.Context(cli) as ctx:
        assert set(OWN_COMMANDS) < set(cli.list_commands(ctx))
        assert cli.get_command(ctx, "nonsense") is None
    assert call("nonsense").exit_code == 2
    assert __version__ in call("--version").output
