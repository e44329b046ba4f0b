"""The invite: the one line a player pastes. Address and public key of a node, and a token.

    lightspeed://HOST:PORT/?pin=...&token=...&name=...

What chat programs do to a line is undone: quotes and brackets around it, line breaks with their
indentation inside it, `&amp;`. Anything else that is wrong is said in one sentence that never
repeats the token. A line without a token only names a node. Source: PROTOCOL.md, "Invite".
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from urllib.parse import quote, unquote

import attrs

from .control_messages import PIN_BYTES
from .extensions import TOKEN_BYTES

DEFAULT_PORT: Final = 4433
SCHEME: Final = "lightspeed://"

_MOST_CHARACTERS: Final = 4096  # a pasted line; a real one has about 150
_MOST_NAME: Final = 64
_COPY: Final = "copy the whole line again, from lightspeed:// to its end"

# What programs put around a pasted line, curly quotes included. None of it can begin or end one.
_AROUND: Final = (
    " \t\r\n\f\v\"'`<>()[]{}*|,;\u00a0\u00ab\u00bb\u2018\u2019\u201c\u201d\u201e\u2039\u203a"
)
_INDENTATION: Final = " \t\u00a0>|"  # of a wrapped or quoted line
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_SHAPE: Final = re.compile(
    r"lightspeed://(?P<host>\[[^\]]*\]|[^\[\]:/?#@]*)(?::(?P<port>[^/?#]*))?/?"
    r"(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def _lower(host: str) -> str:
    return host.lower()


@attrs.frozen
class Invite:
    """A node and, with a `token`, the right to use it.

    `host` is a name or an address without brackets; `pin` is SHA-256 of the public key in the
    node's certificate, `token` what the node's operator hands out. Raises `ValueError` for a
    field that no invite can hold.
    """

    host: str = attrs.field(converter=_lower)
    port: int
    pin: bytes
    token: bytes | None = attrs.field(default=None, repr=False)
    name: str = ""

    def __attrs_post_init__(self) -> None:
        _check_host(self.host)
        if not 1 <= self.port <= 0xFFFF:
            raise ValueError(f"an invite's port is 1 to 65535, got {self.port}")
        if len(self.pin) != PIN_BYTES:
            raise ValueError(f"an invite's pin is {PIN_BYTES} bytes, got {len(self.pin)}")
        if self.token is not None and len(self.token) != TOKEN_BYTES:
            raise ValueError(f"an invite's token is {TOKEN_BYTES} bytes, got {len(self.token)}")
        if len(self.name) > _MOST_NAME or not self.name.isprintable():
            raise ValueError(f"an invite's name is up to {_MOST_NAME} printable characters")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        line = f"{SCHEME}{host}:{self.port}/?pin={_to_text(self.pin)}"
        if self.token is not None:
            line += f"&token={_to_text(self.token)}"
        if self.name:
            line += f"&name={quote(self.name, safe='')}"
        return line

    @classmethod
    def parse(cls, text: str) -> Invite:
        """Read a pasted line. Raises `ValueError`: what is wrong with it and what to do."""
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"this is far too long for an invite; {_COPY}")
        lines = _INVISIBLE.sub("", text).strip(_AROUND).splitlines()
        line = "".join(part.strip(_INDENTATION) for part in lines).replace("&amp;", "&")
        start = line.lower().find(SCHEME)
        if start < 0:
            raise ValueError(f"an invite begins with {SCHEME} and this does not; {_COPY}")
        if start > 0 or any(character.isspace() for character in line):
            raise ValueError(f"there is other text before, after or inside the invite; {_COPY}")
        found = _SHAPE.fullmatch(line)
        if found is None:
            raise ValueError(f"the invite's address cannot be read; {_COPY}")
        fields = _read_query(found["query"] or "")
        if "pin" not in fields:
            raise ValueError(f"the invite is cut: it has no pin; {_COPY}")
        token = fields.get("token")
        try:
            return cls(
                host=found["host"].strip("[]"),
                port=_read_port(found["port"]),
                pin=_from_text("pin", fields["pin"], PIN_BYTES),
                token=None if token is None else _from_text("token", token, TOKEN_BYTES),
                name=fields.get("name", ""),
            )
        except ValueError as error:
            raise ValueError(f"{error}; {_COPY}") from None


def _check_host(host: str) -> None:
    try:
        if ":" in host:
            good = IPv6Address(host).scope_id is None
        elif host.rpartition(".")[2].isdigit():
            good = bool(IPv4Address(host).packed)
        else:
            good = len(host) <= 253 and all(map(_LABEL.fullmatch, host.split(".")))
    except AddressValueError:
        good = False
    if not good:
        raise ValueError(f"the invite's host {host!r:.60} is no name or address")


def _read_port(text: str | None) -> int:
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ValueError(f"the invite's port {text!r:.20} is no number")
    return int(text)


def _read_query(query: str) -> dict[str, str]:
    """The keys and values; keys that nobody knows are harmless."""
    fields: dict[str, str] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key in fields and key in ("pin", "token", "name"):
            raise ValueError(f"the invite has two {key}s, so two were pasted together; {_COPY}")
        try:
            fields[key] = unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise ValueError(f"the invite's {key!r:.20} is damaged; {_COPY}") from None
    return fields


def _to_text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _from_text(name: str, text: str, size: int) -> bytes:
    """BASE64URL without padding. Python's own decoder skips what does not belong there."""
    text = text.rstrip("=")
    want = len(_to_text(bytes(size)))
    if len(text) != want:
        state = "cut" if len(text) < want else "too long"
        raise ValueError(f"the invite's {name} is {state}: {len(text)} of {want} characters")
    if re.fullmatch(r"[A-Za-z0-9_-]+", text) is not None:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if _to_text(raw) == text:
            return raw
    raise ValueError(f"the invite's {name} is damaged")
