"""A node and the two ports in front of it, which its clients are told and a relay listens on.

They come before the node, because it must know what to tell. A site may outlive a match: the
demo plays both at one node, with one invite.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Literal

import attrs
from lightspeed_protocol.runtime.udp import UdpPort

from ..address import Address
from ..nodes import KnownNode
from .home import Doors, NodeLimits
from .node import NodeProcess, open_node

LOOPBACK: Final = ("127.0.0.1", 0)

# sealed: as players have it, registering with an invite over QUIC. open: header versions 1 and 2,
# a node that takes anyone.
Tunnel = Literal["sealed", "open"]


@attrs.define(eq=False)
class Site:
    """`data` and `control` are where a client reaches `node`, through a relay."""

    node: NodeProcess
    data: UdpPort
    control: UdpPort | None  # an open node is not registered at

    def for_client(self) -> Address | KnownNode:
        """The node as a client knows it: by its invite, or by an address."""
        invite = self.node.invite
        if invite is None:
            return self.data.address
        return KnownNode(
            name=invite.name,
            host=invite.host,
            port=invite.port,
            pin=invite.pin,
            token=invite.token,
        )


@asynccontextmanager
async def open_site(limits: NodeLimits, tunnel: Tunnel) -> AsyncIterator[Site]:
    """Raises `WorldBroken` when the node cannot be had, and `OSError` without a socket."""
    async with AsyncExitStack() as stack:
        data = stack.enter_context(UdpPort.bind(LOOPBACK))
        control = doors = None
        if tunnel == "sealed":
            control = stack.enter_context(UdpPort.bind(LOOPBACK))
            doors = Doors(data=data.address, control=control.address)
        node = await stack.enter_async_context(open_node(limits, doors))
        yield Site(node, data, control)
