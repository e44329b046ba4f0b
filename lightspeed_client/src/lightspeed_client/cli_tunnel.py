"""Commands that try a node: probe, test, live-test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

import click

from .address import Address
from .cli_options import (
    NODE,
    RepairWords,
    fec_options,
    find_game,
    json_option,
    node_option,
    pick_fec,
    pick_server,
    pick_way,
    proxy_option,
    read_games,
    read_settings,
    run_checks,
    server_option,
    settle_aloud,
)
from .echo import say

if TYPE_CHECKING:
    from .modes.checks import Check
    from .nodes import KnownNode


@click.command(short_help="Measure round trips to nodes.")
@click.argument("nodes", nargs=-1, type=NODE)
@node_option
@click.option("--count", type=click.IntRange(1, 1000), default=10, help="Keepalives to each.")
@json_option
@click.pass_context
def probe(
    ctx: click.Context,
    nodes: tuple[Address, ...],
    node_name: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Measure round trips to nodes with keepalives; without NODES, to yours.

    NODES are open nodes by their address. Yours are asked over their control connection too.
    """
    import json

    from lightspeed_protocol.runtime import daemon

    from .modes.proxy_probe import probe_all

    if nodes and node_name is not None:
        raise click.UsageError("give NODES or --node, not both", ctx)
    known: list[KnownNode] = []
    if not nodes:
        configured = read_settings(ctx).node.address
        how = "give NODES, as in `lightspeed probe HOST`, to measure"
        way = pick_way(ctx, node_name, None, configured, how=how)
        if isinstance(way, list):
            known = way
        else:
            nodes = (way,)

    async def measure() -> None:
        results = await probe_all([*nodes, *known], count=count)
        if as_json:
            say(json.dumps([result.to_json() for result in results]))
        else:
            for result in results:
                say(result.line())
        if any(result.problem is not None for result in results):
            raise SystemExit(1)

    sys.exit(daemon.run(measure))


@click.command()
@server_option
@node_option
@proxy_option
@fec_options
@click.option("--game", "game_word", help="Ask in this game's way only (see `lightspeed games`).")
@json_option
@click.pass_context
def test(
    ctx: click.Context,
    /,
    server: Address | None,
    node_name: str | None,
    proxy: Address | None,
    game_word: str | None,
    as_json: bool,
    **repair: Unpack[RepairWords],
) -> None:
    """Try one tunnel end to end, against what answers at the server."""
    from .app import RedirectSettings
    from .modes.tunnel_test import run_test

    config = read_settings(ctx)
    kinds = wanted = None
    if game_word is not None:
        query = find_game(ctx, read_games(), game_word).query
        kinds = (query,)
        wanted = None if query == "none" else query  # no known protocol: any answer will do
    way = pick_way(ctx, node_name, proxy, config.node.address)
    where = pick_server(ctx, server, config.redirect.server, way)
    fec = pick_fec(way, config.tunnel, **repair)

    async def try_it(tell: Callable[[Check], object]) -> list[Check]:
        node = await settle_aloud(way)
        settings = RedirectSettings(server=where, node=node, fec=fec)
        return await run_test(settings, kinds, tell, wanted=wanted)

    run_checks(try_it, as_json=as_json)


@click.command("live-test", short_help="Try every part of the tunnel; pass or fail each.")
@server_option
@node_option
@proxy_option
@click.option(
    "--echo",
    is_flag=True,
    help="Start an echo server on loopback and use that; the node must run here with --dev.",
)
@json_option
@click.pass_context
def live_test(
    ctx: click.Context,
    server: Address | None,
    node_name: str | None,
    proxy: Address | None,
    echo: bool,
    as_json: bool,
) -> None:
    """Try every part of the tunnel against a node; pass or fail each."""
    from .app import RedirectSettings
    from .modes.live_test import run_live_test

    if echo and server is not None:
        raise click.UsageError("--echo brings its own server: leave --server out", ctx)
    config = read_settings(ctx)
    way = pick_way(ctx, node_name, proxy, config.node.address)
    where = ("127.0.0.1", 9) if echo else pick_server(ctx, server, config.redirect.server, way)

    async def try_it(tell: Callable[[Check], object]) -> list[Check]:
        settings = RedirectSettings(server=where, node=await settle_aloud(way))
        return await run_live_test(settings, echo=echo, tell=tell)

    run_checks(try_it, as_json=as_json)
