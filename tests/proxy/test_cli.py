from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from lightspeed_protocol.runtime.config import parse
from lightspeed_protocol.runtime.http import listen
from lightspeed_proxy.config import ProxyConfig
from lightspeed_proxy.relay import open_data_socket

from lightspeed_proxy import __version__, cli, config, main


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.cli, args)


def free_ports() -> tuple[str, str]:
    """A UDP and a TCP address of loopback that nobody has now."""
    with (
        closing(open_data_socket(("127.0.0.1", 0))) as udp,
        closing(listen(("127.0.0.1", 0))) as tcp,
    ):
        return (
            config.show_address(udp.getsockname()),
            config.show_address(tcp.getsockname()),
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    data, http = free_ports()
    path = tmp_path / "proxy.toml"
    path.write_text(f'[data]\nbind = "{data}"\n[http]\nbind = "{http}"\n')
    return path


def every_command(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, *names, name)
        else:
            yield (*names, name)


@pytest.mark.parametrize("names", list(every_command(cli.cli)), ids="-".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(names: tuple[str, ...], flag: str) -> None:
    result = invoke(*names, flag)
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")


def test_the_version_is_printed() -> None:
    result = invoke("--version")
    assert (result.exit_code, result.output) == (0, f"lightspeed-proxy, version {__version__}\n")


def test_the_default_file_is_printed_and_check_accepts_it(tmp_path: Path) -> None:
    result = invoke("config", "default")
    assert result.exit_code == 0
    assert parse(result.output, ProxyConfig, name="x") == ProxyConfig()
    data, http = free_ports()
    text = result.output.replace("0.0.0.0:4434", data).replace("127.0.0.1:8080", http)
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    assert invoke("check", "--config", str(path)).exit_code == 0


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--data", "localhost:1"],
        ["run", "--http", "127.0.0.1"],
        ["run", "--bogus"],
        ["run", "--force"],
        ["run", "--log", "pretty"],
        ["nothing"],
        [],
    ],
)
def test_a_mistake_on_the_command_line_is_2(args: list[str]) -> None:
    assert invoke(*args).exit_code == 2


def test_check_lists_every_mistake_of_the_file(file: Path) -> None:
    file.write_text("[limits]\nmax_clients = 0\nmax_pps_per_client = 1.5\n[bogus]\n")
    result = invoke("check", "--config", str(file))
    assert result.exit_code == 78
    for part in ("'max_clients' must be >= 1", "want int, got 1.5", "unknown key 'bogus'"):
        assert part in result.stderr


def test_check_lists_every_port_and_limit_that_will_not_do(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "hard_file_limit", lambda: 1024)
    settings = config.Source(path=file).read()
    with (
        closing(open_data_socket(settings.data.address)),
        closing(listen(settings.http.address)),
    ):
        result = invoke("check", "--config", str(file))
    assert result.exit_code == 78
    assert f"UDP {settings.data.bind} is in use" in result.stderr
    assert f"TCP {settings.http.bind} is in use" in result.stderr
    assert "needs 1856 open files, but only 1024" in result.stderr


def test_check_knows_the_limit_on_open_files(file: Path) -> None:
    if main.hard_file_limit() is None:
        pytest.skip("no limit on open files here")
    file.write_text(
        file.read_text() + "[limits]\nmax_clients = 1000000\nmax_flows_per_client = 10000\n"
    )
    result = invoke("check", "--config", str(file))
    assert result.exit_code == 78
    assert "open files" in result.stderr


def test_check_without_problems_says_so(file: Path) -> None:
    result = invoke("check", "--config", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "no problems" in result.stdout


def test_an_address_of_another_machine_names_the_remedy(file: Path) -> None:
    file.write_text('[data]\nbind = "192.0.2.1:4434"\n[http]\nbind = "127.0.0.1:0"\n')
    result = invoke("check", "--config", str(file))
    assert result.exit_code == 78
    assert "192.0.2.1:4434 is not an address of this machine" in result.stderr


@pytest.mark.parametrize("bind", ["0.0.0.0:4434", ":4434", "[::]:4434"])
def test_dev_refuses_an_address_that_strangers_reach(bind: str) -> None:
    result = invoke("run", "--dev", "--data", bind)
    assert result.exit_code == 77
    assert "--force" in result.stderr
    assert "127.0.0.1:4434" in result.stderr


def test_dev_refuses_a_public_address_from_a_file_too(file: Path) -> None:
    file.write_text('[http]\nbind = "127.0.0.1:0"\n')  # data.bind is 0.0.0.0 by default
    assert invoke("run", "--dev", "--config", str(file)).exit_code == 77


def test_a_missing_or_malformed_file_stops_the_start(file: Path, tmp_path: Path) -> None:
    missing = invoke("run", "--config", str(tmp_path / "missing.toml"))
    assert missing.exit_code == 78
    assert "no such file" in missing.stderr
    file.write_text("[limits\n")
    assert invoke("run", "--dev", "--config", str(file)).exit_code == 78


def test_the_usual_file_is_read_if_it_is_there(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "DEFAULT_PATH", file)
    assert cli.pick_path(None) == file
    monkeypatch.setattr(cli, "DEFAULT_PATH", tmp_path / "missing.toml")
    assert cli.pick_path(None) is None
    assert cli.pick_path(file) == file


def test_status_of_no_node_says_where_it_asked(file: Path) -> None:
    result = invoke("status", "--http", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "no node answers at 127.0.0.1:1" in result.stderr


def test_status_asks_on_loopback_where_the_node_listens_everywhere() -> None:
    settings = config.Source(http=":81").read()
    assert cli.reachable(settings) == ("127.0.0.1", 81)


def test_status_reads_like_a_sentence() -> None:
    text = cli.describe(
        json.loads(
            '{"node_id": "n", "region": "eu", "version": "1", "status": "healthy",'
            ' "uptime_secs": 5, "active_connections": 2, "max_connections": 9, "flows": 3,'
            ' "packets_relayed": 10, "bytes_relayed": 900, "packets_dropped": 4,'
            ' "fec_recoveries": 1, "open": true, "drops": {"short": 3, "version": 1, "empty": 0}}'
        )
    )
    assert "healthy for 5 s, open to anyone (--dev)" in text
    assert "2 of 9, 3 conversations" in text
    assert "4 (short 3, version 1)" in text


def test_a_reserved_port_of_another_program_is_named_in_one_line() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = config.show_address(taken.getsockname())
        result = invoke("run", "--dev", "--data", "127.0.0.1:0", "--http", bind)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert f"TCP {bind} is in use" in line
    assert "--http" in line


if sys.platform != "win32":
    import resource

    def test_the_open_files_are_raised_to_what_is_allowed() -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
            limit = main.raise_file_limit()
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
            assert limit in (None, before[1])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
