"""What several commands share: option types, the settings file, logs, exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from .address import NODE_PORT, Address, parse_address
from .echo import say
from .fec_choice import parse_fec

if TYPE_CHECKING:
    from .config import ClientConfig
    from .games import Game, Games
    from .modes.checks import Check


class HostPort(click.ParamType[Address]):
    """host:port, and [IPv6]:port for nodes; the port may be left out where there is a usual one."""

    name = "HOST:PORT"

    def __init__(self, default_port: int | None = None, *, ipv4_only: bool = False) -> None:
        self.default_port = default_port
        self.ipv4_only = ipv4_only

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, tuple):
            return value
        try:
            return parse_address(value, default_port=self.default_port, ipv4_only=self.ipv4_only)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Fec(click.ParamType[str]):
    """off or xor:K, checked and left as written."""

    name = "off|xor:K"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parse_fec(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        return str(value)


SERVER: Final = HostPort(ipv4_only=True)
NODE: Final = HostPort(NODE_PORT)


def set_up_logs(*, quiet: bool = False) -> None:
    """Warnings and news as short lines on stderr, above the live table if there is one.

    `quiet` keeps them back: what the checks find is printed by themselves.
    """
    import logging
    import os

    from lightspeed_protocol.runtime.logs import pick_formatter

    from .display import ScreenHandler

    handler = ScreenHandler()
    handler.setFormatter(pick_formatter("auto", os.environ, terminal=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR if quiet else logging.INFO)


def settings_file(ctx: click.Context) -> tuple[Path, bool]:
    """The settings file, and whether it was named and so must exist."""
    from .paths import config_file

    named: Path | None = ctx.find_root().obj
    return (config_file(), False) if named is None else (named, True)


def read_settings(ctx: click.Context) -> ClientConfig:
    from .config import read

    path, must_exist = settings_file(ctx)
    return read(path, must_exist=must_exist)


def pick_node(
    ctx: click.Context, given: Address | None, configured: str, *, how: str = "--proxy HOST:PORT"
) -> Address:
    """`how`: what the command itself takes a node by."""
    if given is not None:
        return given
    if configured:
        return parse_address(configured, default_port=NODE_PORT)
    raise click.UsageError(
        f"no node: give {how}, or set one with `lightspeed config set node.address HOST:PORT`",
        ctx,
    )


def pick_server(ctx: click.Context, given: Address | None, configured: str) -> Address:
    if given is not None:
        return given
    if configured:
        return parse_address(configured, ipv4_only=True)
    raise click.UsageError(
        "no game server: give --server HOST:PORT, or set one with"
        " `lightspeed config set redirect.server HOST:PORT`",
        ctx,
    )


server_option = click.option(
    "--server", type=SERVER, help="The game server: a name or an IPv4 address."
)
proxy_option = click.option(
    "--proxy", type=NODE, help=f"The node to go through; its port is {NODE_PORT} if left out."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def read_games() -> Games:
    from .games import load_games
    from .paths import config_dir

    return load_games(config_dir() / "games.toml")


def find_game(ctx: click.Context, known: Games, word: str) -> Game:
    """By key, alias or id; a usage error with near matches when there is none."""
    game = known.find(word)
    if game is None:
        near = known.near(word)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise click.UsageError(f"no game {word!r}: {meant}`lightspeed games` lists them", ctx)
    return game


def run_checks(
    checks: Callable[[Callable[[Check], object]], Awaitable[list[Check]]], *, as_json: bool
) -> NoReturn:
    """Run them, print each as it is made, and exit 0 only if all is well."""
    from lightspeed_protocol.runtime import daemon

    from .modes.checks import all_well, show, to_json

    set_up_logs(quiet=True)

    async def run() -> None:
        found = await checks((lambda _: None) if as_json else show)
        if as_json:
            say(to_json(found))
        if not all_well(found):
            raise SystemExit(1)

    sys.exit(daemon.run(run))
