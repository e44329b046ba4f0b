from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lightspeed_client.paths import nodes_file

from .commands import call, use_home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="XDG directories are Linux")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_home(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("redirect --server [::1]:27960 --proxy 192.0.2.1", "names IPv4 servers only"),
        ("redirect --server nowhere --proxy 192.0.2.1", "port is missing"),
        ("redirect --server 192.0.2.5:1 --proxy 192.0.2.1 --fec xor:1", "want off, auto, xor:K"),
        ("redirect --server 192.0.2.5:1 --proxy 192.0.2.1 --local-port 99999", "65535"),
        ("redirect --server 192.0.2.5:1", "config set node.address"),
        ("redirect --proxy 192.0.2.1", "config set redirect.server"),
        ("redirect --server 192.0.2.5:1", "lightspeed add INVITE"),
        ("redirect --server 192.0.2.5:1 --node home", "lightspeed nodes"),
        ("redirect --server 192.0.2.5:1 --node home --proxy 192.0.2.1", "not both"),
        ("play tetris --server 192.0.2.5 --proxy 192.0.2.1", "lightspeed games"),
        ("play openarena", "lightspeed add INVITE"),
        ("play openarena --proxy 192.0.2.1", "config set redirect.server"),
        ("play openarena --proxy 192.0.2.1 --server ::1", "names IPv4 servers only"),
        ("play openarena --proxy 192.0.2.1 --server a:b:c", "--server: want host:port"),
    ],
)
def test_wrong_use_is_exit_2_with_the_remedy(args: str, says: str) -> None:
    result = call(*args.split())
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert not nodes_file().exists()


def test_a_game_that_takes_no_address_is_refused_with_the_reason() -> None:
    result = call("play", "fortnite", "--server", "192.0.2.5", "--proxy", "192.0.2.1")
    assert result.exit_code == 1
    assert "Fortnite cannot be pointed at the tunnel" in result.output


def test_play_listens_on_the_games_port_and_says_how_it_is_pointed_there() -> None:
    command = [
        sys.executable, "-m", "lightspeed_client", "play", "openarena",
        "--server", "192.0.2.5", "--proxy", "127.0.0.1:9", "--json",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as playing:
        assert playing.stdout is not None
        assert playing.stderr is not None
        record = json.loads(playing.stdout.readline())
        playing.send_signal(signal.SIGINT)
        playing.stdout.read()
        assert b"anti-cheat: touches neither" in playing.stderr.read()
    assert playing.returncode == 0
    assert record["server"] == "192.0.2.5:27960"
    assert record["how"].endswith(record["local"][0])
