"""The keys of a sealed session at the client: of this registration, and for a moment of the last.

Sans-IO. A registration, resumed or new, gives fresh keys and numbers from 0. What was in flight
under the keys before is still taken for `LATE_S`; what was counted stays counted.
Source: PROTOCOL.md, "Sealed header".
"""

from __future__ import annotations

from typing import Final

import attrs
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.seal import Opened, SealedEnd

from .flows import NOTHING, Tally

LATE_S: Final = 2.0  # longer than anything stays in flight


@attrs.define(eq=False)
class SealedSession:
    """`end` is None until the first registration."""

    end: SealedEnd | None = None
    _late: SealedEnd | None = None
    _late_until: float = 0.0
    _past: Tally = NOTHING

    def renew(self, session_id: int, key: bytes, now: float) -> SealedEnd:
        """A registration was granted: its keys hold from now on."""
        self._past = self.tally()
        self._late, self._late_until = self.end, now + LATE_S
        self.end = SealedEnd.client(session_id, key)
        return self.end

    def rekey(self, key: bytes, now: float) -> None:
        """The node gave this registration a new key; it is used at once."""
        if self.end is not None:
            self.end.rekey(key, now)

    def open(self, datagram: bytes, now: float) -> tuple[Opened, bool]:
        """An authentic packet, and whether it came late, under the keys before these.

        Raises `WireError` as `SealedEnd.open`, "session" before the first registration.
        """
        if self.end is None:
            raise WireError("session")
        try:
            return self.end.open(datagram, now), False
        except WireError as exc:
            if exc.reason not in ("forged", "session") or self._late is None:
                raise
            if now >= self._late_until:
                self._late = None
                raise
            try:
                return self._late.open(datagram, now), True
            except WireError:
                raise exc from None

    def tally(self) -> Tally:
        """What packet numbers tell of all flows together, and copies of packets."""
        if self.end is None:
            return self._past
        opener = self.end.opener
        return self._past + Tally(
            expected_down=opener.expected,
            arrived_down=opener.received,
            duplicates=opener.duplicates,
        )
