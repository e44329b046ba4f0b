"""The fenced blocks and the links of the Markdown documents."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "ops/**/*.md", "lightspeed_*/*.md")
    for path in ROOT.glob(pattern)
)

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>[a-z]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")


@attrs.frozen
class Block:
    """One fenced block: where it starts, its language word, its text."""

    path: Path
    line: int
    kind: str
    text: str

    @property
    def name(self) -> str:
        """For a test's name and message."""
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.line}"


def blocks(kind: str | None = None) -> list[Block]:
    """Every block of that language in every document; of all languages without one."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(path, line, match["kind"], match["body"]))
    return [block for block in found if kind is None or block.kind == kind]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command in a console block: lines after "$ " or "# ", continued by a
    backslash, without `sudo` and settings of the environment in front."""
    for line in block.text.replace("\\\n", " ").splitlines():
        prompt, _, command = line.strip().partition(" ")
        if prompt not in ("$", "#"):
            continue
        words = shlex.split(command, comments=True)
        while words and (words[0] == "sudo" or re.fullmatch(r"[A-Z_]+=.*", words[0])):
            words.pop(0)
        if words:
            yield words


def links(path: Path) -> list[str]:
    """Targets of links to other files."""
    return _LINK.findall(path.read_text())
