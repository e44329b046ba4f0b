"""Asks a game server a question over a socket, directly or through the tunnel, and times it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import trio
from lightspeed_protocol.rtt import percentile
from lightspeed_protocol.runtime.udp import Port

from ..address import Address
from ..games import query

PATIENCE_S: Final = 1.0  # for one answer
TRIES: Final = 3  # of each question, because one may be lost
SAMPLES: Final = 5
PAUSE_S: Final = 0.25  # between samples: Quake 3 servers answer about ten a second

KIND_WORDS: Final = {
    "a2s": "a Source game server",
    "quake3": "a Quake 3 family server",
    "raknet": "a RakNet server (Minecraft Bedrock or alike)",
    "teeworlds": "a Teeworlds server",
    "luanti": "a Luanti server",
    "none": "an echo",
}


@attrs.frozen
class Answer:
    """`kind` is what answered; None for something unknown, whose answer still proves the way."""

    kind: str | None
    asked: str
    rtts_s: tuple[float, ...]
    asked_times: int

    @property
    def words(self) -> str:
        who = "something" if self.kind is None else KIND_WORDS[self.kind]
        return (
            f"{who} answered {len(self.rtts_s)} of {self.asked_times},"
            f" median {percentile(self.rtts_s, 0.5) * 1000:.1f} ms"
        )


async def ask(port: Port, to: Address, kinds: Sequence[str]) -> Answer | None:
    """Find a question that is answered, then time it; None when none is."""
    for _ in range(TRIES):
        for kind in kinds:
            found = await _once(port, to, query.question(kind), PATIENCE_S / len(kinds))
            if found is None:
                continue
            # what answers late may answer an earlier question: believe the answer's own look
            answer = found[1]
            echoed = next((k for k in kinds if query.question(k) == answer), None)
            known = "none" if echoed is not None else query.recognise(answer)
            asked = echoed if echoed is not None else known if known in kinds and known else kind
            return await _time(port, to, asked, known)
    return None


async def _time(port: Port, to: Address, asked: str, kind: str | None) -> Answer | None:
    rtts = []
    await _drain(port)
    for _ in range(SAMPLES):
        found = await _once(port, to, query.question(asked), PATIENCE_S)
        if found is not None:
            rtt_s, answer = found
            rtts.append(rtt_s)
            farewell = query.goodbye(asked, answer)
            if farewell is not None and kind == asked:
                port.send(farewell, to)
        await trio.sleep(PAUSE_S)
        await _drain(port)
    return Answer(kind, asked, tuple(rtts), SAMPLES) if rtts else None


async def _once(
    port: Port, to: Address, question: bytes, patience_s: float
) -> tuple[float, bytes] | None:
    sent_at = trio.current_time()
    port.send(question, to)
    with trio.move_on_after(patience_s):
        while True:
            for datagram, source in await port.receive():
                if source == to:
                    return trio.current_time() - sent_at, datagram
    return None


async def _drain(port: Port) -> None:
    """Throw away answers that are late."""
    with trio.move_on_after(0.01):
        while True:
            await port.receive()
