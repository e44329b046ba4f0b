"""A whole world on loopback, composed: game server, nodes, bad links, clients, players.

    bot --> client (in this process) ==> relay with weather ==> node (child) --> game server

Each node has its own client, and one bad link between them that carries the tunnel and the control
connection; players are dealt to the nodes in turn. Everything is numbered and seeded by player, so
two worlds that differ only in loss repair lose the same packets.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, get_args

import attrs
import trio
from attrs.validators import ge, gt, in_, le
from lightspeed_protocol.errors import Refused
from lightspeed_protocol.runtime.udp import UdpPort

from ..app import RedirectSettings, open_redirect
from ..fec_choice import OFF, FecChoice
from ..redirect import Redirect
from .game import MAX_PLAYERS, TICKS_PER_S, GameServer, Player, label_of, serve_game
from .home import NodeLimits
from .impair import ImpairedRelay, Links, open_relay
from .node import WorldBroken
from .packets import read_quic
from .player import Bot, play
from .sites import LOOPBACK, Site, Tunnel, open_site
from .weather import Weather

STAGGER_S: Final = 0.02  # between the players' first inputs, so that lanes keep their order
SETTLE_S: Final = 0.3  # after the last packet, for what is in the air
REGISTER_S: Final = 15.0  # enough for three connections that fail; half of all packets may be lost


@attrs.frozen(kw_only=True)
class WorldSettings:
    """`up` is the weather from client to node, `down` the way back."""

    up: Weather = attrs.field(factory=Weather)
    down: Weather = attrs.field(factory=Weather)
    fec: FecChoice = OFF
    players: int = attrs.field(default=1, validator=[ge(1), le(MAX_PLAYERS)])
    nodes: int = attrs.field(default=1, validator=[ge(1), le(8)])
    pps: float = attrs.field(default=TICKS_PER_S, validator=[gt(0.0), le(2000.0)])
    seed: int = 1
    tunnel: Tunnel = attrs.field(default="sealed", validator=in_(get_args(Tunnel)))

    def limits(self) -> NodeLimits:
        """Half as much again as the load with a repair for each packet, and the largest packets."""
        usual = NodeLimits()
        # A sealed tunnel carries all its players in one session, an open one a session for each.
        players, clients = (
            (-(-self.players // self.nodes), 1) if self.tunnel == "sealed" else (1, self.players)
        )
        pps = round(self.pps * 3) * players  # in each direction
        return NodeLimits(
            max_clients=clients + 2,
            max_flows_per_client=max(usual.max_flows_per_client, players + 2),
            max_pps_per_client=max(usual.max_pps_per_client, pps),
            max_bps_per_client=max(usual.max_bps_per_client, pps * 600),
        )

    def settle_s(self) -> float:
        """How long the last packet may still be on its way."""
        slowest = 0.0
        for weather in (self.up, self.down):
            wait = weather.delay_s + weather.jitter_s + weather.reorder_s
            if weather.rate_bps is not None:
                wait += weather.queue_bytes / weather.rate_bps
            slowest = max(slowest, wait)
        return min(SETTLE_S + slowest, 5.0)


@attrs.define(eq=False)
class World:
    """A world that stands; `play` runs one match in it."""

    settings: WorldSettings
    game: GameServer
    sites: list[Site]
    links: list[Links]  # one to each node
    relays: list[ImpairedRelay]  # of the data ports
    control_relays: list[ImpairedRelay]  # none with an open tunnel
    redirects: list[Redirect]
    _nursery: trio.Nursery
    _sockets: AsyncExitStack
    bots: list[Bot] = attrs.field(factory=list)
    began: float | None = None
    ended: float | None = None

    def seconds(self) -> float:
        """How long the match has run, or ran."""
        if self.began is None:
            return 0.0
        now = time.monotonic() if self.ended is None else self.ended
        return max(0.0, now - self.began)

    def player(self, who: int) -> Player | None:
        """What the game server knows of a player."""
        known = [*self.game.players.values(), *self.game.left]
        return next((player for player in known if player.who == who), None)

    async def play(self, seconds: float, *, stop: trio.Event | None = None) -> None:
        """One match; ends early when `stop` is set."""
        await self._join()
        assert self.began is not None
        stop = trio.Event() if stop is None else stop
        with trio.move_on_after(max(0.0, self.began + seconds - time.monotonic())):
            await stop.wait()
        self.ended = time.monotonic()
        self.game.stopped = True
        for bot in self.bots:
            bot.stopped = True
        await trio.sleep(self.settings.settle_s())
        for bot in self.bots:
            bot.states.close(self.ended)

    async def _join(self) -> None:
        settings = self.settings
        self.began = time.monotonic() + 0.05
        for links in self.links:
            links.begin(self.began)
        for who in range(settings.players):
            port = self._sockets.enter_context(UdpPort.bind(LOOPBACK))
            start = self.began + who * STAGGER_S
            bot = Bot(settings.seed, start, who, settings.pps)
            self.bots.append(bot)
            entry = self.redirects[who % len(self.redirects)].local_addresses[0]
            await self._nursery.start(play, bot, port, entry)


@asynccontextmanager
async def open_sites(settings: WorldSettings) -> AsyncIterator[list[Site]]:
    """The nodes alone. Raises `WorldBroken` (inside an exception group once the first stands)."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_site(settings.limits(), settings.tunnel))
            for _ in range(settings.nodes)
        ]


@asynccontextmanager
async def open_world(
    settings: WorldSettings, sites: list[Site] | None = None
) -> AsyncIterator[World]:
    """Everything up and the client carrying; all of it ended when the body is left.

    `sites` are nodes that stand already, made for the same settings but for the loss repair.
    Raises `WorldBroken` (inside an exception group once the world stands).
    """
    game = GameServer(settings.seed, settings.pps)
    async with AsyncExitStack() as stack:
        game_port = stack.enter_context(UdpPort.bind(LOOPBACK))
        players_sockets = await stack.enter_async_context(AsyncExitStack())
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(serve_game, game, game_port)
        if sites is None:
            sites = await stack.enter_async_context(open_sites(settings))
        world = World(
            settings=settings,
            game=game,
            sites=sites,
            links=[],
            relays=[],
            control_relays=[],
            redirects=[],
            nursery=nursery,
            sockets=players_sockets,
        )
        for number, site in enumerate(sites):
            links = Links.make(settings.up, settings.down, f"{settings.seed}/{number}")
            world.links.append(links)
            relay = open_relay(site.data, site.node.data, links, label_of=label_of)
            world.relays.append(await stack.enter_async_context(relay))
            if site.control is not None:
                relay = open_relay(site.control, site.node.control, links, read=read_quic)
                world.control_relays.append(await stack.enter_async_context(relay))
            client = RedirectSettings(
                server=game_port.address,
                node=site.for_client(),
                fec=settings.fec,
                watched=True,
            )
            world.redirects.append(await stack.enter_async_context(_open_client(client)))
        yield world
        nursery.cancel_scope.cancel("world ends")


@asynccontextmanager
async def _open_client(settings: RedirectSettings) -> AsyncIterator[Redirect]:
    """The client, once it carries: with an invite that is when it has a session."""
    try:
        async with open_redirect(settings) as redirect:
            if redirect.control is not None:
                with trio.move_on_after(REGISTER_S):
                    await redirect.control.settled.wait()
                if redirect.control.grant is None:
                    raise WorldBroken(
                        "the client could not register at its node, so there was no match: is the"
                        f" loss near 100 %? It says: {redirect.control.problem or 'no answer'}"
                    )
            yield redirect
    except Refused as exc:
        raise WorldBroken(f"the lab's own node refused its client: {exc}") from None
