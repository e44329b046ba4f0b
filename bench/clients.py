"""Clients that register over QUIC, in a process of their own.

    python -m bench.clients crowd CONTROL_PORT COUNT AT_ONCE [TOKEN_HEX]
    python -m bench.clients storm CONTROL_PORT AT_ONCE

`crowd` connects and registers COUNT clients, AT_ONCE at a time, each patient for `PATIENCE_S` as a
real one is; says what it took as JSON, keeps all connections, and leaves when its input ends.
`storm` reads `1` and `0` from its input: while it is 1, AT_ONCE tasks connect, register and leave
as fast as they can. Says its counts when its input ends.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from functools import partial
from typing import Final

import attrs
import trio
from lightspeed_protocol.control import FrameReader, encode, frame
from lightspeed_protocol.control_messages import Register, RegisterAck
from lightspeed_protocol.errors import LightSpeedError
from lightspeed_protocol.extensions import (
    Feature,
    RegisterExtensions,
    decode_ack,
    encode_register,
)
from lightspeed_protocol.runtime.quic_client import QuicClient, open_client
from lightspeed_protocol.runtime.udp import UdpPort
from lightspeed_protocol.seal import VERSION_SEALED, SealedEnd

PATIENCE_S: Final = 30.0
HOSTS: Final = 16  # addresses 127.0.0.2 and on that the clients come from, as players would


def local(number: int) -> tuple[str, int]:
    return f"127.0.0.{2 + number % HOSTS}", 0


def from_host(number: int, _there: tuple[str, int]) -> UdpPort:
    return UdpPort.bind(local(number))


async def register(client: QuicClient, token: bytes | None = None) -> tuple[int, bytes]:
    """Id and key of a sealed session, asked for as `lightspeed` does.

    Raises `LightSpeedError` when refused.
    """
    wanted = RegisterExtensions(
        credential=token,
        versions=(VERSION_SEALED,),
        client="bench",
        features=(Feature.NODE_STREAM,),
    )
    question = Register(1, 0, encode_register(wanted))
    (answer,) = FrameReader().feed(
        await client.request(frame(encode(question)), timeout_s=PATIENCE_S)
    )
    if not isinstance(answer, RegisterAck):
        raise LightSpeedError(f"refused: {answer}")
    key = decode_ack(answer.extensions).key
    assert key is not None
    return answer.session_id, key


async def register_once(control_port: int) -> SealedEnd:
    """Register and hang up; the session waits for its client, who goes on by UDP alone."""
    async with open_client(("127.0.0.1", control_port), pin=None) as client:
        return SealedEnd.client(*await register(client))


@attrs.define(eq=False)
class Crowd:
    """Registers clients, so many at a time, and holds their connections."""

    control_port: int
    token: bytes | None
    turns: trio.Semaphore
    left: int  # clients that have not been through yet
    leave: trio.Event = attrs.field(factory=trio.Event)
    done: trio.Event = attrs.field(factory=trio.Event)
    times_s: list[float] = attrs.field(factory=list)
    sessions: list[tuple[int, str]] = attrs.field(factory=list)  # id and key
    failed: int = 0

    async def client(self, number: int) -> None:
        await self.turns.acquire()
        began = time.perf_counter()
        try:
            async with open_client(
                ("127.0.0.1", self.control_port),
                pin=None,
                bind=partial(from_host, number),
                timeout_s=PATIENCE_S,
            ) as client:
                session_id, key = await register(client, self.token)
                self.sessions.append((session_id, key.hex()))
                self.times_s.append(time.perf_counter() - began)
                self._through()
                await self.leave.wait()
        except (LightSpeedError, trio.TooSlowError):
            self.failed += 1
            self._through()

    def _through(self) -> None:
        self.turns.release()
        self.left -= 1
        if not self.left:
            self.done.set()


async def run_crowd(control_port: int, count: int, at_once: int, token: bytes | None) -> None:
    crowd = Crowd(control_port, token, trio.Semaphore(at_once), count)
    began, cpu = time.perf_counter(), time.process_time()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(crowd.client, number)
        await crowd.done.wait()
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        times = sorted(crowd.times_s) or [0.0]
        figures = {
            "registered": len(crowd.times_s),
            "failed": crowd.failed,
            "seconds": round(took, 2),
            "median_ms": round(statistics.median(times) * 1e3, 1),
            "slowest_ms": round(times[-1] * 1e3, 1),
            "clients_cpu_ms_each": round(cpu * 1e3 / count, 2),
            "sessions": crowd.sessions,
        }
        print(json.dumps(figures), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        crowd.leave.set()


@attrs.define(eq=False)
class Storm:
    control_port: int
    going: trio.Event = attrs.field(factory=trio.Event)
    numbers: itertools.count[int] = attrs.field(factory=itertools.count)
    tried: int = 0
    registered: int = 0
    failed: int = 0

    async def worker(self) -> None:
        while True:
            await self.going.wait()
            self.tried += 1
            number = next(self.numbers)
            try:
                async with open_client(
                    ("127.0.0.1", self.control_port),
                    pin=None,
                    bind=partial(from_host, number),
                    timeout_s=5.0,
                ) as client:
                    await register(client)
                    self.registered += 1
            except (LightSpeedError, trio.TooSlowError):
                self.failed += 1


async def run_storm(control_port: int, at_once: int) -> None:
    storm = Storm(control_port)
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(storm.worker)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            if line.strip() == "1":
                storm.going.set()
            elif storm.going.is_set():
                storm.going = trio.Event()  # who waits for the old one has been let go already
        counts = {"tried": storm.tried, "registered": storm.registered, "failed": storm.failed}
        print(json.dumps(counts), flush=True)
        nursery.cancel_scope.cancel("told to stop")


def main() -> None:
    kind, *arguments = sys.argv[1:]
    if kind == "storm":
        port, at_once = map(int, arguments)
        trio.run(run_storm, port, at_once)
    else:
        port, count, at_once = map(int, arguments[:3])
        token = bytes.fromhex(arguments[3]) if arguments[3:] else None
        trio.run(partial(run_crowd, port, count, at_once, token))


if __name__ == "__main__":
    main()
