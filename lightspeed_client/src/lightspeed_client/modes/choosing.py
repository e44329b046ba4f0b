"""Finds the nearest of several invited nodes, by a Ping over each one's control connection.

The one with the least round trip is taken, and named. What the way from there to the game server
costs is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import trio
from lightspeed_protocol.errors import LinkDown, Refused, WireError

from ..address import Address, resolve
from ..control_link import Connect, connect, ping
from ..nodes import KnownNode
from ..words import printable

PINGS: Final = 3
PATIENCE_S: Final = 6.0  # for a node that does not answer
GRACE_S: Final = 1.0  # for the others, once one has answered


@attrs.frozen
class Heard:
    """One node's least round trip in seconds, or in one line why there is none."""

    node: KnownNode
    rtt_s: float | None
    problem: str | None = None


async def settle(
    way: Address | list[KnownNode], *, connect: Connect = connect
) -> tuple[Address | KnownNode, str | None]:
    """The node to use, and the words that say why it is this one.

    When none answers it is the first: a client stays up while the network is down.
    """
    if not isinstance(way, list):
        return way, None
    if len(way) == 1:
        return way[0], None
    heard = await ping_all(way, connect=connect)
    chosen = nearest(heard)
    if chosen is None or chosen.rtt_s is None:
        problems = "; ".join(f"{each.node.name}: {each.problem}" for each in heard)
        return way[0], f"none of your nodes answers ({problems}); trying {way[0].name}"
    return chosen.node, explain(chosen, heard)


def nearest(heard: Sequence[Heard]) -> Heard | None:
    """The least round trip; of equals the one added first."""
    answered = [each for each in heard if each.rtt_s is not None]
    return min(answered, key=lambda each: each.rtt_s or 0.0, default=None)


def explain(chosen: Heard, heard: Sequence[Heard]) -> str:
    """Which node it is, and what the others had to offer."""
    others = ", ".join(
        f"{each.node.name} {_ms(each)}" for each in heard if each.node is not chosen.node
    )
    return (
        f"node {chosen.node.name}: the nearest of yours, {_ms(chosen)} ({others});"
        " --node NAME chooses another"
    )


async def ping_all(nodes: Sequence[KnownNode], *, connect: Connect = connect) -> list[Heard]:
    """All at once; results in the order given. Ends soon after the first answer."""
    found: dict[int, Heard] = {}
    with trio.move_on_after(PATIENCE_S) as patience:
        async with trio.open_nursery() as nursery:

            async def one(index: int, node: KnownNode) -> None:
                found[index] = await ping_one(node, connect=connect)
                if found[index].rtt_s is not None:
                    patience.deadline = min(patience.deadline, trio.current_time() + GRACE_S)

            for index, node in enumerate(nodes):
                nursery.start_soon(one, index, node)
    return [
        found.get(index, Heard(node, None, "did not answer in time"))
        for index, node in enumerate(nodes)
    ]


async def ping_one(node: KnownNode, *, connect: Connect = connect) -> Heard:
    """Never raises for the network's sake: trouble is in `problem`."""
    best: float | None = None
    problem = ""
    try:
        address = await resolve((node.host, node.port), ipv4_only=False, what="node")
        async with connect(address, pin=node.pin) as client:
            for _ in range(PINGS):
                rtt_s = await ping(client)
                best = rtt_s if best is None else min(best, rtt_s)
    except* (OSError, LinkDown, Refused, WireError, trio.TooSlowError) as group:
        problem = first_words(group)
    return Heard(node, best) if best is not None else Heard(node, None, problem)


def first_words(group: BaseExceptionGroup[BaseException]) -> str:
    """The first trouble of a group, for the player."""
    exc = group.exceptions[0]
    if isinstance(exc, BaseExceptionGroup):
        return first_words(exc)
    if isinstance(exc, trio.TooSlowError):
        return "takes too long to answer"
    if isinstance(exc, WireError):
        return f"its answer cannot be read ({exc.reason})"
    return printable(str(exc))  # the node may have had the last word


def _ms(heard: Heard) -> str:
    return "no answer" if heard.rtt_s is None else f"{heard.rtt_s * 1000:.1f} ms"
