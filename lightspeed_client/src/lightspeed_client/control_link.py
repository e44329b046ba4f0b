"""The control connection as the client uses it: what it needs of QUIC, and one exchange over it.

aioquic is imported only when a connection is made: commands without an invited node never pay
for it. Source: PROTOCOL.md, "QUIC control".
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import trio
from lightspeed_protocol.control import ControlMessage, FrameReader, Ping, Pong, encode, frame
from lightspeed_protocol.errors import WireError

from .address import Address, resolve
from .session import Grant, check_data

CONNECT_S: Final = 5.0
ANSWER_S: Final = 5.0


class ControlClient(Protocol):
    """An open connection whose node has proved its key."""

    async def request(self, data: bytes, *, timeout_s: float = ANSWER_S) -> bytes:
        """Raises `LinkDown`, `trio.TooSlowError` and `WireError`."""
        ...

    async def wait_closed(self) -> tuple[int, str]: ...


class Connect(Protocol):
    """Raises `LinkDown`, and `Refused` when the node's key is not the one of the invite."""

    def __call__(
        self,
        address: Address,
        *,
        pin: bytes,
        on_node_stream: Callable[[bytes], None] | None = None,
        timeout_s: float = CONNECT_S,
    ) -> AbstractAsyncContextManager[ControlClient]: ...


def connect(
    address: Address,
    *,
    pin: bytes,
    on_node_stream: Callable[[bytes], None] | None = None,
    timeout_s: float = CONNECT_S,
) -> AbstractAsyncContextManager[ControlClient]:
    """Over QUIC."""
    from lightspeed_protocol.runtime.quic_client import open_client

    return open_client(address, pin=pin, timeout_s=timeout_s, on_node_stream=on_node_stream)


async def exchange(
    client: ControlClient, message: ControlMessage, *, timeout_s: float = ANSWER_S
) -> ControlMessage:
    """Ask one thing; the answer. Raises what `request` raises, and `WireError` of its own."""
    answer = await client.request(frame(encode(message)), timeout_s=timeout_s)
    reader = FrameReader()
    messages = reader.feed(answer)
    if not messages:
        raise WireError("cut", got=len(answer))
    if isinstance(messages[0], WireError):
        raise messages[0]
    return messages[0]


async def find_data(grant: Grant, control: Address, *, name: str) -> Address:
    """Where the tunnel's packets go: the data address of a grant that came from `control`.

    Raises `Unresolved`, and `NodeRefused` for an address that no node may name.
    """
    return check_data(
        await resolve(grant.data, ipv4_only=False, what="node's data port"), control, name
    )


async def ping(client: ControlClient, *, timeout_s: float = ANSWER_S) -> float:
    """The round trip over the control connection, seconds."""
    sent_at = trio.current_time()
    stamp = int(sent_at * 1e6) & 0xFFFF_FFFF_FFFF_FFFF
    answer = await exchange(client, Ping(stamp), timeout_s=timeout_s)
    if not isinstance(answer, Pong) or answer.client_timestamp_us != stamp:
        raise WireError("answer")
    return trio.current_time() - sent_at
