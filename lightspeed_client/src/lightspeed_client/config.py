"""The player's settings file: what it may say, what holds without it, how it is edited.

Every key here is used by a command. A wrong file stops the command with all its mistakes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import attrs
import tomlkit
from attrs.validators import ge, le
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.config import load
from tomlkit.items import Table

from .address import NODE_PORT, parse_address
from .fec_choice import BUDGET_MS, TARGET_PERCENT, parse_caps, parse_fec
from .paths import replace_file


def _server_or_empty(_: object, __: attrs.Attribute[str], value: str) -> None:
    if value:
        parse_address(value)


def _node_or_empty(_: object, __: attrs.Attribute[str], value: str) -> None:
    if value:
        parse_address(value, default_port=NODE_PORT)


def _fec(_: object, __: attrs.Attribute[str], value: str) -> None:
    parse_fec(value)


def _caps_or_empty(_: object, __: attrs.Attribute[str], value: str) -> None:
    if value:
        parse_caps(value)


@attrs.frozen(kw_only=True)
class Node:
    address: str = attrs.field(default="", validator=_node_or_empty)


@attrs.frozen(kw_only=True)
class Tunnel:
    fec: str = attrs.field(default="auto", validator=_fec)
    fec_budget_ms: int = attrs.field(default=50, validator=[ge(BUDGET_MS[0]), le(BUDGET_MS[1])])
    fec_cap: str = attrs.field(default="", validator=_caps_or_empty)
    fec_target: float = attrs.field(
        default=0.1, validator=[ge(TARGET_PERCENT[0]), le(TARGET_PERCENT[1])]
    )
    keepalive_ms: int = attrs.field(default=250, validator=[ge(50), le(5000)])
    idle_timeout_s: int = attrs.field(default=300, validator=[ge(5), le(86400)])


@attrs.frozen(kw_only=True)
class RedirectConfig:
    server: str = attrs.field(default="", validator=_server_or_empty)
    local_port: int = attrs.field(default=0, validator=[ge(0), le(65535)])


@attrs.frozen(kw_only=True)
class ReportConfig:
    keep: int = attrs.field(default=50, validator=[ge(1), le(10000)])


@attrs.frozen(kw_only=True)
class ClientConfig:
    node: Node = Node()
    tunnel: Tunnel = Tunnel()
    redirect: RedirectConfig = RedirectConfig()
    report: ReportConfig = ReportConfig()


DEFAULT_TEXT: Final = """\
# LightSpeed client settings. Command-line options win over this file.
# `lightspeed config set KEY VALUE` changes a value and keeps the comments.

[node]
# An open node to play through, "host" or "host:port"; the port is 4434 if left out.
# Empty: the nodes you were invited to (`lightspeed nodes`), or --proxy on the command line.
address = ""

[tunnel]
# Loss repair: "auto" adds as many repair packets as the reported loss needs, none on a good line.
# "off"; "xor:K": always one for every K game packets, K from 2 to 16. Through an open node, which
# reports nothing, "auto" is "off". Two of them with a comma: what the game sends, what it is sent.
fec = "auto"
# Milliseconds within which a rebuilt packet is still of use to the game.
fec_budget_ms = 50
# The most a conversation may cost each way, repair included: "200" kbit/s, "1.5x" the game's own
# packets, or both, "1.5x,200". Empty: twice its own packets with "auto".
fec_cap = ""
# Percent of packets that may be missing or late with "auto".
fec_target = 0.1
# Milliseconds between round-trip measurements while a game is played.
keepalive_ms = 250
# A local game socket that has sent nothing for this many seconds is closed.
idle_timeout_s = 300

[redirect]
# The game server, "host:port". Empty: give --server on the command line.
server = ""
# The local port to point the game at. 0: the game server's port number if that is free
# here, else any free one.
local_port = 0

[report]
# How many session reports are kept.
keep = 50
"""


def read(path: Path, *, must_exist: bool = False) -> ClientConfig:
    """The file, or the defaults without one. Raises `ConfigError` with every mistake."""
    try:
        if not path.exists() and not must_exist:
            return ClientConfig()
        with path.open("rb"):
            pass
    except OSError as exc:
        raise ConfigError(str(path), [f"cannot be read: {exc.strerror or exc}"]) from None
    return load(path, ClientConfig)


def known_keys() -> dict[str, Any]:
    """Dotted key -> default."""
    return {
        f"{section}.{key}": value
        for section, values in attrs.asdict(ClientConfig()).items()
        for key, value in values.items()
    }


def set_value(path: Path, key: str, text: str) -> None:
    """Change one value in the file, keeping comments; a missing file starts as the default.

    Raises `ValueError` for a bad key or value (the file stays as it was), `ConfigError` when the
    file is wrong already, `OSError` when it cannot be written.
    """
    defaults = known_keys()
    if key not in defaults:
        raise ValueError(f"unknown key {key!r}; known: {', '.join(defaults)}")
    value: int | float | str = text
    kind = type(defaults[key])
    if kind is not str:
        try:
            value = int(text) if kind is int else float(text)
        except ValueError:
            number = "a whole number" if kind is int else "a number"
            raise ValueError(f"{key} wants {number}, got {text!r}") from None
    section, _, name = key.partition(".")
    current = read(path)
    try:
        attrs.evolve(getattr(current, section), **{name: value})
    except ValueError as exc:
        raise ValueError(f"{key}: {exc.args[0]}") from None
    document = tomlkit.parse(path.read_text("utf-8") if path.exists() else DEFAULT_TEXT)
    table = document.setdefault(section, tomlkit.table())
    assert isinstance(table, Table)
    table[name] = value
    replace_file(path, tomlkit.dumps(document))
