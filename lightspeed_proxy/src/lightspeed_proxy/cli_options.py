"""What several of the node's commands share: options, kinds of values, how settings are read."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.config import Network

from .config import DEFAULT_PATH, ProxyConfig, Source, parse_address
from .main import BAD_CONFIG

UNIT_S: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
LONGEST_DAYS: Final = 36_500


def address(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Option callback: the text stays as it is, a mistake in it is a usage error."""
    if value is not None:
        try:
            parse_address(value)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from None
    return value


def absolute(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Option callback: a directory as seen from where the command was typed."""
    return None if value is None else os.path.abspath(value)


def config_option(command: Any) -> Any:
    return click.option(
        "--config",
        "path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"Settings; without it {DEFAULT_PATH} if there is one, else built-in defaults.",
    )(command)


def state_option(command: Any) -> Any:
    return click.option(
        "--state",
        metavar="DIR",
        callback=absolute,
        help="Where the node's key and invites are kept, above the file.",
    )(command)


def json_option(about: str) -> Callable[[Any], Any]:
    return click.option("--json", "as_json", is_flag=True, help=about)


class Duration(click.ParamType[int]):
    """``30d``, ``12h``, ``45m``, ``90s``, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]{1,9})([dhms])", value)
        seconds = int(found[1]) * UNIT_S[found[2]] if found else 0
        if not 0 < seconds <= LONGEST_DAYS * UNIT_S["d"]:
            self.fail(
                f"want 30d, 12h, 45m or 90s, at most {LONGEST_DAYS}d, got {value!r}", param, ctx
            )
        return seconds


class Cidr(click.ParamType[Network]):
    """``198.51.100.0/24``, ``2001:db8::/32``, or one address."""

    name = "cidr"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Network:
        try:
            return ip_network(value)
        except ValueError as exc:
            self.fail(f"want a network such as 198.51.100.0/24: {exc}", param, ctx)


def pick_path(path: Path | None, usual: Path = DEFAULT_PATH) -> Path | None:
    """The file that was named, else the usual one unless it is not there."""
    if path is not None:
        return path
    try:
        usual.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # it is there and cannot be read: loading it says so
    return usual


def read_or_exit(source: Source) -> ProxyConfig:
    """The settings; whatever is wrong with them ends the program."""
    try:
        return source.read()
    except ConfigError as exc:
        leave(str(exc), BAD_CONFIG)


def leave(text: str, status: int) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(status)
