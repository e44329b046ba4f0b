"""How a game's conversation is named in the tunnel's header: its two addresses, in one family.

The game talks to 127.0.0.1 or ::1, its server may be of the other family, and a header holds
one: the game's side is then written as the loopback address of the server's family. That side
is only a name; nothing is ever sent to it. Source: PROTOCOL.md, "Sealed header".
"""

from __future__ import annotations

from collections.abc import Container

from lightspeed_protocol.header import Address, pack_addresses


def label(game: Address, server: Address) -> bytes:
    """Bytes 8- of what the client sends: 12, or 36 for an IPv6 server.

    `server` is numeric; raises `OSError` when it is not.
    """
    host, port = game
    if (":" in host) != (":" in server[0]):
        host = "::1" if ":" in server[0] else "127.0.0.1"
    return pack_addresses((host, port), server)


def free_label(game: Address, server: Address, taken: Container[bytes]) -> bytes:
    """A label that is not taken.

    Games at 127.0.0.1:5000 and [::1]:5000 would share one: the later is named by the next free
    port instead of its own.
    """
    host, port = game
    while (found := label((host, port), server)) in taken:
        port = port % 0xFFFF + 1
    return found
