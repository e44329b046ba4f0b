from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.address import (
    Unresolved,
    has_route,
    is_name,
    parse_address,
    resolve,
    write_address,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1:27960", ("192.0.2.1", 27960)),
        ("game.example.com:1", ("game.example.com", 1)),
        ("[::1]:4434", ("::1", 4434)),
        ("[2001:db8::5]", ("2001:db8::5", 4434)),
        ("2001:db8::5", ("2001:db8::5", 4434)),
        ("node.example.com", ("node.example.com", 4434)),
        (" 192.0.2.1 ", ("192.0.2.1", 4434)),
    ],
)
def test_addresses_are_read_as_players_write_them(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, default_port=4434) == address
    assert parse_address(write_address(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "", ":", ":4434", "host:", "host:0", "host:65536", "host:+1", "host:x", "host:\uff11",
        "[::1", "[::1]4434", "[host]:1", "a:b:c", "udp://host:1", "ho st:1", "host:1:2",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_address(text, default_port=4434)


async def test_an_ipv6_game_server_is_refused_where_only_ipv4_can_be_carried() -> None:
    with pytest.raises(Unresolved, match=r"names IPv4 servers only: use its IPv4 address"):
        await resolve(("2001:db8::5", 1), ipv4_only=True, what="game server")


def test_a_missing_port_is_named_where_there_is_no_usual_one() -> None:
    with pytest.raises(ValueError, match=r"port is missing.*example\.com:PORT"):
        parse_address("example.com")


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = parse_address(text, default_port=4434)
    except ValueError:
        return
    assert host
    assert 1 <= port <= 65535


def test_names_are_told_from_numbers() -> None:
    assert is_name("example.com")
    assert not is_name("192.0.2.1")
    assert not is_name("::1")


async def test_numbers_resolve_to_themselves_and_localhost_to_ipv4_first() -> None:
    assert await resolve(("127.0.0.1", 5), ipv4_only=True, what="server") == ("127.0.0.1", 5)
    assert await resolve(("::1", 5), ipv4_only=False, what="node") == ("::1", 5)
    assert await resolve(("localhost", 5), ipv4_only=False, what="node") == ("127.0.0.1", 5)


@pytest.mark.parametrize("host", ["::1", "a" * 70, "..", "with space"])
async def test_a_server_that_cannot_be_had_is_unresolved_with_a_remedy(host: str) -> None:
    with pytest.raises(Unresolved, match=r"check the spelling|use its IPv4"):
        await resolve((host, 5), ipv4_only=True, what="game server")


def test_loopback_has_a_route() -> None:
    assert has_route(("127.0.0.1", 9))
