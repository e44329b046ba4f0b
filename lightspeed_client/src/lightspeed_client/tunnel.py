"""What the games' side (`redirect`) needs of a tunnel; `open_tunnel` and `sealed_tunnel` are two.

A tunnel owns the sockets towards the node, its keepalives and the FINs; it delivers to the
game's local socket by itself.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from lightspeed_protocol.runtime.udp import Port

from .address import Address
from .flows import Flow
from .pulse import Pulse


class OwnedPort(Port, AbstractContextManager["OwnedPort"], Protocol):
    """A socket of ours: it is closed when we are done with it."""

    @property
    def unsent(self) -> int: ...
    def close(self) -> None: ...


class Carried(Protocol):
    """A flow together with its way to the node."""

    @property
    def flow(self) -> Flow: ...
    def send(self, datagram: bytes) -> bool:
        """False when it was not sent: dropped, never queued."""
        ...

    def close(self, why: str) -> None:
        """Tell the node that the flow has ended, and let go of what it held."""
        ...


class Tunnel(Protocol):
    """Ready once the node's address is known and, where it takes one, a session is granted."""

    @property
    def pulse(self) -> Pulse: ...
    @property
    def node(self) -> Address | None:
        """Where its data port is, once known."""
        ...

    @property
    def strangers(self) -> int:
        """Packets that came from elsewhere than the node."""
        ...

    @property
    def fins_answered(self) -> int: ...
    @property
    def largest_payload(self) -> int:
        """Bytes of a game packet that can be carried."""
        ...

    def not_ready(self) -> str | None:
        """Why nothing can be carried now, as a reason to count a drop under."""
        ...

    def open(self, game: Address, server: Address, local: Port, now: float) -> Carried:
        """A way for a new flow. Raises `OSError` when there is no socket for it."""
        ...

    async def run(self) -> None:
        """Hear the node and keep the path alive. Never ends."""
        ...

    async def finish(self) -> None:
        """Tell the node that everything has ended, and give it a moment to say it heard."""
        ...

    def not_found(self) -> bool:
        """Whether the node's name has not led to an address."""
        ...

    def explain(self) -> str | None:
        """How the game played last is protected on its way up, and why; None if unknown."""
        ...

    def notice(self) -> str | None:
        """What the player should know or do about the way to the node."""
        ...

    def why_silent(self) -> str:
        """One line for a node that does not answer, with what to do."""
        ...


def any_port(node: Address) -> Address:
    """To bind a socket towards the node."""
    return ("::" if ":" in node[0] else "0.0.0.0", 0)
