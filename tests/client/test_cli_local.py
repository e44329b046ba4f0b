from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lightspeed_client.config import DEFAULT_TEXT
from lightspeed_client.flows import FlowTable
from lightspeed_client.gauges import Gauges
from lightspeed_client.paths import config_file, state_dir
from lightspeed_client.report import save
from lightspeed_client.status import StatusFile
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.keepalive import Prober

from .commands import call, use_home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="XDG directories are Linux")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_home(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("config set tunnel.fec 9", "want off, auto, xor:K"),
        ("config set a.b 9", "unknown key"),
        ("config set tunnel.fec", "VALUE"),
        ("report --last 0", "1<=x"),
        ("games quak", "did you mean quake3"),
        ("games tetris", "`lightspeed games` lists them"),
    ],
)
def test_wrong_use_is_exit_2_with_the_remedy(args: str, says: str) -> None:
    result = call(*args.split())
    assert result.exit_code == 2, result.output
    assert says in result.output


def test_config_is_printed_set_and_shown() -> None:
    assert call("config", "default").output == DEFAULT_TEXT
    assert call("config", "set", "node.address", "node.example.com:9").exit_code == 0
    shown = json.loads(call("config", "show", "--json").output)
    assert shown["node"] == {"address": "node.example.com:9"}
    assert 'address = "node.example.com:9"' in call("config", "show").output


def test_a_named_file_is_used_and_must_exist(tmp_path: Path) -> None:
    path = str(tmp_path / "mine.toml")
    assert isinstance(call("--config", path, "config", "show").exception, ConfigError)
    assert call("--config", path, "config", "set", "tunnel.fec", "xor:4").exit_code == 0
    assert (
        json.loads(call("--config", path, "config", "show", "--json").output)["tunnel"]["fec"]
        == "xor:4"
    )
    assert not config_file().exists()


def test_status_without_a_client_is_exit_1() -> None:
    assert call("status").output == "no client is running\n"
    assert call("status").exit_code == 1
    result = call("status", "--json")
    assert json.loads(result.output) == {"running": False}
    assert result.exit_code == 1


def test_status_shows_what_runs() -> None:
    figures = Gauges(FlowTable(), Prober(0.25, 0.0), 0.0).figures(1.0, strangers=0, notice=None)
    record = {**figures.to_json(), "server": "203.0.113.5:1", "node": "192.0.2.1:2"}
    StatusFile.of_this_process(state_dir()).write(record, time.time())
    assert "203.0.113.5:1 through 192.0.2.1:2: starting" in call("status").output
    assert "repair" not in call("status").output
    record |= {"repair_up": "1 repair per packet over 4: no report", "repair_down": None}
    StatusFile.of_this_process(state_dir()).write(record, time.time())
    assert call("status").output.endswith("\n  repair up: 1 repair per packet over 4: no report\n")
    result = call("status", "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["state"] == "starting"


def test_reports_are_listed_newest_first() -> None:
    assert call("report").exit_code == 1
    totals = Gauges(FlowTable(), Prober(0.25, 0.0), 0.0).totals(
        9.0, strangers=0, server="203.0.113.5:1", node="192.0.2.1:2"
    )
    for day in (1, 2):
        save(state_dir(), totals, datetime(2026, 1, day, tzinfo=UTC))
    assert "Ended 2026-01-02" in call("report").output
    assert "through 192.0.2.1:2" in call("report").output
    assert len(json.loads(call("report", "--last", "5", "--json").output)) == 2


def test_an_emptied_value_is_said_to_be_not_set() -> None:
    call("config", "set", "node.address", "192.0.2.1")
    assert call("config", "set", "node.address", "").output.startswith(
        "node.address is not set now in "
    )


def test_one_game_is_shown_with_its_details() -> None:
    output = call("games", "oa").output
    for part in ("OpenArena", "27960-27969", "\\connect 127.0.0.1:27960", "quake3", "packets/s"):
        assert part in output
    assert "Rust" not in output
    assert "picks its servers itself" in call("games", "valorant").output
    assert "Valve" in call("games", "CS2").output
    assert [r["key"] for r in json.loads(call("games", "oa", "--json").output)] == ["openarena"]


def test_games_are_listed_with_how_to_point_them() -> None:
    output = call("games").output
    assert "client.connect 127.0.0.1:28015" in output
    assert "cannot be pointed" in output
    records = json.loads(call("games", "--json").output)
    assert {record["key"] for record in records} >= {"rust", "openarena", "luanti"}
    assert all(set(record["notes"]) == {"redirect", "capture", "intercept"} for record in records)
