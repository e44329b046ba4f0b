from __future__ import annotations

import pytest
import trio
from lightspeed_client.lookups import LOOKUP_S, Lookup
from trio.testing import MockClock


class Dns:
    """Answers with `where`, or does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.where: str | None = None
        self.asked = 0
        monkeypatch.setattr(trio.socket, "getaddrinfo", self.getaddrinfo)

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        self.asked += 1
        if self.where is None:
            raise OSError(-2, "Name or service not known")
        return [(2, 2, 17, "", (self.where, port))]


async def test_a_name_is_looked_up_until_it_is_found_and_one_line_is_said(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    dns = Dns(monkeypatch)
    lookup = Lookup(("node.example.com", 4434), "node")
    assert not await lookup.try_once()
    assert "check the spelling" in (lookup.failure or "")
    with trio.move_on_after(1000):
        await lookup.until_found()
    assert dns.asked < 1000 / LOOKUP_S + 8, "less and less often"
    dns.where = "192.0.2.1"
    assert await lookup.until_found() == ("192.0.2.1", 4434)
    assert not lookup.failure
    assert caplog.text.count("cannot find the node") == 1
    assert "the node is 192.0.2.1:4434" in caplog.text
    asked = dns.asked
    assert await lookup.try_once()
    assert dns.asked == asked, "known already"


async def test_what_moved_is_found_again_but_never_in_the_other_family(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dns = Dns(monkeypatch)
    dns.where = "192.0.2.1"
    lookup = Lookup(("node.example.com", 4434), "node")
    await lookup.try_once()
    for where, found in (
        (None, "192.0.2.1"),
        ("192.0.2.2", "192.0.2.2"),
        ("2001:db8::2", "192.0.2.2"),
    ):
        dns.where = where
        await lookup.again()
        assert lookup.found == (found, 4434)


def test_an_address_needs_no_dns() -> None:
    assert Lookup(("node.example.com", 1), "node").is_name
    assert not Lookup(("2001:db8::1", 1), "node").is_name
