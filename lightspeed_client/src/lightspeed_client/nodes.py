"""The player's node book: which nodes an invite was added for, kept in the user's config directory.

It holds tokens, so it is written with mode 0600 in a directory with 0700 (on Windows the access
list is reduced to the user), whole or not at all, by one command at a time. A damaged or empty
file is an error; only none at all is an empty book. Nothing here prints a token.
"""

from __future__ import annotations

import binascii
import json
import re
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Final, Literal

import attrs
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.invite import Invite
from lightspeed_protocol.runtime.config import parse, read_text

from .locks import locked
from .paths import make_private, replace_file

PIN_BYTES: Final = 32
TOKEN_BYTES: Final = 32
MOST_NAME: Final = 64
HEAD: Final = """\
# The nodes you may use, written by `lightspeed add` and `lightspeed remove`.
# Keep it to yourself: whoever has a token can play through the node in your name.
"""

Change = Literal["added", "replaced", "known"]


@attrs.frozen(kw_only=True)
class KnownNode:
    """`pin` is SHA-256 of the node's public key. Without a `token` only an open node takes us."""

    name: str
    host: str
    port: int
    pin: bytes = attrs.field(repr=False)
    token: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class _Entry:
    """One node as the file has it."""

    name: str = attrs.field()
    host: str = attrs.field()
    port: int = attrs.field()
    pin: str = attrs.field()
    token: str = ""

    @name.validator
    def _check_name(self, _: attrs.Attribute[str], value: str) -> None:
        check_name(value)

    @host.validator
    def _check_host(self, _: attrs.Attribute[str], value: str) -> None:
        if not value or not value.isprintable():
            raise ValueError(f"want a host name or an address, got {value!r}")

    @port.validator
    def _check_port(self, _: attrs.Attribute[int], value: int) -> None:
        if not 1 <= value <= 65535:
            raise ValueError(f"want a port from 1 to 65535, got {value}")

    @pin.validator
    def _check_pin(self, _: attrs.Attribute[str], value: str) -> None:
        _bytes_of("pin", value, PIN_BYTES)


@attrs.frozen(kw_only=True)
class _File:
    node: tuple[_Entry, ...] = ()


def check_name(name: str) -> str:
    """A node's name, or `ValueError`."""
    if not 1 <= len(name) <= MOST_NAME or not name.isprintable() or name != name.strip():
        raise ValueError(f"want a name of 1 to {MOST_NAME} printable characters, got {name!r}")
    if name.startswith("-"):
        raise ValueError(f"a name that begins with - reads like an option: {name!r}")
    return name


def read_book(path: Path) -> list[KnownNode]:
    """Every node, in the order they were added. Raises `ConfigError`."""
    if not _exists(path):
        return []
    text = read_text(path)
    if not text.strip():
        raise ConfigError(
            str(path),
            ["is empty, so what was in it is lost: bring it back, or delete it and add again"],
        )
    found: list[KnownNode] = []
    problems = []
    for number, entry in enumerate(parse(text, _File, name=str(path)).node, 1):
        try:
            token = _bytes_of("token", entry.token, TOKEN_BYTES) if entry.token else None
        except ValueError as exc:
            problems.append(f"node {number}: {exc}: remove it and add its invite again")
            continue
        if any(node.name == entry.name for node in found):
            problems.append(f"node {number}: the name {entry.name!r} is there twice: change one")
        found.append(
            KnownNode(
                name=entry.name,
                host=entry.host,
                port=entry.port,
                pin=_bytes_of("pin", entry.pin, PIN_BYTES),
                token=token,
            )
        )
    if problems:
        raise ConfigError(str(path), problems)
    return found


def add(path: Path, invite: Invite, alias: str | None = None) -> tuple[KnownNode, Change]:
    """Put the invite's node into the book.

    The same node under the same name gets the new token; a name that another node has gets a
    number behind it. Raises `ValueError` for an impossible name, `ConfigError`, `OSError`.
    """
    wanted = check_name(alias or invite.name or invite.host)
    with locked(path.with_suffix(".lock")):
        book = read_book(path)
        for at, node in enumerate(book):
            if node.pin != invite.pin:
                continue
            same_place = (node.host, node.port) == (invite.host, invite.port)
            if node.token == invite.token and same_place and alias in (None, node.name):
                return node, "known"
            if _base(node.name, wanted) or node.token == invite.token:
                changed = attrs.evolve(node, host=invite.host, port=invite.port, token=invite.token)
                if alias is not None and node.token == invite.token:
                    others = {each.name for each in book} - {node.name}
                    changed = attrs.evolve(changed, name=unique(wanted, others))
                book[at] = changed
                _write(path, book)
                return changed, "replaced"
        new = KnownNode(
            name=unique(wanted, {node.name for node in book}),
            host=invite.host,
            port=invite.port,
            pin=invite.pin,
            token=invite.token,
        )
        _write(path, [*book, new])
        return new, "added"


def remove(path: Path, name: str) -> KnownNode:
    """Take a node out of the book. Raises `KeyError`, `ConfigError`, `OSError`."""
    with locked(path.with_suffix(".lock")):
        book = read_book(path)
        for at, node in enumerate(book):
            if node.name == name:
                _write(path, book[:at] + book[at + 1 :])
                return node
    raise KeyError(name)


def unique(wanted: str, taken: set[str]) -> str:
    """`wanted`, or with the first free number behind it."""
    name, number = wanted, 1
    while name in taken:
        number += 1
        tail = f"-{number}"
        name = wanted[: MOST_NAME - len(tail)] + tail
    return name


def who_can_read(path: Path) -> str | None:
    """What is wrong with the book's permissions, and the remedy; None when nothing is."""
    if sys.platform == "win32":
        return None
    else:
        for what, mode in ((path, 0o600), (path.parent, 0o700)):
            try:
                found = what.stat().st_mode & 0o777
            except OSError:
                continue
            if what == path and found & 0o077:
                return f"{what} can be read by others (mode {found:03o}): chmod {mode:o} {what}"
            if found & 0o022:
                return f"{what} can be changed by others (mode {found:03o}): chmod {mode:o} {what}"
        return None


def _base(name: str, wanted: str) -> bool:
    """Whether `name` is `wanted`, or was made unique from it."""
    return name == wanted or re.fullmatch(re.escape(wanted) + r"-\d+", name) is not None


def _write(path: Path, book: list[KnownNode]) -> None:
    parts = [HEAD]
    for node in book:
        fields = {"name": node.name, "host": node.host, "port": node.port, "pin": _text(node.pin)}
        if node.token is not None:
            fields["token"] = _text(node.token)
        lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
        parts.append("\n".join(["[[node]]", *lines]) + "\n")
    make_private(path.parent, 0o700)
    replace_file(path, "\n".join(parts), mode=0o600)
    make_private(path, 0o600)


def _exists(path: Path) -> bool:
    """Whether anything has that name: a link that leads nowhere is a damaged book, not none."""
    try:
        path.lstat()
        leads_somewhere = path.exists()
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise ConfigError(str(path), [f"cannot be read: {exc.strerror or exc}"]) from None
    if not leads_somewhere:
        raise ConfigError(
            str(path),
            ["is a link that leads nowhere: bring back what it led to, or delete the link"],
        )
    return True


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes_of(what: str, text: str, size: int) -> bytes:
    """The bytes, or a `ValueError` that does not repeat them."""
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != size:
        raise ValueError(f"the {what} is damaged (want {size} bytes in BASE64URL)")
    return raw
