"""`lightspeed live-test`: every part of the tunnel against a real node, pass or fail each.

With an echo server of our own (loopback, so the node must run here with --dev) contents and
sizes are checked too; without, the game server's own answers must do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio
from lightspeed_protocol.runtime.udp import Port, UdpPort

from ..address import Address
from ..app import RedirectSettings, open_redirect
from ..fec_choice import parse_fec
from ..games import query
from ..nodes import KnownNode
from ..redirect import Redirect
from ..words import count
from .asking import ask
from .checks import Check, failed, passed, skipped
from .tunnel_test import node_answers

SIZES: Final = (1, 100, 508, 1200, 1400)
BURST: Final = 64  # packets, a second of a game
QUIET_S: Final = 1.2  # several keepalives long
ANSWER_S: Final = 1.0
ENOUGH: Final = 0.8  # of the burst: a lossy path is no broken tunnel


async def run_live_test(
    settings: RedirectSettings, *, echo: bool, tell: Callable[[Check], object]
) -> list[Check]:
    """Plain, then with loss repair. With `echo`, `settings.server` is not used."""
    checks: list[Check] = []

    def note(check: Check) -> None:
        checks.append(check)
        tell(check)

    async with _echo_server(echo) as echo_address:
        if echo_address is not None:
            settings = attrs.evolve(settings, server=echo_address)
        labels = [("plain", "off"), ("xor:4", "xor:4")]
        if isinstance(settings.node, KnownNode):
            labels.append(("auto", "auto"))
        for label, fec in labels:
            used = attrs.evolve(settings, fec=parse_fec(fec), local_port=0, watched=True)
            async with open_redirect(used) as redirect:
                answered = await node_answers(redirect)
                note(attrs.evolve(answered, name=f"{label}: node answers"))
                if answered.verdict != "pass":
                    return checks
                with UdpPort.bind(("127.0.0.1", 0)) as game, UdpPort.bind(("127.0.0.1", 0)) as two:
                    await _check_tunnel(redirect, game, two, label, echo, note)
            note(_ended(redirect, label))
    return checks


async def _check_tunnel(
    redirect: Redirect,
    game: Port,
    second: Port,
    label: str,
    echo: bool,
    note: Callable[[Check], object],
) -> None:
    local = redirect.local_addresses[0]
    answer = await ask(game, local, ("none",) if echo else query.EVERY_KIND)
    if answer is None:
        hint = (
            "run the node on this machine with --dev: others refuse loopback destinations"
            if echo
            else "check the server and the node's destination rules (`lightspeed test` says more)"
        )
        note(failed(f"{label}: there and back", f"the game server did not answer: {hint}"))
        return
    note(passed(f"{label}: there and back", answer.words))

    other = await ask(second, local, (answer.asked,))
    name = f"{label}: two game sockets at once"
    if other is None:
        note(failed(name, "the second local socket got no answer"))
    else:
        note(passed(name, f"{count(len(redirect.table.flows), 'flow')}, each with its own answers"))

    if echo:
        note(await _sizes(game, local, label))
        note(await _burst(game, local, label))
    else:
        note(skipped(f"{label}: sizes and contents", "needs --echo, and a node here with --dev"))
    if len(redirect.local_addresses) > 1:
        with UdpPort.bind(("::1", 0)) as six:
            sixth = await ask(six, redirect.local_addresses[1], (answer.asked,))
        name = f"{label}: a game on ::1"
        note(passed(name, sixth.words) if sixth else failed(name, "no answer"))
    note(await _quiet(redirect, game, label))


async def _sizes(game: Port, local: Address, label: str) -> Check:
    name = f"{label}: sizes and contents"
    for size in SIZES:
        payload = bytes(index * 7 & 255 for index in range(size))
        if not await _comes_back(game, local, payload):
            return failed(name, f"a payload of {size} bytes did not come back unchanged")
    return passed(name, f"{', '.join(map(str, SIZES))} bytes came back unchanged")


async def _comes_back(game: Port, local: Address, payload: bytes) -> bool:
    for _ in range(3):
        game.send(payload, local)
        with trio.move_on_after(ANSWER_S):
            while True:
                if any(datagram == payload for datagram, _ in await game.receive()):
                    return True
    return False


async def _burst(game: Port, local: Address, label: str) -> Check:
    name = f"{label}: a second of play"
    expected = {b"burst %d" % number for number in range(BURST)}
    came: list[bytes] = []
    complete = trio.Event()

    async def hear() -> None:
        while len(came) < BURST:
            came.extend(d for d, _ in await game.receive() if d in expected)
        complete.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        for number in range(BURST):
            game.send(b"burst %d" % number, local)
            await trio.sleep(1 / BURST)
        with trio.move_on_after(ANSWER_S):
            await complete.wait()
        nursery.cancel_scope.cancel("heard enough")
    twice = len(came) - len(set(came))
    seen = f"{len(set(came))} of {BURST} came back, {twice} twice"
    good = len(set(came)) >= ENOUGH * BURST and not twice
    return passed(name, seen) if good else failed(name, f"{seen}: the path loses too much")


async def _quiet(redirect: Redirect, game: Port, label: str) -> Check:
    """Keepalives go on meanwhile; the game must not see one."""
    name = f"{label}: keepalives stay out of the game"
    before = redirect.prober.answers
    unwanted = 0
    with trio.move_on_after(QUIET_S):
        while True:
            batch = await game.receive()
            unwanted += sum(1 for datagram, _ in batch if len(datagram) < 4)
    answers = redirect.prober.answers - before
    if unwanted:
        return failed(name, f"{count(unwanted, 'packet')} came that no server sent")
    if not answers:
        return failed(name, "no keepalive was answered meanwhile: the node went silent")
    return passed(name, f"{answers} answered, none reached the game")


def _ended(redirect: Redirect, label: str) -> Check:
    name = f"{label}: clean end"
    left = len(redirect.table.flows)
    if left:
        return failed(name, f"still open: {count(left, 'flow')}")
    said = (
        "the node confirmed"
        if redirect.fins_answered
        else "the node confirmed none (original nodes never do)"
    )
    return passed(name, f"FIN sent for {count(redirect.table.opened, 'flow')}, {said}")


@asynccontextmanager
async def _echo_server(wanted: bool) -> AsyncIterator[Address | None]:
    if not wanted:
        yield None
        return
    with UdpPort.bind(("127.0.0.1", 0)) as port:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_echo, port)
            yield port.address
            nursery.cancel_scope.cancel("test over")


async def _echo(port: Port) -> None:
    while True:
        for payload, source in await port.receive():
            port.send(payload, source)
