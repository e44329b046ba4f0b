"""Write docs/man/*.1, one page for each program, from the same text that `--help` prints.

Source: man-pages(7) for the sections, groff_man(7) for the macros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
from lightspeed_client.cli import cli as client
from lightspeed_proxy.cli import cli as proxy

from lightspeed_client import __version__

WHERE = Path(__file__).parents[1] / "docs" / "man"
PROGRAMS = {"lightspeed": client, "lightspeed-proxy": proxy}
HELP = "Show this message and exit."  # said once on a page, not for every command
EXITS = {
    "0": "done",
    "1": "failed",
    "2": "a mistake on the command line",
    "77": "refused: no access",
    "78": "a mistake in the settings",
}


def plain(text: str) -> str:
    """Text as one roff line: nothing in it is taken for a request or an escape."""
    text = re.sub(r"\s+", " ", text).strip().replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def paragraphs(text: str) -> list[str]:
    return [plain(part) for part in re.split(r"\n\s*\n", text)]


def walk(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """This command and all below it, each in its context."""
    context = click.Context(command, parent, name, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from walk(found, below, context)


def options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1] != HELP:
            yield f".TP\n\\fB{plain(record[0])}\\fR\n{plain(record[1])}"


def section(context: click.Context) -> Iterator[str]:
    """One command: how it is called, what it does, its options."""
    usage = " ".join(context.command.collect_usage_pieces(context))
    yield f".SS \\fB{plain(context.command_path)}\\fR {plain(usage)}"
    yield "\n.PP\n".join(paragraphs(context.command.help or ""))
    yield from options(context)


def page(name: str, group: click.Group) -> str:
    """The whole page. It carries the version and no date, so that it changes when its text does."""
    root, *commands = walk(group, name)
    about = paragraphs(group.help or "")
    lines = [
        f'.TH "{name.upper()}" "1" "" "LightSpeed {__version__}" "User commands"',
        f".SH NAME\n{plain(name)} \\- {about[0].rstrip('.')}",
        f".SH SYNOPSIS\n.B {plain(name)}\n{plain(' '.join(group.collect_usage_pieces(root)))}",
        ".SH DESCRIPTION\n" + "\n.PP\n".join(about),
        ".SH OPTIONS",
        *options(root),
        ".TP\n\\fB\\-h, \\-\\-help\\fR\nShow what a command does and its options, then exit.",
        ".SH COMMANDS",
        *(line for context in commands for line in section(context)),
        ".SH EXIT STATUS",
        *(f".TP\n.B {status}\n{meaning}" for status, meaning in EXITS.items()),
    ]
    return "\n".join(lines) + "\n"


def write_all(folder: Path) -> None:
    """Every page of both programs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, group in PROGRAMS.items():
        (folder / f"{name}.1").write_text(page(name, group))


if __name__ == "__main__":
    write_all(WHERE)
