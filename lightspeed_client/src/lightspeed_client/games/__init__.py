"""The games that are known: data from `games.toml`, and from the player's own file beside it.

Found by key, alias or id, in any case of letters. Source: GAMES.md; what the player's file
holds wins, so that a wrong port needs no new release.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import attrs
from attrs.validators import and_, ge, in_, le, matches_re, min_len
from cattrs import transform_error
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.config import explain, make_converter

QueryKind = Literal["a2s", "quake3", "raknet", "teeworlds", "luanti", "none"]
QUERY_KINDS: Final = ("a2s", "quake3", "raknet", "teeworlds", "luanti", "none")
MODES: Final = ("redirect", "capture", "intercept")
FIRST_OWN_ID: Final = 64

_port = and_(ge(1), le(65535))


@attrs.frozen(kw_only=True)
class Game:
    """One game. `point` tells how to make it connect to `{address}`; "" means it cannot be."""

    id: int = attrs.field(validator=[ge(1), le(255)])
    key: str = attrs.field(validator=matches_re(r"[a-z0-9][a-z0-9-]*"))
    name: str = attrs.field(validator=min_len(1))
    aliases: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    ports: tuple[int, int] = attrs.field()
    local_port: int = attrs.field(validator=_port)
    anti_cheat: str = "none"
    sdr: bool = False
    pps: int = attrs.field(default=60, validator=ge(1))
    packet_bytes: tuple[int, int] = (30, 1400)
    query: str = attrs.field(default="none", validator=in_(QUERY_KINDS))
    point: str = ""
    notes: dict[str, str] = attrs.field(factory=dict)  # anti-cheat, by mode; else the common one

    @ports.validator
    def _check_ports(self, _: attrs.Attribute[tuple[int, int]], value: tuple[int, int]) -> None:
        if not 1 <= value[0] <= value[1] <= 65535:
            raise ValueError(f"want two ports, the lower first, got {list(value)!r}")

    @notes.validator
    def _check_notes(self, _: attrs.Attribute[dict[str, str]], value: dict[str, str]) -> None:
        for mode in value:
            if mode not in MODES:
                raise ValueError(f"unknown mode {mode!r} in notes; known: {', '.join(MODES)}")

    def how_to_point(self, address: str) -> str | None:
        """What the player does; None when the game takes no address."""
        return self.point.replace("{address}", address) if self.point else None


@attrs.frozen(kw_only=True)
class _File:
    game: tuple[Game, ...] = ()
    notes: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Games:
    """Every known game, the player's own included."""

    by_key: dict[str, Game]
    common_notes: dict[str, str]

    def __iter__(self) -> Iterator[Game]:
        return iter(sorted(self.by_key.values(), key=lambda game: game.id))

    def find(self, word: str) -> Game | None:
        """By key, alias or id."""
        word = word.strip().lower()
        if word in self.by_key:
            return self.by_key[word]
        for game in self.by_key.values():
            if word in game.aliases or word == str(game.id):
                return game
        return None

    def near(self, word: str) -> list[str]:
        """Keys of the games that `word` may have meant."""
        word = word.strip().lower()
        keys = {
            each.lower(): game.key for game in self for each in (game.key, game.name, *game.aliases)
        }
        alike = [each for each in keys if len(word) > 1 and (word in each or each in word)]
        alike += difflib.get_close_matches(word, keys, n=3)
        return list(dict.fromkeys(keys[each] for each in alike))

    def note(self, game: Game, mode: str) -> str:
        """What the mode means for this game's anti-cheat."""
        text = game.notes.get(mode, self.common_notes[mode])
        return text if game.anti_cheat == "none" else f"{game.anti_cheat}: {text}"


def load_games(own: Path | None = None) -> Games:
    """The shipped table and, if it exists, the player's file. Raises `ConfigError`."""
    shipped = resources.files(__package__).joinpath("games.toml").read_text("utf-8")
    table = _structure("games.toml", tomllib.loads(shipped))
    by_key = {game.key: game for game in table.game}
    if own is not None and own.exists():
        mine = _structure(str(own), _parse(own))
        by_key |= {game.key: game for game in mine.game}
        problems = _clashes(list(by_key.values()))
        if problems:
            raise ConfigError(str(own), problems)
    return Games(by_key, table.notes)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(str(path), [f"cannot be read: {exc.strerror or exc}"]) from None
    except ValueError as exc:
        raise ConfigError(str(path), [str(exc)]) from None


def _structure(path: str, raw: dict[str, Any]) -> _File:
    try:
        return make_converter().structure(raw, _File)
    except ExceptionGroup as group:
        raise ConfigError(path, transform_error(group, "games", explain)) from None


def _clashes(games: list[Game]) -> list[str]:
    """Two games under one id or name would make a choice at random."""
    problems = []
    seen: dict[str, str] = {}
    for game in games:
        for word in (game.key, *game.aliases, str(game.id)):
            if word in seen:
                problems.append(f"{word!r} names both {seen[word]} and {game.key}")
            seen[word] = game.key
    return problems
