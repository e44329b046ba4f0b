"""What the documents tell a reader to type, load or follow is there and works.

console: the command exists and takes these options. toml: it loads, and as the settings file its
first line names if it names one. python: it runs. Links lead somewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from lightspeed_client.cli import cli as client
from lightspeed_client.config import read as read_client
from lightspeed_proxy.cli import cli as proxy
from lightspeed_proxy.config import Source

from tests.support.documents import DOCUMENTS, ROOT, Block, blocks, commands, links

KINDS = {"console", "toml", "python", "text", "json", "ini", ""}
# Not ours to test, but a reader of a Linux machine has them or is told to install them.
ELSEWHERE = {
    *("apt-get", "cd", "cp", "curl", "git", "install", "journalctl", "kill", "man", "pip"),
    *("setcap", "ss", "systemctl", "ufw", "useradd", "nft", "quakestat", "chmod", "mkdir"),
}
PYTHON_S = 60


def block_name(block: Block) -> str:
    return block.name


def take(program: click.Group, words: list[str]) -> None:
    """Parse as click would for a real call, without running anything. Raises `UsageError`."""
    command: click.Command = program
    rest = words[1:]
    context: click.Context | None = None
    name = words[0]
    while isinstance(command, click.Group) and rest:
        context = click.Context(command, context, name, **command.context_settings)
        _, after, _ = command.make_parser(context).parse_args(list(rest))
        if not after:
            break  # only options of the group itself
        found_name, found, rest = command.resolve_command(context, after)
        assert found_name is not None
        assert found is not None
        name, command = found_name, found
    command.make_context(name, rest, parent=context)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("block", blocks("console"), ids=block_name)
def test_commands_exist_and_take_these_options(block: Block) -> None:
    found = list(commands(block))
    assert found, "a console block without a line that starts with `$ ` or `# `"
    for words in found:
        program = Path(words[0]).name
        if program == "make":
            wanted = {word for word in words[1:] if "=" not in word}
            assert wanted <= targets(), words
        elif program in ("lightspeed", "lightspeed-proxy"):
            try:
                take(client if program == "lightspeed" else proxy, words)
            except click.exceptions.Exit as exc:  # --help and --version end here
                assert exc.exit_code == 0, words
            except click.UsageError as exc:
                pytest.fail(f"{' '.join(words)}: {exc.format_message()}")
        elif program in ("python", "python3") and words[1:2] == ["-m"]:
            assert find_spec(words[2]) is not None, words
        else:
            assert program in ELSEWHERE, f"{words}: add it to ELSEWHERE or take it out"


@pytest.mark.parametrize("block", blocks("toml"), ids=block_name)
def test_settings_load(block: Block, tmp_path: Path) -> None:
    tomllib.loads(block.text)
    file = tmp_path / "settings.toml"
    file.write_text(block.text)
    first = block.text.splitlines()[0]
    if "proxy.toml" in first:
        Source(path=file).read()
    elif "lightspeed.toml" in first:
        read_client(file, must_exist=True)


def test_examples_run(tmp_path: Path) -> None:
    for block in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block.text],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PYTHON_S,
            check=False,
        )
        assert done.returncode == 0, f"{block.name}: {done.stderr}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert [link for link in links(path) if not (path.parent / link).exists()] == []


def test_every_block_is_of_a_kind_that_is_checked_or_needs_no_check() -> None:
    assert [block.name for block in blocks() if block.kind not in KINDS] == []


def test_the_documents_that_a_reader_is_promised_are_there() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in DOCUMENTS}

    assert {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= names
    assert {"docs/play.md", "docs/self-host.md", "ops/README.md"} <= names
