"""The commands `lab` and `demo`. Source: names and exit codes, CLI.md."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar, Unpack, get_args

import click

from ..cli_options import Number, RepairWords, Way, fec_options, pick_fec
from ..config import ClientConfig
from .impair import MAX_LOG
from .show import pick_view
from .sites import LOOPBACK, Tunnel
from .story import DemoStory, LabStory, run_story
from .weather import Blackhole, Burst, Weather
from .world import WorldSettings

T = TypeVar("T")


class Parsed(click.ParamType[T]):
    """A value read by a function that raises `ValueError` with the remedy."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        try:
            return self._parse(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


def parse_percent(text: str) -> float:
    """A share 0..1 out of "5%" or "5", both five in a hundred."""
    number = text.strip().removesuffix("%").strip()
    try:
        share = float(number) / 100
    except ValueError:
        raise ValueError(f"want a percentage such as 5%, got {text!r}") from None
    if not 0 <= share <= 1:
        raise ValueError(f"want 0% to 100%, got {text!r}")
    return share


def parse_burst(text: str) -> Burst:
    """ "2%:80": bad for 2 % of the time, in stretches of 80 ms on average."""
    share, _, length = text.partition(":")
    try:
        mean_s = float(length.strip().removesuffix("ms")) / 1000
    except ValueError:
        raise ValueError(
            f"want SHARE:MS such as 2%:80 (2 % of the time, 80 ms each), got {text!r}"
        ) from None
    return Burst(parse_percent(share), mean_s)


def parse_blackhole(text: str) -> Blackhole:
    """ "5:2": nothing passes from second 5 for 2 seconds."""
    at, _, duration = text.partition(":")
    try:
        return Blackhole(float(at), float(duration))
    except ValueError:
        raise ValueError(f"want AT:SECONDS such as 5:2, got {text!r}") from None


def keep_quiet() -> None:
    """The client's warnings are about the very link that is made bad here."""
    logging.getLogger("lightspeed_client").setLevel(logging.ERROR)


PERCENT: Final = Parsed("PERCENT", parse_percent)
MILLISECONDS: Final = Number(0, 10_000)
SEED: Final = click.IntRange(0)


@click.command(short_help="Play a match through a link as bad as you like.")
@click.option("--loss", type=PERCENT, default="0%", help="Independent loss, such as 5%.")
@click.option(
    "--burst",
    type=Parsed("SHARE:MS", parse_burst),
    help="Loss in bursts: 2%:80 loses everything for 2 % of the time, 80 ms each on average.",
)
@click.option("--delay", type=MILLISECONDS, default=0, help="Milliseconds, one way.")
@click.option("--jitter", type=MILLISECONDS, default=0, help="Up to this many ms on top.")
@click.option("--reorder", type=PERCENT, default="0%", help="Share held back by 40 ms.")
@click.option("--duplicate", type=PERCENT, default="0%", help="Share that comes twice.")
@click.option(
    "--rate",
    type=Number(0, 1e7, min_open=True),
    help="kbit/s, IP and UDP headers included; the queue holds 32 kB.",
)
@click.option(
    "--blackhole",
    type=Parsed("AT:SECONDS", parse_blackhole),
    multiple=True,
    help="Nothing passes: 5:2 from second 5 for 2 s. May be given again.",
)
@click.option(
    "--way",
    type=click.Choice(("both", "up", "down")),
    default="both",
    show_default=True,
    help="Where the link is bad: up is client to node.",
)
@fec_options
@click.option(
    "--tunnel",
    type=click.Choice(get_args(Tunnel)),
    default="sealed",
    show_default=True,
    help="sealed: with an invite, as players have it. open: header versions 1 and 2, which any"
    " --dev node and the original's proxy take.",
)
@click.option("--players", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--nodes", type=click.IntRange(1, 8), default=1, show_default=True)
@click.option("--seconds", type=Number(1, 3600), default=10, show_default=True)
@click.option(
    "--pps",
    type=Number(1, 2000),
    default=64,
    show_default=True,
    help="Inputs and states a second, for each player.",
)
@click.option("--seed", type=SEED, default=1, show_default=True, help="The same losses again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a second, a final one last.")
@click.help_option("-h", "--help")
def lab(
    loss: float,
    burst: Burst | None,
    delay: float,
    jitter: float,
    reorder: float,
    duplicate: float,
    rate: float | None,
    blackhole: tuple[Blackhole, ...],
    way: str,
    tunnel: Tunnel,
    players: int,
    nodes: int,
    seconds: float,
    pps: float,
    seed: int,
    as_json: bool,
    **repair: Unpack[RepairWords],
) -> None:
    """Play a match on loopback through a link as bad as you like, and measure it.

    Game server, node, invite and client are real; nothing leaves this machine. Without --fec the
    loss repair is what players have: auto, or off with an open tunnel.
    """
    packets = players * pps * seconds * 5  # both ways, each with a repair; reports and asks
    if packets > MAX_LOG:
        raise click.UsageError(
            f"{packets:.0f} packets are more than the lab can follow ({MAX_LOG}): take fewer"
            " players, packets a second or seconds"
        )
    bad = Weather(
        loss=loss,
        burst=burst,
        delay_s=delay / 1000,
        jitter_s=jitter / 1000,
        reorder=reorder,
        duplicate=duplicate,
        rate_bps=None if rate is None else rate * 1000 / 8,
        blackholes=blackhole,
    )
    node: Way = LOOPBACK if tunnel == "open" else []
    settings = WorldSettings(
        up=Weather() if way == "down" else bad,
        down=Weather() if way == "up" else bad,
        fec=pick_fec(node, ClientConfig().tunnel, **repair),
        players=players,
        nodes=nodes,
        pps=pps,
        seed=seed,
        tunnel=tunnel,
    )
    keep_quiet()
    view = pick_view(as_json=as_json)
    sys.exit(run_story(LabStory(settings=settings, seconds=seconds, view=view)))


@click.command(short_help="Play a match twice, without and with loss repair.")
@click.option(
    "--seconds",
    type=Number(2, 600),
    default=30,
    show_default=True,
    help="Length of each of the two matches.",
)
@click.option("--seed", type=SEED, default=1, show_default=True, help="Other losses with another.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a second, a final one last.")
@click.help_option("-h", "--help")
def demo(seconds: float, seed: int, as_json: bool) -> None:
    """Play a match over a lossy link twice, without and with loss repair, and compare.

    A node is started, an invite made, and the client registers with it, as players do. All of it
    is measured while you watch; nothing leaves this machine.
    """
    keep_quiet()
    view = pick_view(as_json=as_json)
    sys.exit(run_story(DemoStory(seconds=seconds, seed=seed, view=view)))
