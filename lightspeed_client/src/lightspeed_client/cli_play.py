"""Commands that carry a game: play, redirect."""

from __future__ import annotations

import sys
from typing import NoReturn, Unpack

import click

from .address import Address, parse_address
from .cli_options import (
    RepairWords,
    Way,
    fec_options,
    find_game,
    node_option,
    pick_fec,
    pick_server,
    pick_way,
    proxy_option,
    read_games,
    read_settings,
    server_option,
    set_up_logs,
    settle_aloud,
)
from .config import ClientConfig
from .fec_choice import FecChoice

stream_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a second, a final one last."
)


@click.command()
@server_option
@node_option
@proxy_option
@click.option(
    "--local-port",
    type=click.IntRange(0, 65535),
    help="Where the game is to connect on this machine. 0 or none: the server's port number"
    " if it is free here, else any.",
)
@fec_options
@stream_option
@click.pass_context
def redirect(
    ctx: click.Context,
    /,
    server: Address | None,
    node_name: str | None,
    proxy: Address | None,
    local_port: int | None,
    as_json: bool,
    **repair: Unpack[RepairWords],
) -> None:
    """Carry a game that you point at this machine.

    Start it, then connect the game to 127.0.0.1 and the port it shows.
    """
    from .app import pick_local_port

    config = read_settings(ctx)
    way = pick_way(ctx, node_name, proxy, config.node.address)
    where = pick_server(ctx, server, config.redirect.server, way)
    wanted = config.redirect.local_port if local_port is None else local_port
    fec = pick_fec(way, config.tunnel, **repair)
    carry(config, way, where, pick_local_port(wanted, where[1]), fec, as_json=as_json)


@click.command(short_help="Play a known game through a node.")
@click.argument("game_word", metavar="GAME")
@click.option(
    "--server",
    metavar="HOST[:PORT]",
    help="The game server; its port is the game's usual one if left out.",
)
@node_option
@proxy_option
@fec_options
@stream_option
@click.pass_context
def play(
    ctx: click.Context,
    /,
    game_word: str,
    server: str | None,
    node_name: str | None,
    proxy: Address | None,
    as_json: bool,
    **repair: Unpack[RepairWords],
) -> None:
    """Play a game from the list of `lightspeed games` through a node.

    It listens on the game's usual port, says how that game is pointed at it and what its
    anti-cheat makes of that, and carries it as `redirect` does.
    """
    from .app import pick_local_port

    config = read_settings(ctx)
    known = read_games()
    game = find_game(ctx, known, game_word)
    if not game.point:
        raise click.ClickException(
            f"{game.name} cannot be pointed at the tunnel: it picks its servers itself"
        )
    try:
        given = None if server is None else parse_address(server, default_port=game.ports[0])
    except ValueError as exc:
        raise click.UsageError(f"--server: {exc}", ctx) from None
    way = pick_way(ctx, node_name, proxy, config.node.address)
    where = pick_server(ctx, given, config.redirect.server, way)
    fec = pick_fec(way, config.tunnel, **repair)
    click.echo(f"{game.name}, anti-cheat: {known.note(game, 'redirect')}", err=True)
    port = pick_local_port(0, game.local_port)
    carry(config, way, where, port, fec, as_json=as_json, point=game.point)


def carry(
    config: ClientConfig,
    way: Way,
    server: Address,
    local_port: int,
    fec: FecChoice,
    *,
    as_json: bool,
    point: str = "",
) -> NoReturn:
    """Until told to stop; exits with the session's status. `point`: as `games.Game.point`."""
    from lightspeed_protocol.runtime import daemon

    from .app import RedirectSettings
    from .display import pick_view
    from .modes import redirect_mode
    from .paths import state_dir

    set_up_logs()
    session = redirect_mode.Session(
        view=pick_view(as_json=as_json),
        state_dir=state_dir(),
        keep=config.report.keep,
        point=point,
    )

    async def run() -> None:
        settings = RedirectSettings(
            server=server,
            node=await settle_aloud(way),
            local_port=local_port,
            fec=fec,
            keepalive_s=config.tunnel.keepalive_ms / 1000,
            idle_s=config.tunnel.idle_timeout_s,
            watched=True,
        )
        await redirect_mode.run(settings, session)

    sys.exit(daemon.run(run))
