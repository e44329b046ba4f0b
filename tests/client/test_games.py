from __future__ import annotations

from pathlib import Path

import pytest
from lightspeed_client.games import FIRST_OWN_ID, MODES, load_games
from lightspeed_client.games.query import question
from lightspeed_protocol.errors import ConfigError

OWN = '[[game]]\nid = 200\nkey = "mygame"\nname = "My Game"\nports = [5, 9]\nlocal_port = 5\n'


def test_the_nine_fixed_ids_are_the_documents() -> None:
    games = load_games()
    first = [game.key for game in games if game.id < FIRST_OWN_ID]
    assert first == ["fortnite", "cs2", "dota2", "rust", "valorant", "apex", "ow2", "lol", "pubg"]
    assert [game.id for game in games][:9] == list(range(1, 10))
    assert all(not 10 <= game.id < FIRST_OWN_ID for game in games)


def test_no_two_games_share_an_id_or_a_name() -> None:
    words = [word for g in load_games() for word in (g.key, *g.aliases, str(g.id))]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("CS2", "cs2"),
        ("Counter-Strike", "cs2"),
        ("minetest", "luanti"),
        ("8", "lol"),
        ("q3", "quake3"),
    ],
)
def test_games_are_found_by_key_alias_and_id(word: str, key: str) -> None:
    game = load_games().find(word)
    assert game is not None
    assert game.key == key


def test_unknown_words_find_nothing() -> None:
    assert load_games().find("0") is None
    assert load_games().find("tetris") is None


@pytest.mark.parametrize(
    ("word", "key"), [("quake", "quake3"), ("openarna", "openarena"), ("counter", "cs2")]
)
def test_unknown_words_have_near_matches(word: str, key: str) -> None:
    assert key in load_games().near(word)
    assert load_games().near("tetris") == []


def test_a_game_that_can_be_pointed_names_the_address() -> None:
    games = load_games()
    for game in games:
        how = game.how_to_point("127.0.0.1:5")
        assert (how is None) == (game.point == "")
        assert how is None or "127.0.0.1:5" in how
        assert question(game.query)
        for mode in MODES:
            assert games.note(game, mode)
    valorant = games.find("valorant")
    assert valorant is not None
    assert games.note(valorant, "intercept").startswith("Riot Vanguard: ")


def test_a_player_adds_and_replaces_games_without_python(tmp_path: Path) -> None:
    own = tmp_path / "games.toml"
    own.write_text(OWN + OWN.replace("200", "4").replace("mygame", "rust"))
    games = load_games(own)
    found = games.find("200")
    assert found is not None
    assert found.name == "My Game"
    rust = games.find("rust")
    assert rust is not None
    assert rust.ports == (5, 9)
    assert load_games(tmp_path / "none").find("rust") != rust


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("id = 64\nkey = 'a'", "names both"),
        ("id = 300\nkey = 'a'", "255"),
        ("id = 201\nkey = 'A B'", "key"),
        ("id = 201\nkey = 'a'\nport = 5", "did you mean 'ports'"),
        ("id = 201\nkey = 'a'\nquery = 'magic'", "magic"),
        ("id = 201\nkey = 'a'\nnotes = { fly = 'x' }", "unknown mode"),
    ],
)
def test_mistakes_in_the_players_file_are_named(tmp_path: Path, change: str, says: str) -> None:
    own = tmp_path / "games.toml"
    own.write_text(f'[[game]]\n{change}\nname = "X"\nports = [5, 9]\nlocal_port = 5\n')
    with pytest.raises(ConfigError, match=says):
        load_games(own)


@pytest.mark.parametrize("text", ["[[game", "[[game]]\nports = [9, 5]", "\0"])
def test_broken_files_are_config_errors(tmp_path: Path, text: str) -> None:
    own = tmp_path / "games.toml"
    own.write_text(text)
    with pytest.raises(ConfigError):
        load_games(own)
