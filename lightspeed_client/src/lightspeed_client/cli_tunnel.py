"""Commands that use a node: redirect, probe, test, live-test."""

from __future__ import annotations

import sys

import click

from .address import Address
from .cli_options import (
    NODE,
    Fec,
    find_game,
    json_option,
    pick_node,
    pick_server,
    proxy_option,
    read_games,
    read_settings,
    run_checks,
    server_option,
    set_up_logs,
)
from .echo import say
from .fec_choice import parse_fec


@click.command()
@server_option
@proxy_option
@click.option(
    "--local-port",
    type=click.IntRange(0, 65535),
    help="Where the game is to connect on this machine. 0 or none: the server's port number"
    " if it is free here, else any.",
)
@click.option("--fec", type=Fec(), help="Loss repair: off, or one repair packet per K (2-16).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a second, a final one last.")
@click.pass_context
def redirect(
    ctx: click.Context,
    server: Address | None,
    proxy: Address | None,
    local_port: int | None,
    fec: str | None,
    as_json: bool,
) -> None:
    """Carry a game that you point at this machine.

    Start it, then connect the game to 127.0.0.1 and the port it shows.
    """
    from lightspeed_protocol.runtime import daemon

    from .app import RedirectSettings, pick_local_port
    from .display import pick_view
    from .modes import redirect_mode
    from .paths import state_dir

    config = read_settings(ctx)
    where = pick_server(ctx, server, config.redirect.server)
    settings = RedirectSettings(
        server=where,
        node=pick_node(ctx, proxy, config.node.address),
        local_port=pick_local_port(
            config.redirect.local_port if local_port is None else local_port, where[1]
        ),
        fec_k=parse_fec(fec or config.tunnel.fec),
        keepalive_s=config.tunnel.keepalive_ms / 1000,
        idle_s=config.tunnel.idle_timeout_s,
        watched=True,
    )
    set_up_logs()
    session = redirect_mode.Session(
        view=pick_view(as_json=as_json), state_dir=state_dir(), keep=config.report.keep
    )
    sys.exit(daemon.run(redirect_mode.run, settings, session))


@click.command(short_help="Measure round trips to nodes.")
@click.argument("nodes", nargs=-1, type=NODE)
@click.option("--count", type=click.IntRange(1, 1000), default=10, help="Keepalives to each.")
@json_option
@click.pass_context
def probe(ctx: click.Context, nodes: tuple[Address, ...], count: int, as_json: bool) -> None:
    """Measure round trips to nodes with keepalives; without NODES, to yours."""
    import json

    from lightspeed_protocol.runtime import daemon

    from .modes.proxy_probe import probe_all

    if not nodes:
        configured = read_settings(ctx).node.address
        nodes = (pick_node(ctx, None, configured, how="NODES, as in `lightspeed probe HOST`"),)

    async def measure() -> None:
        results = await probe_all(list(nodes), count=count)
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
@proxy_option
@click.option("--fec", type=Fec(), default="off", show_default=True, help="off or xor:K.")
@click.option("--game", "game_word", help="Ask in this game's way only (see `lightspeed games`).")
@json_option
@click.pass_context
def test(
    ctx: click.Context,
    server: Address | None,
    proxy: Address | None,
    fec: str,
    game_word: str | None,
    as_json: bool,
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
    settings = RedirectSettings(
        server=pick_server(ctx, server, config.redirect.server),
        node=pick_node(ctx, proxy, config.node.address),
        fec_k=parse_fec(fec),
    )
    run_checks(lambda tell: run_test(settings, kinds, tell, wanted=wanted), as_json=as_json)


@click.command("live-test", short_help="Try every part of the tunnel; pass or fail each.")
@server_option
@proxy_option
@click.option(
    "--echo",
    is_flag=True,
    help="Start an echo server on loopback and use that; the node must run here with --dev.",
)
@json_option
@click.pass_context
def live_test(
    ctx: click.Context, server: Address | None, proxy: Address | None, echo: bool, as_json: bool
) -> None:
    """Try every part of the tunnel against a node; pass or fail each."""
    from .app import RedirectSettings
    from .modes.live_test import run_live_test

    if echo and server is not None:
        raise click.UsageError("--echo brings its own server: leave --server out", ctx)
    config = read_settings(ctx)
    settings = RedirectSettings(
        server=("127.0.0.1", 9) if echo else pick_server(ctx, server, config.redirect.server),
        node=pick_node(ctx, proxy, config.node.address),
    )
    run_checks(lambda tell: run_live_test(settings, echo=echo, tell=tell), as_json=as_json)
