"""What several commands share: option types, the settings file, logs, exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypedDict, TypeVar, Unpack

import click

from .address import NODE_PORT, Address, only_ipv4, parse_address
from .echo import say
from .fec_choice import BUDGET_MS, OFF, TARGET_PERCENT, FecChoice, parse_caps, parse_fec

if TYPE_CHECKING:
    from .config import ClientConfig, Tunnel
    from .games import Game, Games
    from .modes.checks import Check
    from .nodes import KnownNode

# An open node, or invited ones of which the nearest is to be found.
Way: TypeAlias = "Address | list[KnownNode]"
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class HostPort(click.ParamType[Address]):
    """host:port or [IPv6]:port; the port may be left out where there is a usual one."""

    name = "HOST:PORT"

    def __init__(self, default_port: int | None = None) -> None:
        self.default_port = default_port

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, tuple):
            return value
        try:
            return parse_address(value, default_port=self.default_port)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class Number(click.FloatRange):
    """A number in a range; `nan`, which is in every range for click, is in none."""

    unit: str = ""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, str):
            value = value.strip().removesuffix(self.unit).strip()
        number = float(super().convert(value, param, ctx))
        if number != number:
            self.fail("nan is not a number to use here", param, ctx)
        return number


class Percent(Number):
    """As `Number`; "1%" is 1."""

    unit = "%"


class Checked(click.ParamType[str]):
    """A text that `check` raises `ValueError` for, or that is left as written."""

    def __init__(self, name: str, check: Callable[[str], object]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            self._check(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        return str(value)


FEC: Final = Checked("off|auto|xor:K", parse_fec)
SERVER: Final = HostPort()
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


def pick_way(
    ctx: click.Context,
    name: str | None,
    proxy: Address | None,
    configured: str,
    *,
    how: str = "--proxy HOST:PORT uses",
) -> Way:
    """The node to use: --node, --proxy, the settings' node.address, or what the node book has.

    With several in the book and none named, all of them: `choosing.settle` finds the nearest.
    `how`: what the command itself takes an open node by.
    """
    if name is not None and proxy is not None:
        raise click.UsageError("give --node or --proxy, not both", ctx)
    if proxy is not None:
        return proxy
    if name is not None:
        return [find_node(ctx, name)]
    if configured:
        return parse_address(configured, default_port=NODE_PORT)
    book = read_nodes()
    if not book:
        raise click.UsageError(
            f"no node: `lightspeed add INVITE` adds the one you were invited to; {how} an open one,"
            " and `lightspeed config set node.address HOST:PORT` saves that",
            ctx,
        )
    return book


def read_nodes() -> list[KnownNode]:
    from .nodes import read_book
    from .paths import nodes_file

    return read_book(nodes_file())


def find_node(ctx: click.Context, name: str) -> KnownNode:
    """From the node book; a usage error with near matches when it is not there."""
    import difflib

    book = {node.name: node for node in read_nodes()}
    if name in book:
        return book[name]
    near = difflib.get_close_matches(name, book, n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise click.UsageError(f"no node {name!r}: {meant}`lightspeed nodes` lists yours", ctx)


def pick_server(
    ctx: click.Context, given: Address | None, configured: str, way: Way | None = None
) -> Address:
    """`way`: through an open node only IPv4 servers can be reached."""
    if given is None and not configured:
        raise click.UsageError(
            "no game server: give --server HOST:PORT, or set one with"
            " `lightspeed config set redirect.server HOST:PORT`",
            ctx,
        )
    server = parse_address(configured) if given is None else given
    if isinstance(way, tuple) and ":" in server[0]:
        raise click.UsageError(only_ipv4(server[0]), ctx)
    return server


async def settle_aloud(way: Way) -> Address | KnownNode:
    """The node to use; when it was chosen among several, stderr says which and why."""
    from .modes.choosing import settle

    node, why = await settle(way)
    if why is not None:
        click.echo(why, err=True)
    return node


server_option = click.option(
    "--server", type=SERVER, help="The game server: a name or an address, and its port."
)
proxy_option = click.option(
    "--proxy",
    type=NODE,
    help=f"An open node to go through, without an invite; its port is {NODE_PORT} if left out.",
)
node_option = click.option(
    "--node",
    "node_name",
    metavar="NAME",
    help="The node to go through, by its name in `lightspeed nodes`; left out: the only one"
    " there, else the nearest.",
)
fec_option = click.option(
    "--fec",
    type=FEC,
    help="Loss repair: off; auto, as much as the loss needs; xor:K, one repair packet per K game"
    " packets (2-16); window:N:W, one per N over the newest W. Two of them with a comma: what the"
    " game sends, what the server sends.",
)
budget_option = click.option(
    "--fec-budget-ms",
    type=click.IntRange(*BUDGET_MS),
    help="Milliseconds within which a rebuilt packet is still of use to the game.",
)
cap_option = click.option(
    "--fec-cap",
    type=Checked("KBIT|RATIO", parse_caps),
    help="The most that a conversation may cost each way with its repair: kbit/s such as 200, a"
    " multiple of the game's own such as 1.5x, or both as 1.5x,200.",
)
target_option = click.option(
    "--fec-target",
    type=Percent(*TARGET_PERCENT),
    help="Percent of packets that may be missing or late with auto.",
)


def fec_options(command: Decorated) -> Decorated:
    """--fec and what belongs to it; they come as the arguments of `pick_fec`."""
    for option in (target_option, cap_option, budget_option, fec_option):
        command = option(command)
    return command


class RepairWords(TypedDict):
    """What was typed."""

    fec: str | None
    fec_budget_ms: int | None
    fec_cap: str | None
    fec_target: float | None


def pick_fec(way: Way, tunnel: Tunnel, **typed: Unpack[RepairWords]) -> FecChoice:
    """What was typed, else what the settings say; through an open node auto is off unless typed.

    Raises `click.UsageError` for what an open node cannot do.
    """
    text = typed["fec"] or tunnel.fec
    caps = typed["fec_cap"] or tunnel.fec_cap
    target = typed["fec_target"] or tunnel.fec_target
    choice = parse_fec(
        text,
        budget_ms=typed["fec_budget_ms"] or tunnel.fec_budget_ms,
        target=target / 100,
        caps=parse_caps(caps) if caps else None,
    )
    if isinstance(way, tuple):
        try:
            _ = choice.k
        except ValueError as exc:
            if typed["fec"] is not None:
                raise click.UsageError(f"--fec: {exc}") from None
            return OFF
    return choice


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
