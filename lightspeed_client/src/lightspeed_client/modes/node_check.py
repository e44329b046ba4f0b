"""`lightspeed nodes --check`, and the part of `doctor`: is an invited node there, is it the one of
the invite, and would it carry?

Registers for a moment, asks, and says goodbye; a session that runs meanwhile is not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import trio
from lightspeed_protocol.control import Disconnect, ServerInfo
from lightspeed_protocol.errors import LinkDown, Refused, WireError

from .. import __version__
from ..address import resolve
from ..control_link import Connect, connect, exchange, find_data, ping
from ..nodes import KnownNode
from ..session import Grant, read_grant, register_message
from .choosing import first_words


@attrs.frozen(kw_only=True)
class NodeFinding:
    """`problem` says in one line why the node cannot be used, and what to do."""

    name: str
    usable: bool
    problem: str | None = None
    rtt_ms: float | None = None
    node_id: str | None = None
    region: str | None = None
    visible: str | None = None  # what game servers see
    ipv6_inside: bool | None = None
    load_pct: int | None = None
    refused: bool = False  # by the node, for good

    def to_json(self) -> dict[str, Any]:
        record = attrs.asdict(self)
        if self.rtt_ms is not None:
            record["rtt_ms"] = round(self.rtt_ms, 3)
        return record

    def line(self) -> str:
        if not self.usable:
            return f"{self.name}: not usable: {self.problem}"
        parts = [f"{self.name}: usable, round trip {self.rtt_ms or 0:.1f} ms, {self.node_id}"]
        if self.region:
            parts.append(f"in {self.region}")
        if self.load_pct is not None:
            parts.append(f"load {self.load_pct} %")
        if self.visible:
            parts.append(f"game servers see {self.visible}")
        return ", ".join(parts)


async def check_node(node: KnownNode, *, connect: Connect = connect) -> NodeFinding:
    """Never raises for the network's sake."""
    finding = NodeFinding(name=node.name, usable=False, problem="no answer")
    try:
        address = await resolve((node.host, node.port), ipv4_only=False, what="node")
        async with connect(address, pin=node.pin) as client:
            rtt_s = await ping(client)
            ask = register_message(token=node.token, resume=None, client=__version__)
            grant = read_grant(await exchange(client, ask), name=node.name, host=address[0])
            told = await exchange(client, ServerInfo(0, 0, 0))
            await exchange(client, Disconnect())
            await find_data(grant, address, name=node.name)
        finding = _usable(node, grant, rtt_s, told if isinstance(told, ServerInfo) else None)
    except* (OSError, LinkDown, Refused, WireError, trio.TooSlowError) as group:
        if not finding.usable:
            finding = attrs.evolve(
                finding, problem=first_words(group), refused=group.subgroup(Refused) is not None
            )
    return finding


async def check_nodes(
    nodes: Sequence[KnownNode], *, connect: Connect = connect
) -> list[NodeFinding]:
    """All at once; results in the order given."""
    found: dict[int, NodeFinding] = {}

    async def one(index: int, node: KnownNode) -> None:
        found[index] = await check_node(node, connect=connect)

    async with trio.open_nursery() as nursery:
        for index, node in enumerate(nodes):
            nursery.start_soon(one, index, node)
    return [found[index] for index in range(len(nodes))]


def _usable(node: KnownNode, grant: Grant, rtt_s: float, info: ServerInfo | None) -> NodeFinding:
    return NodeFinding(
        name=node.name,
        usable=True,
        rtt_ms=rtt_s * 1000,
        node_id=grant.node_id,
        region=grant.region,
        visible=grant.visible,
        ipv6_inside=grant.ipv6_inside,
        load_pct=None if info is None else info.load_pct,
    )
