"""A whole world on loopback, composed: game server, nodes, bad links, clients, players.

    bot --> client (in this process) ==> relay with weather ==> node (child) --> game server

Each node has its own relay and client; players are dealt to them in turn. Everything is
numbered and seeded by player, so two worlds that differ only in loss repair lose the same packets.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import attrs
import trio
from attrs.validators import ge, gt, le
from lightspeed_protocol.runtime.udp import UdpPort

from ..app import RedirectSettings, open_redirect
from ..redirect import Redirect
from .game import MAX_PLAYERS, TICKS_PER_S, GameServer, Player, label_of, serve_game
from .impair import ImpairedRelay, open_relay
from .node import NodeLimits, NodeProcess, open_node
from .player import Bot, play
from .weather import Weather

LOOPBACK: Final = ("127.0.0.1", 0)
STAGGER_S: Final = 0.02  # between the players' first inputs, so that lanes keep their order
SETTLE_S: Final = 0.3  # after the last packet, for what is in the air


@attrs.frozen(kw_only=True)
class WorldSettings:
    """`up` is the weather from client to node, `down` the way back."""

    up: Weather = attrs.field(factory=Weather)
    down: Weather = attrs.field(factory=Weather)
    fec_k: int | None = None
    players: int = attrs.field(default=1, validator=[ge(1), le(MAX_PLAYERS)])
    nodes: int = attrs.field(default=1, validator=[ge(1), le(8)])
    pps: float = attrs.field(default=TICKS_PER_S, validator=[gt(0.0), le(2000.0)])
    seed: int = 1

    def limits(self) -> NodeLimits:
        """Half as much again as the load with repair packets and the largest packets."""
        usual = NodeLimits()
        pps = round(self.pps * 2.5)  # both directions draw from one player's packets
        return NodeLimits(
            max_clients=max(usual.max_clients, self.players + 2),
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
    nodes: list[NodeProcess]
    relays: list[ImpairedRelay]
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
        for relay in self.relays:
            relay.begin(self.began)
        for who in range(settings.players):
            port = self._sockets.enter_context(UdpPort.bind(LOOPBACK))
            start = self.began + who * STAGGER_S
            bot = Bot(settings.seed, start, who, settings.pps)
            self.bots.append(bot)
            entry = self.redirects[who % len(self.redirects)].local_addresses[0]
            await self._nursery.start(play, bot, port, entry)


@asynccontextmanager
async def open_world(settings: WorldSettings) -> AsyncIterator[World]:
    """Everything up and the path answering; all of it ended when the body is left.

    Raises `WorldBroken` (inside an exception group once the world stands).
    """
    game = GameServer(settings.seed, settings.pps)
    async with AsyncExitStack() as stack:
        game_port = stack.enter_context(UdpPort.bind(LOOPBACK))
        players_sockets = await stack.enter_async_context(AsyncExitStack())
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(serve_game, game, game_port)
        nodes, relays, redirects = [], [], []
        for number in range(settings.nodes):
            node = await stack.enter_async_context(open_node(settings.limits()))
            relay = await stack.enter_async_context(
                open_relay(
                    node.data,
                    up=settings.up,
                    down=settings.down,
                    seed=f"{settings.seed}/{number}",
                    label_of=label_of,
                )
            )
            client = RedirectSettings(
                server=game_port.address, node=relay.address, fec_k=settings.fec_k, watched=True
            )
            redirects.append(await stack.enter_async_context(open_redirect(client)))
            nodes.append(node)
            relays.append(relay)
        yield World(settings, game, nodes, relays, redirects, nursery, players_sockets)
        nursery.cancel_scope.cancel("world ends")
