from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import trio
from lightspeed_client.config import ClientConfig, Node, RedirectConfig
from lightspeed_client.modes import doctor
from lightspeed_client.modes.checks import Check, all_well
from lightspeed_client.nodes import add
from lightspeed_protocol.invite import Invite
from lightspeed_protocol.runtime.udp import UdpPort

from ..sealed_node import PIN, TOKEN, SealedNode


async def test_a_fit_machine_passes(tmp_path: Path) -> None:
    told: list[object] = []
    checks = await doctor.examine(
        tmp_path / "none.toml", must_exist=False, state=tmp_path, tell=told.append
    )
    assert all_well(checks), checks
    assert told == checks
    assert {check.name for check in checks} >= {"python", "clock", "settings", "loopback IPv4"}


async def test_a_bad_file_fails_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("[tunnel]\nfec = 'maybe'\nx = 1\n")
    checks = await doctor.examine(
        tmp_path / "f.toml", must_exist=True, state=tmp_path, tell=lambda _: None
    )
    found = {check.name: check for check in checks}
    assert found["settings"].verdict == "fail"
    assert "maybe" in found["settings"].detail
    assert found["state directory"].verdict == "pass"


def test_a_clock_before_the_programs_time_fails() -> None:
    assert doctor.check_clock(0.0).verdict == "fail"
    assert doctor.check_clock(1.9e9).verdict == "pass"


async def test_no_ipv6_is_a_skip_and_no_ipv4_a_failure() -> None:
    assert (await doctor.check_loopback(("2001:db8::1", 0), "six")).verdict == "skip"
    assert (await doctor.check_loopback(("192.0.2.1", 0), "four")).verdict == "fail"


def test_a_state_directory_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert doctor.check_state_dir(tmp_path / "state").verdict == "fail"


FULL_DISK = """
import resource, sys
from pathlib import Path
from lightspeed_client.modes.doctor import check_state_dir
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
print(check_state_dir(Path(sys.argv[1])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE")
def test_a_state_directory_that_takes_too_few_bytes_fails_and_nothing_stays(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "verdict='fail'" in done.stdout
    assert "free space" in done.stdout
    assert doctor.check_state_dir(tmp_path).verdict == "pass"
    assert list(tmp_path.iterdir()) == []


async def test_a_taken_port_fails_with_the_remedy() -> None:
    with UdpPort.bind(("127.0.0.1", 0)) as taken:
        port = taken.address[1]
        check = doctor.check_port(port)
        assert check.verdict == "fail"
        assert "config set redirect.local_port" in check.detail
    assert doctor.check_port(port).verdict == "pass"


@pytest.mark.parametrize(
    ("mtu", "verdict"),
    [(None, "skip"), (65536, "pass"), (1500, "pass"), (1280, "pass"), (576, "fail")],
)
def test_the_routes_mtu_is_judged_by_what_fits(mtu: int | None, verdict: str) -> None:
    assert doctor.check_mtu(mtu).verdict == verdict


async def test_a_node_on_loopback_has_a_route_and_an_mtu() -> None:
    config = ClientConfig(
        node=Node(address="localhost"), redirect=RedirectConfig(server="127.0.0.1:5")
    )
    checks = {check.name: check.verdict for check in await doctor.check_node(config)}
    assert checks["DNS"] == checks["route"] == checks["game server"] == "pass"


async def test_a_name_that_is_not_found_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise OSError(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    checks = await doctor.check_node(ClientConfig(node=Node(address="node.example.com")))
    assert [check.verdict for check in checks] == ["fail"]
    assert "Temporary failure" in checks[0].detail


async def test_the_node_book_is_checked_for_readers_and_each_node_for_its_key(
    tmp_path: Path,
) -> None:
    book = tmp_path / "private" / "nodes.toml"
    add(book, Invite("192.0.2.1", 4433, PIN, TOKEN, "home"))
    add(book, Invite("192.0.2.1", 4433, bytes(32), TOKEN, "stranger"))
    add(book, Invite("192.0.2.1", 4433, PIN, bytes(32), "expired"))

    async def examine() -> dict[str, Check]:
        checks = await doctor.examine(
            tmp_path / "none.toml",
            must_exist=False,
            state=tmp_path,
            tell=lambda _: None,
            book=book,
            connect=SealedNode().connect,
        )
        return {check.name: check for check in checks}

    found = await examine()
    assert found["node book"].verdict == "pass"
    assert found["node home"].verdict == "pass"
    assert "not the node of your invite" in found["node stranger"].detail
    assert "does not know your invite" in found["node expired"].detail
    assert "DNS and route" not in found
    if sys.platform != "win32":
        book.chmod(0o644)
        assert "chmod 600" in (await examine())["node book"].detail
    book.write_text("[[node]]")
    assert (await examine())["node book"].verdict == "fail"


def test_an_empty_book_is_no_failure(tmp_path: Path) -> None:
    nodes, check = doctor.check_book(tmp_path / "none.toml")
    assert (nodes, check.verdict) == ([], "skip")
