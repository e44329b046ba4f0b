"""`lightspeed test`: one tunnel end to end, against whatever answers at the game server.

A game server that answers nothing proves nothing: then the test says what it could not show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio
from lightspeed_protocol.runtime.udp import UdpPort

from ..address import Address, write_address
from ..app import RedirectSettings, open_redirect
from ..games import query
from ..redirect import Redirect
from ..tunnel import any_port
from ..words import count
from .asking import KIND_WORDS, Answer, ask
from .checks import Check, failed, passed, skipped

NODE_PATIENCE_S = 3.0


async def run_test(
    settings: RedirectSettings,
    kinds: Sequence[str] | None,
    tell: Callable[[Check], object],
    *,
    wanted: str | None = None,
) -> list[Check]:
    """`kinds`: the questions to try; None tries all. Each finding is told as it is made.

    `wanted`: the kind of answer that counts; None takes any.
    """
    kinds = query.EVERY_KIND if kinds is None else kinds
    checks: list[Check] = []

    def note(check: Check) -> None:
        checks.append(check)
        tell(check)

    settings = attrs.evolve(settings, local_port=0, watched=True)
    async with open_redirect(settings) as redirect:
        answered = await node_answers(redirect)
        note(answered)
        if answered.verdict != "pass" or redirect.server is None:
            return checks
        through, direct = await _ask_both_ways(redirect.local_addresses[0], redirect.server, kinds)
        for check in verdicts(write_address(redirect.server), through, direct, wanted=wanted):
            note(check)
        if through is not None:
            note(_counted(redirect))
    return checks


async def _ask_both_ways(
    local: Address, server: Address, kinds: Sequence[str]
) -> tuple[Answer | None, Answer | None]:
    """Through the tunnel and directly, at the same time, so that both meet the same weather."""
    found: dict[Address, Answer | None] = {}

    async def one(to: Address) -> None:
        with UdpPort.bind(any_port(to)) as game:
            found[to] = await ask(game, to, kinds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, local)
        nursery.start_soon(one, server)
    return found[local], found[server]


async def node_answers(redirect: Redirect) -> Check:
    """Wait for the first keepalive's answer."""
    with trio.move_on_after(NODE_PATIENCE_S):
        await redirect.answered.wait()
    figures = redirect.figures(trio.current_time())
    if redirect.prober.answers:
        return passed("node answers", f"round trip {figures.rtt_ms:.2f} ms")
    return failed("node answers", redirect.why_silent())


def verdicts(
    server: str, through: Answer | None, direct: Answer | None, *, wanted: str | None = None
) -> list[Check]:
    """What the two answers together mean."""
    name = "server through the tunnel"
    if through is not None and wanted is not None and through.kind != wanted:
        return [
            failed(
                name,
                f"an answer came, but not in the protocol of {KIND_WORDS[wanted]}"
                f" ({through.words}): check the server's port, or leave --game out",
            )
        ]
    if through is not None:
        compared = (
            passed("server directly", direct.words)
            if direct is not None
            else skipped(
                "server directly", "no answer without the tunnel, so the two cannot be compared"
            )
        )
        return [passed(name, through.words), compared]
    if direct is not None:
        return [
            failed(
                name,
                f"{server} answers directly but not through the node: the node may not send there"
                " (its destination rules), or the server refuses the node's address",
            ),
            passed("server directly", direct.words),
        ]
    return [
        failed(
            name,
            f"nothing at {server} answered, with the tunnel or without: the server is down, or it"
            " answers no query. The way to it is neither proved nor disproved; start something"
            " that answers there, or name the game with --game",
        )
    ]


def _counted(redirect: Redirect) -> Check:
    totals = redirect.totals()
    sent = count(totals.sent, "packet")
    seen = f"{sent} sent, {totals.received} came back, {totals.repaired} rebuilt"
    return passed("counted", seen)
