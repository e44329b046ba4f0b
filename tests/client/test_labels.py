from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_client.labels import free_label, label
from lightspeed_protocol.header import pack_addresses, swap_addresses, unpack_addresses

SERVER = ("203.0.113.5", 27960)
SERVER6 = ("2001:db8::5", 27960)


@pytest.mark.parametrize(
    ("game", "server", "named"),
    [
        (("127.0.0.1", 5000), SERVER, ("127.0.0.1", 5000)),
        (("::1", 5000), SERVER, ("127.0.0.1", 5000)),
        (("127.0.0.1", 5000), SERVER6, ("::1", 5000)),
        (("::1", 5000), SERVER6, ("::1", 5000)),
    ],
)
def test_a_header_holds_one_family(
    game: tuple[str, int], server: tuple[str, int], named: tuple[str, int]
) -> None:
    assert label(game, server) == pack_addresses(named, server)
    assert unpack_addresses(swap_addresses(label(game, server))) == (server, named)


def test_a_server_that_is_no_address_is_an_error_and_no_label() -> None:
    with pytest.raises(OSError, match="illegal"):
        label(("127.0.0.1", 1), ("game.example.com", 1))


@given(st.lists(st.tuples(st.sampled_from(["127.0.0.1", "::1"]), st.integers(1, 4)), unique=True))
def test_no_two_games_share_a_label(games: list[tuple[str, int]]) -> None:
    for server in (SERVER, SERVER6):
        taken: set[bytes] = set()
        for game in games:
            found = free_label(game, server, taken)
            assert found not in taken
            taken.add(found)
        if len(games) == 1:
            assert taken == {label(games[0], server)}


def test_the_next_port_after_the_last_is_the_first() -> None:
    taken = {label(("127.0.0.1", 65535), SERVER)}
    assert free_label(("::1", 65535), SERVER, taken) == label(("127.0.0.1", 1), SERVER)
