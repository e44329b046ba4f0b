from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import click
import pytest
from click.testing import CliRunner, Result
from lightspeed_protocol.runtime.config import parse
from lightspeed_protocol.runtime.http import listen
from lightspeed_protocol.runtime.udp import open_socket
from lightspeed_proxy.config import ProxyConfig

from lightspeed_proxy import __version__, cli, config, main


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.cli, args)


def free_ports() -> tuple[str, str, str]:
    """Two UDP addresses and a TCP address of loopback that nobody has now."""
    with (
        closing(open_socket(("127.0.0.1", 0))) as control,
        closing(open_socket(("127.0.0.1", 0))) as data,
        closing(listen(("127.0.0.1", 0))) as http,
    ):
        return (
            config.show_address(control.getsockname()),
            config.show_address(data.getsockname()),
            config.show_address(http.getsockname()),
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Settings that suit this machine; `[node]` comes last, so that a test can add to it."""
    control, data, http = free_ports()
    path = tmp_path / "proxy.toml"
    path.write_text(
        f'[control]\nbind = "{control}"\n[data]\nbind = "{data}"\n[http]\nbind = "{http}"\n'
        f"[node]\nstate_dir = '{tmp_path / 'state'}'\n"
    )
    return path


class Answer(BaseHTTPRequestHandler):
    """Answers every GET with what stands in its `answers`, by path."""

    answers: ClassVar[dict[str, tuple[int, str]]] = {}

    def do_GET(self) -> None:
        status, text = self.answers.get(self.path, (404, "not found"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def answering(**answers: tuple[int, str]) -> Iterator[str]:
    """The address of something on loopback that answers one request."""

    class Some(Answer):
        pass

    Some.answers = {f"/{path}": answer for path, answer in answers.items()}
    with HTTPServer(("127.0.0.1", 0), Some) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield config.show_address(("127.0.0.1", server.server_port))
        thread.join(timeout=20)


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
    control, data, http = free_ports()
    text = result.output.replace('":4433"', f'"{control}"').replace('":4434"', f'"{data}"')
    text = text.replace("127.0.0.1:8080", http)
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    checked = invoke("check", "--config", str(path), "--state", str(tmp_path / "state"))
    assert checked.exit_code == 0, checked.output
    for address in (control, data, http):
        assert address in checked.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--data", "localhost:1"],
        ["run", "--control", "localhost:1"],
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
        closing(open_socket(settings.control.address)),
        closing(open_socket(settings.data.address)),
        closing(listen(settings.http.address)),
    ):
        result = invoke("check", "--config", str(file))
    assert result.exit_code == 78
    assert f"UDP {settings.control.bind} is in use" in result.stderr
    assert "--control ADDR or [control] bind" in result.stderr
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


def test_check_without_problems_says_so_and_makes_nothing(file: Path) -> None:
    result = invoke("check", "--config", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "no problems" in result.stdout
    assert "relays for nobody yet: make an invite with" in result.stdout
    assert not (file.parent / "state").exists()
    assert invoke("invite", "anna", "--host", "x", "--config", str(file)).exit_code == 0
    result = invoke("check", "--config", str(file))
    assert "nobody" not in result.stdout


def test_check_looks_at_the_key_the_invites_and_the_directory(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "identity.pem").write_text("broken")
    (state / "invites.json").write_text("broken")
    result = invoke("check", "--config", str(file))
    assert result.exit_code == 78
    assert "identity.pem: holds no private key in PEM that can be read" in result.stderr
    assert "invites.json: is not as lightspeed-proxy writes it" in result.stderr
    (tmp_path / "file").write_text("")
    result = invoke("check", "--config", str(file), "--state", str(tmp_path / "file"))
    assert result.exit_code == 78
    assert "is not a directory" in result.stderr


def test_check_looks_at_the_operators_certificate(file: Path) -> None:
    text = file.read_text()
    missing = (file.parent / "missing.pem").as_posix()
    pair = f"[control]\ncertificate = '{missing}'\nkey = '{missing}'\n"
    file.write_text(text.replace("[control]\n", pair))
    result = invoke("check", "--config", str(file))
    assert result.exit_code == 78
    assert "missing.pem: no such file" in result.stderr


def test_an_address_of_another_machine_names_the_remedy(file: Path) -> None:
    file.write_text('[data]\nbind = "192.0.2.1:4434"\n[http]\nbind = "127.0.0.1:0"\n')
    result = invoke("check", "--config", str(file))
    assert result.exit_code == 78
    assert "192.0.2.1:4434 is not an address of this machine" in result.stderr


@pytest.mark.parametrize("option", ["--data", "--control"])
@pytest.mark.parametrize("bind", ["0.0.0.0:4434", ":4434", "[::]:4434"])
def test_dev_refuses_an_address_that_strangers_reach(option: str, bind: str) -> None:
    result = invoke("run", "--dev", option, bind)
    assert result.exit_code == 77
    assert bind in result.stderr
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


@pytest.mark.parametrize(
    ("data", "control"),
    [
        (None, "127.0.0.1:4433"),
        ("127.0.0.1:4434", "127.0.0.1:4433"),
        ("192.168.1.5:4434", "192.168.1.5:4433"),
        ("[::1]:4434", "[::1]:4433"),
        ("127.0.0.1:5555", "127.0.0.1:0"),
        ("127.0.0.1:0", "127.0.0.1:0"),
    ],
)
def test_dev_registers_beside_the_data_port(data: str | None, control: str) -> None:
    source = main.dev_source(config.Source(data=data))
    assert source.read().control.bind == control
    assert source.read().data.bind == (data or "127.0.0.1:4434")


def test_dev_registers_where_it_was_told(file: Path) -> None:
    told = config.Source(path=file).read().control.bind
    assert main.dev_source(config.Source(path=file)).read().control.bind == told
    source = main.dev_source(config.Source(path=file, control="127.0.0.1:9"))
    assert source.read().control.bind == "127.0.0.1:9"


def test_a_broken_key_or_list_of_invites_stops_the_start(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "invites.json").write_text("broken")
    result = invoke("run", "--config", str(file))
    assert result.exit_code == 78
    assert "invites.json:\n  is not as lightspeed-proxy writes it" in result.stderr
    (state / "identity.pem").write_text("broken")
    result = invoke("run", "--config", str(file))
    assert result.exit_code == 78
    assert "restore it from a backup" in result.stderr


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


def test_status_tells_how_many_invites_there_are() -> None:
    assert cli.invited({}) == cli.invited({"invites": 0}) == "relays for nobody yet"
    assert cli.invited({"invites": 1}) == "1 invite"
    assert cli.invited({"invites": 2}) == "2 invites"


SESSION = {
    "session": 7, "invite": "anna", "address": "203.0.113.5:9", "flows": 2, "packets_up": 10,
    "packets_down": 11, "age_s": 61.7, "idle_s": 0.2, "client": "0.3", "version": 8,
    "repair": "1 repair per packet over 4: 9.8 % lost",
}  # fmt: skip


def test_sessions_are_a_table_or_what_the_node_said() -> None:
    text = json.dumps([SESSION, {**SESSION, "invite": "", "address": None, "repair": None}])
    with answering(sessions=(200, text)) as http:
        result = invoke("sessions", "--http", http)
    assert result.exit_code == 0
    head, anna, open_one = result.stdout.splitlines()
    assert head.split()[:3] == ["SESSION", "INVITE", "ADDRESS"]
    assert anna.split()[:12] == (
        ["7", "anna", "203.0.113.5:9", "2", "10", "11", "62", "s", "0", "s", "0.3", "8"]
    )
    assert head.endswith("REPAIR")
    assert anna.endswith("  1 repair per packet over 4: 9.8 % lost")
    assert open_one.split()[:3] == ["7", "-", "-"]
    assert open_one.split()[-1] == "-"
    with answering(sessions=(200, text)) as http:
        result = invoke("sessions", "--http", http, "--json")
    assert json.loads(result.stdout) == json.loads(text)


def test_no_sessions_is_said_and_is_an_empty_list_for_programs() -> None:
    with answering(sessions=(200, "[]")) as http:
        result = invoke("sessions", "--http", http)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nobody uses this node now" in result.stderr
    with answering(sessions=(200, "[]")) as http:
        assert invoke("sessions", "--http", http, "--json").stdout == "[]\n"


@pytest.mark.parametrize("answer", [(403, "no"), (404, "no"), (200, "{}"), (500, "{")])
def test_a_node_that_does_not_tell_its_sessions_is_1(answer: tuple[int, str]) -> None:
    with answering(sessions=answer) as http:
        result = invoke("sessions", "--http", http)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_something_else_than_a_node_is_not_shown_as_one() -> None:
    for text in ("[]", "{}", "hello"):
        with answering(health=(200, text)) as http:
            result = invoke("status", "--http", http)
        assert result.exit_code == 1
        assert result.stdout == ""


def test_a_reserved_port_of_another_program_is_named_in_one_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = config.show_address(taken.getsockname())
        options = ["--data", "127.0.0.1:0", "--http", bind, "--state", str(tmp_path)]
        result = invoke("run", "--dev", *options)
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


def test_check_passes_while_the_node_it_checks_runs(file: Path) -> None:
    with answering(health=(200, '{"node_id": "node-1"}')) as http:
        settings = parse(file.read_text(), ProxyConfig, name="x")
        file.write_text(file.read_text().replace(settings.http.bind, http))
        with closing(open_socket(settings.data.address)):
            result = invoke("check", "--config", str(file))
    assert result.exit_code == 0, result.stderr
    assert "a node runs here already" in result.stdout


def test_a_node_is_asked_where_one_says_although_the_settings_are_broken(file: Path) -> None:
    file.write_text("[bogus]\n")
    with answering(sessions=(200, "[]")) as http:
        result = invoke("sessions", "--config", str(file), "--http", http)
    assert result.exit_code == 0
