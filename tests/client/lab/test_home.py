from __future__ import annotations

import tomllib
from pathlib import Path

from lightspeed_client.lab.home import Doors, Home, NodeLimits

DOORS = Doors(data=("127.0.0.1", 4444), control=("127.0.0.1", 4443))


def test_a_closed_node_is_told_its_doors_and_keeps_to_loopback() -> None:
    settings = tomllib.loads(NodeLimits(max_flows_per_client=66).to_toml(DOORS))
    assert settings["data"] == {"advertise": "127.0.0.1:4444"}
    assert settings["control"] == {"advertise": "127.0.0.1:4443"}
    assert settings["security"]["allow_destinations"] == ["127.0.0.0/8"]
    assert settings["security"]["max_destinations_per_window"] == 66
    assert "data" not in tomllib.loads(NodeLimits().to_toml())


def test_a_home_is_a_directory_that_every_command_is_told(tmp_path: Path) -> None:
    home = Home.make(tmp_path, NodeLimits(), None)
    _, config, _, state = home.options()
    assert Path(config).parent == Path(state).parent == tmp_path
    assert "drain_s" in Path(config).read_text("utf-8")
