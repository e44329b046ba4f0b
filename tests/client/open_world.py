"""One client with an open tunnel, its node and the network between them, for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from lightspeed_client.app import RedirectSettings, open_redirect
from lightspeed_client.redirect import Redirect
from trio.testing import wait_all_tasks_blocked

from .fakes import HOME, NODE, SERVER, FakeNet, FakeNode, FakePort

SETTINGS = RedirectSettings(server=SERVER, node=NODE)


@attrs.define(eq=False)
class World:
    net: FakeNet
    node: FakeNode
    node_port: FakePort
    redirect: Redirect

    @property
    def local(self) -> tuple[str, int]:
        return self.redirect.local_addresses[0]

    def state(self) -> str:
        return self.redirect.figures(trio.current_time()).state

    async def say(
        self, game: FakePort, payload: bytes, to: tuple[str, int] | None = None
    ) -> list[bytes]:
        game.send(payload, self.local if to is None else to)
        await wait_all_tasks_blocked()
        return game.take()

    def tunnels(self) -> list[tuple[str, int]]:
        return [address for address in self.net.ports if address[0] == HOME]


@asynccontextmanager
async def open_world(
    settings: RedirectSettings = SETTINGS, node: FakeNode | None = None
) -> AsyncIterator[World]:
    net, node = FakeNet(), FakeNode() if node is None else node
    with net.bind(NODE) as node_port:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, node_port)
            async with open_redirect(settings, bind=net.bind) as redirect:
                yield World(net, node, node_port, redirect)
            nursery.cancel_scope.cancel("test over")
    assert not net.ports, "every socket is closed"
