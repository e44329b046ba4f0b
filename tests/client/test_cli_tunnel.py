from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from lightspeed_client.paths import config_file
from lightspeed_protocol.errors import ConfigError

from .commands import call, use_home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="XDG directories are Linux")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_home(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("test --server [::1]:5 --proxy 192.0.2.1", "names IPv4 servers only"),
        ("probe", "config set node.address"),
        ("probe", "give NODES"),
        ("probe 192.0.2.1 --node home", "not both"),
        ("test --server 192.0.2.5:1 --proxy 192.0.2.1 --game openarna", "did you mean openarena?"),
        ("probe 192.0.2.1:0", "1 to 65535"),
        ("test --server 192.0.2.5:1 --proxy 192.0.2.1 --game tetris", "lightspeed games"),
        ("live-test --echo --server 192.0.2.5:1 --proxy 192.0.2.1", "--echo"),
    ],
)
def test_wrong_use_is_exit_2_with_the_remedy(args: str, says: str) -> None:
    result = call(*args.split())
    assert result.exit_code == 2, result.output
    assert says in result.output


def test_a_bad_file_stops_every_command_that_reads_it() -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text("[tunnel]\nfec = 5\nextra = 1\n")
    for args in ("probe", "redirect --server 192.0.2.5:1 --proxy 192.0.2.1", "config show"):
        result = call(*args.split())
        assert isinstance(result.exception, ConfigError), args
        assert len(result.exception.problems) == 2


def test_a_probe_without_an_answer_is_exit_1_and_says_why() -> None:
    result = call("probe", "127.0.0.1:9", "--count", "1")
    assert result.exit_code == 1
    assert "UDP port 9" in result.output
    result = call("probe", "127.0.0.1:9", "--count", "1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)[0]["answers"] == 0
