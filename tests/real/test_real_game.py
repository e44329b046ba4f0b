"""Real game servers, a real query client and a real game client, none of them ours, through us.

OpenArena answers `quakestat`, and keeps state per client address. Chocolate Doom plays: its
own client, drawing to nowhere, joins its own server and stays in the game.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from tests.support.daemons import (
    Child,
    free_ports,
    open_child,
    open_client,
    open_node,
    run_command,
)
from tests.support.skips import need_command, need_file

FECS = ["off", "xor:4"]
# quakestat asks two questions a time, directly and through us, and the engine answers an
# address ten at once and then one in a second.
ROUNDS = 2
BOTS = ("Grunt", "Sarge")
FREEDM = Path("/usr/share/games/doom/freedm.wad")


@attrs.frozen
class Answer:
    """What the player would read in the server browser. Ping is left out: it differs."""

    name: str
    map: str
    slots: str
    players: str
    rules: dict[str, str]
    roster: tuple[str, ...]


def read_answer(text: str) -> Answer | None:
    """`quakestat -raw '|' -R -P`: a line about the server, one of its rules, one per player."""
    lines = text.strip().splitlines()
    fields = lines[0].split("|") if lines else []
    if len(fields) < 6:
        return None
    rules = dict(rule.partition("=")[::2] for rule in lines[1].split("|"))
    roster = tuple(sorted(line.split("|")[0] for line in lines[2:]))
    return Answer(fields[2], fields[3], fields[4], fields[5], rules, roster)


async def query(quakestat: str, port: int) -> Answer | None:
    command = [quakestat, "-raw", "|", "-R", "-P", "-openarenas", f"127.0.0.1:{port}"]
    return read_answer(await run_command(command))


@pytest.fixture
def arena() -> str:
    return need_command("openarena-server", package="openarena-server")


@pytest.fixture
def quakestat() -> str:
    return need_command("quakestat", package="qstat")


@pytest.fixture
def doom() -> str:
    need_file(FREEDM, package="freedm")
    return need_command("chocolate-doom", package="chocolate-doom")


@pytest.fixture
def doom_server() -> str:
    return need_command("chocolate-server", package="chocolate-doom")


@asynccontextmanager
async def open_arena(command: str, home: Path, port: int) -> AsyncIterator[Child]:
    """An OpenArena server on loopback with two bots and a map that does not change."""
    settings = {
        "dedicated": "1",  # 1 is LAN: it announces itself to nobody
        "net_enabled": "1",
        "net_ip": "127.0.0.1",
        "net_port": str(port),
        "fs_homepath": str(home / "arena"),
        "sv_hostname": "Somebody's server",
        "sv_maxclients": "8",
        "timelimit": "0",
        "fraglimit": "0",
    }
    words = [word for name, value in settings.items() for word in ("+set", name, value)]
    words += ["+map", "oa_dm1"]
    words += [word for bot in BOTS for word in ("+addbot", bot, "3")]
    async with open_child("openarena", [command, *words], env={"HOME": str(home)}) as server:
        yield server


@pytest.mark.parametrize("fec", FECS)
async def test_a_query_client_reads_the_same_through_the_tunnel(
    tmp_path: Path, arena: str, quakestat: str, fec: str
) -> None:
    game, data, http, local = free_ports(4)
    async with (
        open_arena(arena, tmp_path, game) as server,
        open_node(f"127.0.0.1:{data}", f"127.0.0.1:{http}"),
        open_client(
            tmp_path,
            server=f"127.0.0.1:{game}",
            proxy=f"127.0.0.1:{data}",
            local_port=local,
            fec=fec,
        ) as client,
    ):
        await server.until(
            lambda: sum("entered the game" in line for line in server.lines) >= len(BOTS),
            "bots",
            60,
        )
        for _ in range(ROUNDS):
            direct = await query(quakestat, game)
            tunnelled = await query(quakestat, local)
            assert direct is not None, server.tail()
            assert tunnelled == direct, client.tail()
            assert direct.name == "Somebody's server"
            assert direct.map == "oa_dm1"
            assert direct.roster == BOTS
        await client.until(lambda: client.latest()["received"] >= 2 * ROUNDS, "counted answers")
        assert client.latest()["duplicates"] == 0


@pytest.mark.parametrize("fec", FECS)
async def test_a_real_client_plays_through_the_tunnel(
    tmp_path: Path, doom: str, doom_server: str, fec: str
) -> None:
    """Lockstep: the game stands still as soon as either side stops hearing the other."""
    game, data, http, local = free_ports(4)
    headless = {"HOME": str(tmp_path), "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    through = ["-connect", f"127.0.0.1:{local}", "-nodes", "1"]
    quiet = ["-iwad", str(FREEDM), "-window", "-nosound", "-nomouse", "-nogui"]
    async with (
        open_child(
            "doom server", [doom_server, "-privateserver", "-port", str(game)], env=headless
        ),
        open_node(f"127.0.0.1:{data}", f"127.0.0.1:{http}"),
        open_client(
            tmp_path,
            server=f"127.0.0.1:{game}",
            proxy=f"127.0.0.1:{data}",
            local_port=local,
            fec=fec,
        ) as client,
        open_child("doom", [doom, *quiet, *through], env=headless) as player,
    ):
        # 35 tics a second: five seconds of play, both ways.
        await player.until(
            lambda: client.latest()["sent"] >= 175 and client.latest()["received"] >= 175,
            "five seconds of play",
            60,
        )
        assert player.process.poll() is None, player.tail()
        listing = await run_command([doom, "-query", f"127.0.0.1:{local}"], env=headless)
        assert re.search(r"\b1/\d+\s.*game running", listing), listing
        latest = client.latest()
        assert latest["duplicates"] == 0
        assert latest["residual_down"] in (None, 0.0)
