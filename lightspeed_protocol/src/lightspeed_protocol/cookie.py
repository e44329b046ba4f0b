"""The token of a QUIC Retry: proof that an address can hear us, without keeping anything for it.

    ┌───┬─────────┬─────┬──────────────────┬─────┬──────────────┬──────┐
    │ 1 │ seconds │ len │ original dest.   │ len │ retry source │ tag  │
    │u8 │ u32     │ u8  │ connection id    │ u8  │ connection id│ 16   │
    └───┴─────────┴─────┴──────────────────┴─────┴──────────────┴──────┘

The tag covers everything before it and the address the Retry went to, so the token is worth
something only to whoever receives at that address, and only for `VALID_S`. What opened a
connection is remembered as `spent` for that long: one packet, played again, opens no second one.
Source: PROTOCOL.md, "Retry cookie"; RFC 9000 §8.1.2; BLAKE2s RFC 7693.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2s
from hmac import compare_digest
from typing import Final

import attrs

KIND: Final = 1
VALID_S: Final = 10  # a client answers a Retry at once; this leaves it two retransmissions
ROTATE_S: Final = 120.0  # then a new secret; the one before it is still accepted
TAG_BYTES: Final = 16
SECRET_BYTES: Final = 32
MOST_SPENT: Final = 8192  # remembered; a node opens 100 connections a second
LARGEST_ID: Final = 20  # of a QUIC version 1 connection id
_SHORTEST: Final = 1 + 4 + 1 + 1 + TAG_BYTES
_PERSON: Final = b"LS retry"

Address = tuple[str, int]


@attrs.define(eq=False)
class RetryCookies:
    """Makes and checks tokens; `random` gives that many unpredictable bytes."""

    _random: Callable[[int], bytes]
    _secret: bytes = attrs.field(default=b"", repr=False)
    _previous: bytes = attrs.field(default=b"", repr=False)
    _rotate_at: float = -math.inf
    _spent: OrderedDict[bytes, float] = attrs.field(factory=OrderedDict)  # until when, by rscid

    def make(self, address: Address, odcid: bytes, rscid: bytes, now: float) -> bytes:
        """`odcid` is what the client called us, `rscid` what it must call us from here on."""
        if len(odcid) > LARGEST_ID or len(rscid) > LARGEST_ID:
            raise ValueError(f"want connection ids of at most {LARGEST_ID} bytes")
        self._rotate(now)
        seconds = (int(now) & 0xFFFFFFFF).to_bytes(4, "big")
        body = b"".join(
            (bytes((KIND,)), seconds, bytes((len(odcid),)), odcid, bytes((len(rscid),)), rscid)
        )
        return body + _tag(self._secret, body, address)

    def check(self, token: bytes, address: Address, now: float) -> tuple[bytes, bytes] | None:
        """(odcid, rscid) of a token we gave to this address a moment ago, else None."""
        if len(token) < _SHORTEST or token[0] != KIND:
            return None
        self._rotate(now)
        body, tag = token[:-TAG_BYTES], token[-TAG_BYTES:]
        secrets = (self._secret, self._previous) if self._previous else (self._secret,)
        if not any(compare_digest(tag, _tag(secret, body, address)) for secret in secrets):
            return None
        # The rest is our own writing.
        if (int(now) - int.from_bytes(body[1:5], "big")) & 0xFFFFFFFF > VALID_S:
            return None
        end = 6 + body[5]
        return body[6:end], body[end + 1 :]

    def is_spent(self, rscid: bytes, now: float) -> bool:
        """Whether the token that gave this connection id has been used."""
        return self._spent.get(rscid, -math.inf) > now

    def spend(self, rscid: bytes, now: float) -> None:
        """The token that gave this connection id has been used."""
        while self._spent and (
            next(iter(self._spent.values())) <= now or len(self._spent) >= MOST_SPENT
        ):
            self._spent.popitem(last=False)
        # Tokens count whole seconds, so one may be good for up to a second more than it says.
        self._spent[rscid] = now + VALID_S + 1

    def _rotate(self, now: float) -> None:
        if now < self._rotate_at:
            return
        # A secret nobody used for two terms is not worth keeping as the previous one.
        self._previous = self._secret if now < self._rotate_at + ROTATE_S else b""
        self._secret = self._random(SECRET_BYTES)
        self._rotate_at = now + ROTATE_S


def _tag(secret: bytes, body: bytes, address: Address) -> bytes:
    host, port = address
    place = port.to_bytes(2, "big") + ipaddress.ip_address(host).packed
    return blake2s(body + place, digest_size=TAG_BYTES, key=secret, person=_PERSON).digest()
