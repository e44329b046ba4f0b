"""A node's data plane and admission without QUIC, for more sessions than QUIC makes in a minute.

    python -m bench.members DATA_PORT

Reads a number from its input, grants that many sealed sessions the way a Register does, and says
their ids and keys as JSON. What a session keeps in memory is the node's own; only the connection
that asked for it is missing.
"""

from __future__ import annotations

import gc
import json
import secrets
import sys

import attrs
import trio
from lightspeed_protocol.control_messages import Disconnect, Register
from lightspeed_protocol.extensions import RegisterExtensions, decode_ack, encode_register
from lightspeed_protocol.seal import VERSION_SEALED
from lightspeed_proxy.admission import Admission, Granted, Member
from lightspeed_proxy.config import Limits, ProxyConfig
from lightspeed_proxy.counters import Counters
from lightspeed_proxy.credentials import Invites
from lightspeed_proxy.relay import Relay, open_data_socket

QUESTION = Register(
    1, 0, encode_register(RegisterExtensions(versions=(VERSION_SEALED,), client="bench"))
)


@attrs.define(eq=False)
class HungUp:
    """The connection of a client who has left it and plays on by UDP."""

    member: Member | None = None

    def ended(self, message: Disconnect) -> None:
        """Nobody there."""


def grant(admission: Admission) -> tuple[int, str]:
    connection, now = HungUp(), trio.current_time()
    granted = admission.register(QUESTION, "127.0.0.1", connection, now, 0.0)
    assert isinstance(granted, Granted)
    admission.lost(connection, now)
    key = decode_ack(granted.ack.extensions).key
    assert key is not None
    return granted.ack.session_id, key.hex()


async def main(data_port: int) -> None:
    config = ProxyConfig(limits=Limits(max_clients=100_000))
    relay = Relay(config, Counters(), (open_data_socket(("127.0.0.1", data_port)),), dev=True)
    admission = Admission(
        config=config,
        plane=relay,
        invites=Invites(),
        random_bytes=secrets.token_bytes,
        dev=True,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        gc.collect()
        gc.freeze()  # as app.run does
        print(json.dumps("ready"), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            sessions = [grant(admission) for _ in range(int(line))]
            print(json.dumps(sessions), flush=True)
        nursery.cancel_scope.cancel("told to stop")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
