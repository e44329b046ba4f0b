"""Every command of both programs explains itself, and the man pages say the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from lightspeed_client.cli import cli as client
from lightspeed_proxy.cli import cli as proxy

from ops.man_pages import write_all

ROOT = Path(__file__).parents[2]


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The path of words of this command and of all below it."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1], **command.context_settings)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


ALL = [*commands(client, ("lightspeed",)), *commands(proxy, ("lightspeed-proxy",))]


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_explains_itself(words: tuple[str, ...], flag: str) -> None:
    root = client if words[0] == "lightspeed" else proxy

    result = CliRunner().invoke(root, [*words[1:], flag], prog_name=words[0])

    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: {' '.join(words)} ")
    about = result.output.split("\n\n")[1].strip()
    assert len(about) > 5
    assert not about.startswith("Options:"), "no sentence says what it does"


@pytest.mark.parametrize("module", ["lightspeed_client", "lightspeed_proxy"])
def test_every_program_starts_as_a_module(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", module, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_the_man_pages_say_what_help_says(tmp_path: Path) -> None:
    write_all(tmp_path)
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    shipped = {path.name: path.read_text() for path in (ROOT / "docs" / "man").glob("*.1")}

    assert fresh.keys() == shipped.keys(), "run `make docs`"
    assert [name for name in fresh if fresh[name] != shipped[name]] == [], "run `make docs`"
