"""The command line: which commands there are, and the options that all of them share.

Source: names and exit codes, CLI.md.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

import click

from . import __version__

_MODULES: Final = {
    "add": ".cli_nodes",
    "config": ".cli_local",
    "demo": ".lab.cli",
    "doctor": ".cli_local",
    "games": ".cli_local",
    "lab": ".lab.cli",
    "live-test": ".cli_tunnel",
    "nodes": ".cli_nodes",
    "play": ".cli_play",
    "probe": ".cli_tunnel",
    "redirect": ".cli_play",
    "remove": ".cli_nodes",
    "report": ".cli_local",
    "status": ".cli_local",
    "test": ".cli_tunnel",
}


class Commands(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(_MODULES[cmd_name], __package__)
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lightspeed")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Settings file instead of the one in your config directory.",
)
@click.pass_context
def cli(ctx: click.Context, config: Path | None) -> None:
    """Carry a game's UDP packets through a node, and say whether it helps."""
    ctx.obj = config
