"""Reads a TOML file into attrs classes and reports every mistake at once; prints the default file.

Read with the standard library's tomllib: a reload of a running node costs under a millisecond,
where a format-preserving parser costs ten times that. Programs that edit a file use tomlkit.
"""

from __future__ import annotations

import difflib
import json
import stat
import textwrap
import tomllib
import typing
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeVar

import attrs
from cattrs import Converter, transform_error
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.v import format_exception

from ..errors import ConfigError

T = TypeVar("T")

Network = IPv4Network | IPv6Network

LARGEST_FILE_BYTES = 1_000_000  # a settings file is a few KB; /dev/zero must not fill the memory


def setting(
    default: Any, about: str, validator: Callable[..., Any] | list[Any] | None = None
) -> Any:
    """One attrs field of a settings class; `about` becomes its comment in the default file."""
    return attrs.field(default=default, validator=validator, metadata={"about": about})


def exactly(value: Any, kind: type[Any]) -> Any:
    """Left alone, cattrs reads ``port = true`` as 1 and ``4434.9`` as 4434."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"want {kind.__name__}, got {value!r}")
    return value


def network(value: Any, _kind: Any) -> Network:
    """``10.0.0.0/8``, ``2001:db8::/32``, or one address."""
    try:
        return ip_network(exactly(value, str))
    except ValueError as exc:
        raise ValueError(f"want a network such as 203.0.113.0/24: {exc}") from None


def _list_of(converter: Converter, kind: Any) -> Callable[[Any, Any], tuple[Any, ...]]:
    """`tuple[X, ...]`: a TOML list, every wrong item reported. A string is not a list here."""
    item_kind = typing.get_args(kind)[0]

    def structure(value: Any, _kind: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise TypeError(f"want a list, got {value!r}")
        items: list[Any] = []
        errors: list[Exception] = []
        for index, raw in enumerate(value):
            try:
                items.append(converter.structure(raw, item_kind))
            except Exception as exc:  # a hook may raise anything; all of it is the file's fault
                exc.__notes__ = [IterableValidationNote(f"item {index}", index, item_kind)]
                errors.append(exc)
        if errors:
            raise IterableValidationError("list", errors, kind)
        return tuple(items)

    return structure


def _table(converter: Converter, cls: type[Any]) -> Callable[[Any, Any], Any]:
    """An attrs class. Each field is validated by itself, so that one mistake hides no other."""

    def structure(raw: Any, _cls: Any) -> Any:
        if type(raw) is not dict:
            raise TypeError(f"want a table, got {raw!r}")
        values: dict[str, Any] = {}
        errors: list[Exception] = []
        fields = attrs.fields(attrs.resolve_types(cls))
        for field in fields:
            if field.name not in raw:
                continue
            try:
                values[field.name] = converter.structure(raw[field.name], field.type)
                if field.validator is not None:
                    field.validator(None, field, values[field.name])
            except Exception as exc:  # as above
                exc.__notes__ = [AttributeValidationNote(field.name, field.name, field.type)]
                errors.append(exc)
        unknown = raw.keys() - {field.name for field in fields}
        if unknown:
            errors.append(ForbiddenExtraKeysError("", cls, unknown))
        if errors:
            raise ClassValidationError(cls.__name__, errors, cls)
        return cls(**values)

    return structure


def _is_tuple(kind: Any) -> bool:
    return bool(typing.get_origin(kind) is tuple)


@cache
def make_converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, exactly)
    converter.register_structure_hook(Network, network)
    converter.register_structure_hook_factory(_is_tuple, lambda kind: _list_of(converter, kind))
    converter.register_structure_hook_factory(attrs.has, lambda cls: _table(converter, cls))
    return converter


def explain(exc: BaseException, kind: type[Any] | None) -> str:
    if isinstance(exc, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(exc.cl)]
        return ", ".join(_unknown(key, known) for key in sorted(exc.extra_fields))
    if isinstance(exc, (TypeError, ValueError)) and exc.args:
        return str(exc.args[0])
    return format_exception(exc, kind)


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else "")


def read_text(path: Path) -> str:
    """The file's text; whatever is wrong with it is a `ConfigError` with the remedy."""
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ConfigError(str(path), ["is not a regular file; name one"])  # a pipe may hang
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file; check the path"]) from None
    except IsADirectoryError:
        raise ConfigError(str(path), ["is a directory; name the file in it"]) from None
    except PermissionError:
        raise ConfigError(
            str(path), ["may not be read by this user; change its owner or mode"]
        ) from None
    except OSError as exc:
        raise ConfigError(str(path), [f"cannot be read: {exc.strerror or exc}"]) from None
    if len(raw) > LARGEST_FILE_BYTES:
        raise ConfigError(str(path), [f"more than {LARGEST_FILE_BYTES} bytes; is this the file?"])
    try:
        return raw.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise ConfigError(
            str(path), [f"line {line}: not UTF-8 (byte 0x{raw[exc.start]:02x}); save it as UTF-8"]
        ) from None


def parse(text: str, into: type[T], *, name: str) -> T:
    try:
        return make_converter().structure(tomllib.loads(text), into)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(name, [f"not TOML: {exc}"]) from None
    except Exception as exc:  # groups of anything a hook raised
        raise ConfigError(name, transform_error(exc, "config", explain)) from None


def load(path: Path, into: type[T]) -> T:
    return parse(read_text(path), into, name=str(path))


def differences(old: Any, new: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) for every key in which two settings objects differ."""
    if not attrs.has(type(old)):
        return [] if old == new else [(at, old, new)]
    return [
        change
        for field in attrs.fields(type(old))
        for change in differences(
            getattr(old, field.name), getattr(new, field.name), f"{at}.{field.name}".lstrip(".")
        )
    ]


def render(settings: Any, *, head: str) -> str:
    """The commented file that `load` reads back as `settings`; comments come from `setting`."""
    lines = [*_comment(head)]
    for table in attrs.fields(type(settings)):
        lines += ["", f"[{table.name}]"]
        section = getattr(settings, table.name)
        for field in attrs.fields(type(section)):
            lines += _comment(field.metadata["about"])
            lines.append(f"{field.name} = {_toml(getattr(section, field.name))}")
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 97)]


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case _:
            # the one character JSON leaves as it is and TOML does not allow
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
