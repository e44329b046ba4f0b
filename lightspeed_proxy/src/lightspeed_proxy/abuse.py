"""Who asks for too much: scans of many destinations, answers that amplify, and bans.

Nobody is banned on the word of a source address alone, which anybody can forge. In versions 1
and 2 a client that breaks a rule has the offending packets refused, and is asked to prove that
it is really there: the node sends it a HANDSHAKE with a number only a host at that address can
read. If the number comes back, the address is banned; if not, it may belong to a victim and
stays free. A ban holds for one address and port, so it never reaches a neighbour behind the
same NAT. A sealed session needs none of this: its invite can be revoked.
Times are seconds on the caller's clock.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Any, Final

import attrs

from .config import Security

Address = tuple[Any, ...]  # as the socket gives it

MOST_BANS: Final = 4096
MOST_CHALLENGES: Final = 1024
CHALLENGE_S: Final = 5.0  # a proof must come back within this
DATAGRAM_OVERHEAD: Final = 28  # IPv4 and UDP headers: what the wire carries besides


@attrs.define(eq=False)
class Opened:
    """How many destinations one session has opened in the window that runs."""

    _window_began: float = 0.0
    _count: int = 0

    def admit(self, security: Security, now: float) -> bool:
        """Count one more destination; False when this window has seen too many."""
        if now - self._window_began >= security.destinations_window_s:
            self._window_began = now
            self._count = 0
        self._count += 1
        return self._count <= security.max_destinations_per_window


def amplifies(bytes_down: int, bytes_up: int, security: Security) -> bool:
    """Whether a session has been answered too much for what it sent, all in wire bytes."""
    allowed = security.amplification_grace_bytes + security.max_amplification * bytes_up
    return bytes_down > allowed


@attrs.define(eq=False)
class Challenges:
    """HANDSHAKEs that wait for their answer; bounded, the oldest goes first."""

    rng: random.Random
    _challenged: OrderedDict[Address, tuple[int, int, float]] = attrs.field(factory=OrderedDict)

    def challenge(
        self, client: Address, now: float, token: int | None = None
    ) -> tuple[int, int] | None:
        """Token and sequence of the HANDSHAKE to send; None while one is already asked.

        `token` is what the client must carry anyway; without one it is drawn too.
        """
        standing = self._challenged.get(client)
        if standing is not None and now < standing[2]:
            return None
        while len(self._challenged) >= MOST_CHALLENGES:
            self._challenged.popitem(last=False)
        token = self.rng.randrange(256) if token is None else token
        sequence = self.rng.randrange(65536)
        self._challenged[client] = (token, sequence, now + CHALLENGE_S)
        return token, sequence

    def proven(self, client: Address, token: int, sequence: int, now: float) -> bool:
        """Whether this HANDSHAKE answers ours. Right or wrong, there is only one try."""
        asked = self._challenged.pop(client, None)
        return asked is not None and asked[:2] == (token, sequence) and now < asked[2]


@attrs.define(eq=False)
class Bans:
    """Bans in force; bounded, the oldest goes first."""

    _banned: OrderedDict[Address, float] = attrs.field(factory=OrderedDict)  # until when

    def __len__(self) -> int:
        return len(self._banned)

    def ban(self, client: Address, until: float) -> None:
        while len(self._banned) >= MOST_BANS:
            self._banned.popitem(last=False)
        self._banned[client] = until

    def holds(self, client: Address, now: float) -> bool:
        """Whether this client is banned now; forgets a ban that has run out."""
        until = self._banned.get(client)
        if until is None:
            return False
        if now < until:
            return True
        del self._banned[client]
        return False
