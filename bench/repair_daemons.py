"""Loss repair as a player has it: real client and node, a relay between them that loses packets.

    games ─► lightspeed redirect ─► lossy relay ─► lightspeed-proxy ─► game server

Missing is a packet not known at the far end `LATE_S` after it would have been there undisturbed.
Bytes are those of all IP packets of one way over those of its source packets: repair, reports, asks
and keepalives count. Packets that were under way while the machine itself stood still are left out.
Source: the targets of `bench.fec_cells`, with 5 ms for two programs and a relay.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import attrs
from lightspeed_protocol.rtt import percentile

from .load import Node, child, cpu_seconds, free_port, go_first, last_words, node, said, tell
from .loss_world import TIMELINE, Weather
from .lossy_relay import DELAY_S
from .registering import invite_line
from .standstills import Standstills, standstills

LATE_S: Final = 0.055
CONVERSATIONS: Final = 12
STRETCH: Final = 15  # times a part's usual length: 45 s, 69 000 packets both ways
REGIME: Final = 20  # the same for each weather of the timeline: 60 s
CALM_S: Final = 15.0  # after loss has ended, for protection to come down
SCHEMES: Final = ("xor:4", "window:4:4", "window:2:4", "window:1:4", "auto")
LOSSES: Final = (0.05, 0.10)
WAYS: Final = ("up", "down")

_SETTINGS: Final = """
[security]
max_destinations_per_window = 64
allow_destinations = ["127.0.0.0/8"]
[data]
advertise = "127.0.0.1:{}"
"""


@attrs.frozen
class Packet:
    """`took_s`: None if it never came; `usual_s` is what its conversation's packets take."""

    left: float
    took_s: float | None
    usual_s: float
    lost: bool  # on the way

    @property
    def missing(self) -> bool:
        return self.took_s is None or self.took_s > self.usual_s + LATE_S


@attrs.frozen(kw_only=True)
class Run:
    """What the games and the relay say of one run; times are `time.monotonic`."""

    began: float  # losses
    games: dict[str, Any]
    relay: dict[str, Any]
    still: Standstills | None
    cpu_share: dict[str, float] = attrs.field(factory=dict)

    def packets(self, way: str, until_s: float = math.inf) -> list[Packet]:
        """Those that left before, without what the machine itself held up."""
        lost = {tuple(each) for each in self.relay[way]["lost"]}
        still = Standstills() if self.still is None else self.still
        found: list[Packet] = []
        for who, row in enumerate(self.games[way]):
            usual_s = statistics.median(took for took in row["took"] if took is not None)
            for number, (left, took) in enumerate(zip(row["left"], row["took"], strict=True)):
                if left >= self.began + until_s:
                    break
                if not still.touch(left, left + usual_s + LATE_S):
                    found.append(Packet(left, took, usual_s, (who, number) in lost))
        return found

    def bytes_ratio(self, since_s: float = -math.inf, until_s: float = math.inf) -> float:
        """Bytes of everything over those of source packets, of the way that costs more."""
        ratios: list[float] = []
        for way in WAYS:
            seconds = self.relay[way]["bytes"].items()
            sums = [each for at, each in seconds if since_s <= int(at) < until_s]
            ratios.append(sum(whole for _, whole in sums) / sum(source for source, _ in sums))
        return round(max(ratios), 3)


@contextmanager
def _redirect(directory: Path, target: Node, server: int, fec: str) -> Iterator[tuple[int, int]]:
    """The client as a player runs it, once it has a session: its process, and the game's port."""
    invite = invite_line(directory, f"127.0.0.1:{target.control}")
    while not target.health()["invites"]:  # the node reads them now and then
        time.sleep(0.1)
    homes = ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
    client = [sys.executable, "-m", "lightspeed_client"]
    environment = {**os.environ, **dict.fromkeys(homes, str(directory / "player"))}
    subprocess.run([*client, "add", invite], check=True, capture_output=True, env=environment)
    local = free_port()
    command = [*client, "redirect", "--server", f"127.0.0.1:{server}", "--json"]
    command += ["--local-port", str(local), "--fec", fec]
    figures = directory / "figures"
    with figures.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
    try:
        while not _answered(figures.read_text()):
            if process.poll() is not None:
                raise RuntimeError(f"the client ended: {figures.read_text()}")
            time.sleep(0.1)
        yield process.pid, local
    finally:
        process.terminate()
        process.wait(10)


def _answered(said_so_far: str) -> bool:
    """Whether the client has heard its node."""
    rows = [line for line in said_so_far.splitlines(keepends=True) if line.endswith("}\n")]
    return bool(rows) and json.loads(rows[-1])["rtt_ms"] is not None


def play(
    directory: Path, seconds: float, course: Sequence[Weather], fec: str | None, seed: str
) -> Run:
    """One run; without `fec` it is the bare relay, no client and no node."""
    with ExitStack() as stack:
        still = stack.enter_context(standstills())
        home = Path(stack.enter_context(TemporaryDirectory(dir=directory)))
        server, front = free_port(), free_port()
        target: Node | None = None
        daemons: dict[str, int] = {}
        if fec is not None:
            target = stack.enter_context(node(home, dev=False, more=_SETTINGS.format(front)))
            daemons["node"] = target.pid
        back = server if target is None else target.data
        told = json.dumps([attrs.astuple(weather) for weather in course])
        relay = stack.enter_context(
            child("-m", "bench.lossy_relay", str(front), str(back), seed, told, talks=True)
        )
        said(relay)
        entry = front
        if fec is not None and target is not None:
            client = _redirect(home, target, server, fec)
            daemons["client"], entry = stack.enter_context(client)
        arguments = (str(entry), str(server), str(CONVERSATIONS), str(seconds))
        games = stack.enter_context(child("-m", "bench.conversations", *arguments, talks=True))
        go_first(relay.pid, games.pid, *daemons.values())
        tell(relay, "lose")
        began = time.monotonic()
        used = {name: cpu_seconds(pid) for name, pid in daemons.items()}
        heard = said(games)
        spent_s = time.monotonic() - began
        share = {
            name: round((cpu_seconds(pid) - used[name]) / spent_s, 3)
            for name, pid in daemons.items()
        }
        run = Run(began=began, games=heard, relay=last_words(relay), still=still, cpu_share=share)
    return run


def _percent(part: int, whole: int) -> float:
    return round(100 * part / max(whole, 1), 4)


def _missing(packets: Sequence[Packet]) -> float:
    return _percent(sum(each.missing for each in packets), len(packets))


def _adds_ms(packets: Sequence[Packet]) -> dict[str, float]:
    """What those took that nobody lost, less the relay's delay."""
    adds = [
        1e3 * (each.took_s - DELAY_S)
        for each in packets
        if each.took_s is not None and not each.lost
    ]
    return {"p50_ms": round(percentile(adds, 0.5), 3), "p99_ms": round(percentile(adds, 0.99), 3)}


def _figures(run: Run, until_s: float = math.inf) -> dict[str, Any]:
    """Of all that left before."""
    ways = {way: run.packets(way, until_s) for way in WAYS}
    both = [packet for packets in ways.values() for packet in packets]
    left = [at for way in WAYS for row in run.games[way] for at in row["left"]]
    return {
        "packets": len(both),
        "left_out": sum(at < run.began + until_s for at in left) - len(both),
        "lost_percent": _percent(sum(each.lost for each in both), len(both)),
        "missing_percent": _missing(both),
        "missing_percent_by_way": {way: _missing(packets) for way, packets in ways.items()},
        "never_percent": _percent(sum(each.took_s is None for each in both), len(both)),
        "bytes": run.bytes_ratio(until_s=until_s),
        "copies": run.games["copies"],
        "wrong": run.games["wrong"],
        "undisturbed": _adds_ms(both),
        "cpu_share": run.cpu_share,
    }


def repair_daemons(directory: Path, seconds: float) -> dict[str, Any]:
    """Independent losses of 5 and 10 %, for each scheme; and what a packet takes without it all."""
    for_ever = 1e9
    bare = _figures(play(directory, 5 * seconds, [Weather(0.0, None, for_ever)], None, "bare"))
    figures: dict[str, Any] = {"bare": bare}
    for loss in LOSSES:
        rows = figures[f"iid_{loss:.0%}".rstrip("%")] = {}
        for fec in SCHEMES:
            course = [Weather(loss, None, for_ever)]
            run = play(directory, STRETCH * seconds, course, fec, f"{fec} {loss}")
            row = rows[fec.replace(":", "_")] = _figures(run)
            row["adds_ms"] = {
                share: round(row["undisturbed"][share] - bare["undisturbed"][share], 3)
                for share in ("p50_ms", "p99_ms")
            }
    return figures


def repair_timeline(directory: Path, seconds: float) -> dict[str, Any]:
    """Ten kinds of loss one after another with `--fec auto`, then none."""
    each_s = REGIME * seconds
    course = [attrs.evolve(weather, seconds=each_s) for weather in TIMELINE]
    lossy_s = each_s * len(course)
    run = play(directory, lossy_s + 2 * CALM_S, course, "auto", "timeline")
    figures = _figures(run, lossy_s)
    by_weather: list[list[Packet]] = [[] for _ in course]
    for way in WAYS:
        for packet in run.packets(way, lossy_s):
            by_weather[int((packet.left - run.began) // each_s)].append(packet)
    figures["regimes"] = [
        {"loss": weather.loss, "run": weather.run, "missing_percent": _missing(packets)}
        for weather, packets in zip(course, by_weather, strict=True)
    ]
    figures["bytes_when_calm"] = run.bytes_ratio(lossy_s + CALM_S)
    return figures
