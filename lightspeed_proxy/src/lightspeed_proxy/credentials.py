"""Who may use this node: the invites its operator has given out, and the file they are kept in.

`Invites` is the list and its rules; `InviteStore` is the file, written by the commands `invite` and
`revoke` and read by the running node. A file that cannot be understood is never taken for an empty
one: that would let nobody in, and the next command would write the loss down.

Only SHA-256 of a token is kept. A token is 32 random bytes, so nobody finds one from its hash by
trying, and what slows guessing of passwords down would only slow the node down here.

The file is JSON with one invite in each line, so that a mistake has its line number, and so that
the running node reads only the lines that it does not know yet: a new invite among 1000 costs it
1.4 ms, where reading all of them anew takes 25 to 50 ms (measured).
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, Self

import attrs
from attrs.validators import and_, ge, instance_of, le, optional
from lightspeed_protocol.errors import ConfigError, LightSpeedError
from lightspeed_protocol.extensions import TOKEN_BYTES
from lightspeed_protocol.runtime.config import (
    LARGEST_FILE_BYTES,
    Network,
    exactly,
    network,
    read_text,
)

from .state_files import Stamp, locked, make_dir, stamp_of, write_file

FILE: Final = "invites.json"
VERSION: Final = 1
HASH_BYTES: Final = hashlib.sha256().digest_size
MOST: Final = 1000  # invites in the file; ended ones make room first
MOST_NAME: Final = 64
LATEST: Final = 253_402_300_799  # the end of the year 9999, the last that can be shown
NOT_IN_NAMES: Final = "&?#/"  # they would end or split the name within an invite's line
NOBODY_YET: Final = "relays for nobody yet: make an invite with `lightspeed-proxy invite NAME`"
REPAIR: Final = "restore the file, or move it away and make the invites again"
HEAD: Final = f'{{"version": {VERSION}, "invites": ['
FOOT: Final = "]}"

RefusalWord = Literal["expired", "revoked"]


class InviteError(LightSpeedError):
    """A command asks for what the list of invites does not allow. The text names the remedy."""


def invite_name(_instance: object, _field: Any, value: str) -> None:
    if (
        not 1 <= len(value) <= MOST_NAME
        or not value.isprintable()
        or any(letter.isspace() or letter in NOT_IN_NAMES for letter in value)
    ):
        raise ValueError(
            f"want a name of 1 to {MOST_NAME} printable characters without spaces and"
            f" {' '.join(NOT_IN_NAMES)}, got {value!r}"
        )


def a_hash(_instance: object, field: Any, value: bytes) -> None:
    if len(value) != HASH_BYTES:
        raise ValueError(f"{field.name!r} must be {HASH_BYTES} bytes, got {len(value)}")


def _number(least: int, most: int) -> Any:
    return attrs.field(
        default=None, validator=optional(and_(instance_of(int), ge(least), le(most)))
    )


@attrs.frozen(kw_only=True)
class Invite:
    """One invite. Times are unix seconds; None stands for never, or for the node's own limit."""

    name: str = attrs.field(validator=invite_name)
    token_sha256: bytes = attrs.field(validator=a_hash, repr=False)
    created: int = attrs.field(validator=[instance_of(int), ge(0), le(LATEST)])
    expires: int | None = _number(1, LATEST)
    revoked: int | None = _number(0, LATEST)
    max_pps: int | None = _number(1, 10_000_000)
    max_bps: int | None = _number(1, 10_000_000_000)
    max_sessions: int | None = _number(1, 10_000)
    destinations: tuple[Network, ...] = ()

    def problem(self, unix_now: float) -> RefusalWord | None:
        """Why it lets nobody in (any more); None while it is good."""
        if self.revoked is not None:
            return "revoked"
        if self.expires is not None and unix_now >= self.expires:
            return "expired"
        return None


KEYS: Final = frozenset(field.name for field in attrs.fields(Invite))
NUMBERS: Final = KEYS - {"name", "token_sha256", "destinations"}


def hash_token(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


class Invites:
    """The list as it is at one time. It never changes: `adding` and `revoking` give another."""

    def __init__(self, invites: tuple[Invite, ...] = ()) -> None:
        self._by_name = {invite.name: invite for invite in invites}
        self._by_hash = {invite.token_sha256: invite for invite in invites}

    def __iter__(self) -> Iterator[Invite]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Invite | None:
        return self._by_name.get(name)

    def usable(self, unix_now: float) -> int:
        """How many let somebody in."""
        return sum(invite.problem(unix_now) is None for invite in self)

    def find(self, token: bytes) -> Invite | None:
        """The invite of this token, good or not; ask `problem`.

        The time it takes tells about the hash of what was sent at most, which its sender knows.
        """
        digest = hash_token(token)
        found = self._by_hash.get(digest)
        if found is None or not hmac.compare_digest(found.token_sha256, digest):
            return None
        return found

    def problem(self, invite: Invite, unix_now: float) -> RefusalWord | None:
        """Why an invite found earlier is no good now.

        One that is gone counts as revoked, also when another has taken its name.
        """
        current = self._by_hash.get(invite.token_sha256)
        return "revoked" if current is None else current.problem(unix_now)

    def adding(self, invite: Invite, unix_now: float) -> Invites:
        """Raises `InviteError` if the name is taken by one that is still good, or all is full."""
        taken = self.get(invite.name)
        if taken is not None and taken.problem(unix_now) is None:
            raise InviteError(
                f"there is an invite {invite.name!r} already: choose another name, or end that one"
                f" with `lightspeed-proxy revoke {invite.name}`"
            )
        kept = [other for other in self if other.name != invite.name]
        if len(kept) >= MOST:
            kept = [other for other in kept if other.problem(unix_now) is None]
        if len(kept) >= MOST:
            raise InviteError(f"there are {MOST} invites, and no node keeps more: revoke some")
        return Invites((*kept, invite))

    def revoking(self, name: str, unix_now: float) -> Invites:
        """Raises `InviteError` for a name nobody has. Revoking twice changes nothing."""
        if name not in self._by_name:
            near = difflib.get_close_matches(name, self._by_name, n=3)
            meant = ", ".join(map(repr, near))
            raise InviteError(
                f"there is no invite {name!r}"
                + (f", did you mean {meant}?" if near else "; `lightspeed-proxy invites` lists all")
            )
        return Invites(
            tuple(
                attrs.evolve(invite, revoked=int(unix_now))
                if invite.name == name and invite.revoked is None
                else invite
                for invite in self
            )
        )

    @classmethod
    def parse(cls, text: str, *, name: str) -> Self:
        """Read what `render` wrote. Raises `ConfigError` with every mistake and its line."""
        head, *lines = text.splitlines() or [""]
        if head != HEAD or not lines or lines.pop() != FOOT:
            raise ConfigError(
                name,
                [
                    f"is not as lightspeed-proxy writes it: a line {HEAD} at its beginning, a line"
                    f" {FOOT} at its end, and one invite in each line between; {REPAIR}"
                ],
            )
        invites: dict[str, Invite] = {}
        tokens: set[bytes] = set()
        problems: list[str] = []
        for at, line in enumerate(lines, start=2):
            try:
                invite = _read_line(line.removesuffix(","))
                if invite.name in invites or invite.token_sha256 in tokens:
                    raise ValueError(f"the name or the token of {invite.name!r} was there before")
            except (TypeError, ValueError) as exc:
                problems.append(f"line {at}: {exc.args[0]}")
            else:
                invites[invite.name] = invite
                tokens.add(invite.token_sha256)
        if problems:
            raise ConfigError(name, [*problems, REPAIR])
        return cls(tuple(invites.values()))

    def render(self) -> str:
        lines = ",\n".join(map(_write_line, self))
        return "\n".join([HEAD, *([lines] if lines else []), FOOT]) + "\n"


def _write_line(invite: Invite) -> str:
    values = {
        **attrs.asdict(invite),
        "token_sha256": invite.token_sha256.hex(),
        "destinations": [str(net) for net in invite.destinations],
    }
    return json.dumps(values)  # ASCII, so nothing in a name ends the line


@lru_cache(maxsize=2 * MOST)  # the list before and the list after a change
def _read_line(line: str) -> Invite:
    """Raises `TypeError` or `ValueError` with one sentence."""
    try:
        values = exactly(json.loads(line), dict)
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON ({exc.msg} at character {exc.colno})") from None
    except RecursionError:
        raise ValueError("not an invite") from None
    wrong = KEYS ^ values.keys()
    if wrong:
        raise ValueError(f"keys missing or unknown: {', '.join(sorted(wrong))}")
    for key in NUMBERS:
        if values[key] is not None:
            exactly(values[key], int)
    networks = exactly(values["destinations"], list)
    return Invite(
        **{key: values[key] for key in NUMBERS},
        name=exactly(values["name"], str),
        token_sha256=bytes.fromhex(exactly(values["token_sha256"], str)),
        destinations=tuple(network(item, None) for item in networks),
    )


@attrs.define(eq=False)
class InviteStore:
    """The file of a state directory. Several processes may use it at once."""

    path: Path
    _seen: Stamp | None = None
    _was_there: bool = False

    def load(self) -> Invites:
        """What the file says now; no file means no invites. Raises `ConfigError`.

        A file that was there and has gone is a mistake, not the end of all invites.
        """
        self._seen = stamp_of(self.path)  # before reading: what changes meanwhile is seen again
        if self._seen is None and not self._was_there and self._never_made():
            return Invites()
        invites = Invites.parse(read_text(self.path), name=str(self.path))
        self._was_there = True
        return invites

    def _never_made(self) -> bool:
        try:
            self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            pass  # it may be there: reading it says what is wrong
        return False

    def changed(self) -> bool:
        """Whether the file is another one than at the last `load`, successful or not."""
        return stamp_of(self.path) != self._seen

    def add(
        self,
        name: str,
        *,
        unix_now: float,
        expires: int | None = None,
        max_pps: int | None = None,
        max_bps: int | None = None,
        max_sessions: int | None = None,
        destinations: tuple[Network, ...] = (),
    ) -> tuple[Invite, bytes]:
        """A new invite and its token, which is kept nowhere.

        Raises `InviteError` or `ConfigError`, and `ValueError` for a name or a limit that no invite
        can have.
        """
        token = secrets.token_bytes(TOKEN_BYTES)
        invite = Invite(
            name=name,
            token_sha256=hash_token(token),
            created=int(unix_now),
            expires=expires,
            max_pps=max_pps,
            max_bps=max_bps,
            max_sessions=max_sessions,
            destinations=destinations,
        )
        self._change(lambda invites: invites.adding(invite, unix_now))
        return invite, token

    def revoke(self, name: str, *, unix_now: float) -> None:
        """End an invite. Raises `InviteError` or `ConfigError`."""
        self._change(lambda invites: invites.revoking(name, unix_now))

    def _change(self, change: Callable[[Invites], Invites]) -> None:
        make_dir(self.path.parent)
        with locked(self.path.parent):
            text = change(self.load()).render()
            if len(text) > LARGEST_FILE_BYTES:
                raise InviteError(
                    f"the list of invites would be longer than {LARGEST_FILE_BYTES} bytes: give"
                    " some of them fewer --destinations"
                )
            write_file(self.path, text)
