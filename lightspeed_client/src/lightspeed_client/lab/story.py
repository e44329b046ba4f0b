"""Runs matches and tells them: one for `lab`, two on the same losses for `demo`."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable

import attrs
import trio
from lightspeed_protocol.runtime.daemon import STOP_SIGNALS

from ..fec_choice import OFF, parse_fec
from ..words import count
from .node import WorldBroken, require_distribution
from .show import View, final_table, repair_lines
from .sites import Site
from .tally import Tally, take_tally, watch
from .verdict import Verdict, judge
from .weather import Weather
from .world import WorldSettings, open_sites, open_world

DEMO_WEATHER = Weather(loss=0.05, delay_s=0.020, jitter_s=0.010)
DEMO_FEC = parse_fec("auto")  # as players with an invite have it
CAST = """\
Everything here is real and runs on this machine only:
  game    a server and a player, who talk as in a first-person shooter
  node    lightspeed-proxy, closed: it carries only those who have an invite
  invite  one line from `lightspeed-proxy invite`: the node's address, its key's pin, a token
  client  checks that key, registers over QUIC, and seals each packet so that none can be forged
"""
LAB_REMEDY = "Close other programs, or take fewer --players or a lower --pps, and run it again."


class Stopped(Exception):
    """Asked to stop before there was anything to tell."""


async def run_match(
    settings: WorldSettings,
    seconds: float,
    view: View,
    title: str,
    stop: trio.Event,
    sites: list[Site] | None = None,
) -> Tally:
    """Build a world, play one match in it, take it down again, count it."""
    began = time.monotonic()
    async with open_world(settings, sites) as world:
        view.say(f"all of it stands after {time.monotonic() - began:.1f} s")
        view.begin(title)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, world, view.show)
                await world.play(seconds, stop=stop)
                nursery.cancel_scope.cancel("match over")
        finally:
            gc.unfreeze()
            view.end()
        tally = take_tally(world)
    if not tally.down.sent:
        if stop.is_set():
            raise Stopped
        raise WorldBroken(
            "no input reached the game server, so there was no match: is the loss near 100 %, or"
            " the link closed all the time?"
        )
    return tally


@attrs.frozen(kw_only=True)
class LabStory:
    """One match as the command line asked for it."""

    settings: WorldSettings
    seconds: float
    view: View

    async def tell(self, stop: trio.Event) -> int:
        view, settings = self.view, self.settings
        nodes, bots = count(settings.nodes, "node"), count(settings.players, "bot")
        kind = "with an invite" if settings.tunnel == "sealed" else "open to anyone"
        view.say(f"starting {nodes} ({kind}), a game server and {bots}")
        title = f"playing {self.seconds:g} s with loss repair {settings.fec}"
        tally = await run_match(settings, self.seconds, view, title, stop)
        stopped = stop.is_set() and tally.seconds < self.seconds
        lines = [*final_table(tally), *endings_of(tally), *warnings_of(tally)]
        if tally.busy:
            lines.append(LAB_REMEDY)
        if stopped:
            lines.insert(0, f"stopped after {tally.seconds:.1f} s of {self.seconds:g}")
        view.result(lines, {**tally.to_json(), "stopped": stopped})
        return 0


@attrs.frozen(kw_only=True)
class DemoStory:
    """The same match twice, without and with loss repair, and what came of it."""

    seconds: float
    seed: int
    view: View
    weather: Weather = DEMO_WEATHER

    async def tell(self, stop: trio.Event) -> int:
        view = self.view
        weather = self.weather
        view.say(
            f"{CAST}  link    bad, between client and node: {weather.loss:.0%} loss each way,"
            f" {weather.delay_s * 1000:.0f} ms and up to {weather.jitter_s * 1000:.0f} ms jitter"
            f" each way, seed {self.seed}"
        )
        tallies = []
        settings = WorldSettings(up=weather, down=weather, seed=self.seed)
        began = time.monotonic()
        async with open_sites(settings) as sites:
            view.say(f"\nnode and invite are there after {time.monotonic() - began:.1f} s")
            for ordinal, fec in enumerate((OFF, DEMO_FEC), start=1):
                settings = attrs.evolve(settings, fec=fec)
                how = f"with loss repair {fec}" if fec is not OFF else "without loss repair"
                again = ", meeting the same losses again" if fec is not OFF else ""
                view.say(f"\nmatch {ordinal} of 2: a new client registers with the invite")
                title = f"match {ordinal} of 2, {how}, {self.seconds:g} s{again}"
                seconds = self.seconds
                tallies.append(await run_match(settings, seconds, view, title, stop, sites))
                if stop.is_set():
                    raise Stopped
        without, with_fec = tallies
        verdict = judge(without, with_fec)
        view.result(
            [
                "",
                *final_table(*tallies),
                *endings_of(with_fec),
                *warnings_of(*tallies),
                "",
                *verdict.lines(),
            ],
            record_of(without, with_fec, verdict),
        )
        return 0 if verdict.held else 1


def endings_of(tally: Tally) -> list[str]:
    """What repair had come to at the end."""
    lines = repair_lines(tally)
    return (
        ["", f"repair {tally.fec}, at the end:", *(f"  {line}" for line in lines)] if lines else []
    )


def warnings_of(*tallies: Tally) -> list[str]:
    """At most one for each match."""
    told = [(tally.fec, tally.warning()) for tally in tallies]
    return [f"\nrepair {fec}: {warning}" for fec, warning in told if warning is not None]


def record_of(without: Tally, with_fec: Tally, verdict: Verdict) -> dict[str, object]:
    """The demo's result for programs."""
    return {
        "without": without.to_json(),
        "with": with_fec.to_json(),
        "verdict": verdict.to_json(),
    }


def run_story(story: LabStory | DemoStory) -> int:
    """The exit status; every child process is gone when this returns."""
    status = 1
    try:
        require_distribution()
        status = trio.run(_with_signals, story.tell)
    except* WorldBroken as group:
        for line in _leaves(group):
            print(f"the lab broke: {line}", file=sys.stderr)
    except* Stopped:
        print("stopped before there was a result; the node has ended", file=sys.stderr)
    except* BrokenPipeError:  # whoever read the figures has gone, so nobody misses them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except* OSError as group:
        for line in _leaves(group):
            print(f"the lab broke: {line}; are loopback sockets allowed here?", file=sys.stderr)
    return status


async def _with_signals(tell: Callable[[trio.Event], Awaitable[int]]) -> int:
    stop = trio.Event()
    status = 1
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, stop, nursery.cancel_scope)
        status = await tell(stop)
        nursery.cancel_scope.cancel("told")
    if stop.is_set() and status:
        raise Stopped
    return status


async def _watch_signals(
    stop: trio.Event,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """First signal: end the match. Second: leave everything, but still end the nodes.

    A closed terminal counts as well (but for nohup): the nodes have a session of their own.
    """
    wanted = {*STOP_SIGNALS}
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        wanted.add(signal.SIGHUP)
    with trio.open_signal_receiver(*wanted) as signals:
        task_status.started()
        async for _ in signals:
            if stop.is_set():
                scope.cancel("second signal")
            stop.set()


def _leaves(group: BaseException) -> list[str]:
    if isinstance(group, BaseExceptionGroup):
        return [line for inner in group.exceptions for line in _leaves(inner)]
    return [str(group)]
