"""Turns one name into an address, however long that takes, and says why it takes long."""

from __future__ import annotations

import logging
from typing import Final

import attrs
import trio

from .address import Address, Unresolved, is_name, resolve, write_address

log = logging.getLogger(__name__)

LOOKUP_S: Final = 30.0  # between lookups of a silent node's name, and the longest DNS back-off


@attrs.define(eq=False)
class Lookup:
    """`what` names it in texts; `found` is its address, once known."""

    wanted: Address  # as the player wrote it
    what: str
    ipv4_only: bool = False
    found: Address | None = None
    failure: str | None = None  # of the last try
    _told: set[str] = attrs.field(factory=set)

    async def try_once(self) -> bool:
        """False, with one line in the log, when there is no address (now)."""
        if self.found is not None:
            return True
        try:
            self.found = await resolve(self.wanted, ipv4_only=self.ipv4_only, what=self.what)
        except Unresolved as exc:
            self.failure = str(exc)
            self._tell_once(str(exc))
            return False
        if self.failure is not None:
            self.failure = None
            log.info("found: the %s is %s", self.what, write_address(self.found))
        return True

    async def until_found(self) -> Address:
        pause_s = 1.0
        while self.found is None:
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOKUP_S)
            await self.try_once()
        return self.found

    async def again(self) -> None:
        """What is silent and has a name may have moved."""
        try:
            now = await resolve(self.wanted, ipv4_only=self.ipv4_only, what=self.what)
        except Unresolved as exc:
            self._tell_once(str(exc))
            return
        before = self.found
        if before is not None and now != before and (":" in now[0]) == (":" in before[0]):
            log.info("the %s's name now means %s", self.what, write_address(now))
            self.found = now

    @property
    def is_name(self) -> bool:
        return is_name(self.wanted[0])

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            log.warning("%s; trying again", text)
