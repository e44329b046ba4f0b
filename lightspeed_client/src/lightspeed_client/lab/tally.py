"""What a match came to, out of what both ends received and what the link really dropped.

A game packet is (player, number). It was repaired when it arrived although the link dropped
its source packet; how late that was is measured against the player's packets that came by
themselves.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from typing import Any, Final

import attrs
import trio

from .bound import least_unknown
from .impair import Direction, Label
from .packets import Kind
from .receipts import Receipts
from .sites import Tunnel
from .way import Way, Wire, in_ms, rounded
from .weather import Cause
from .world import World

MANY_LATE_TICKS: Final = 0.02  # fewer are an ordinary desktop's hiccups


@attrs.frozen(kw_only=True)
class Tally:
    """One match. `fec` is as players write it."""

    fec: str
    seconds: float
    up: Way
    down: Way
    round_trips_s: tuple[float, ...]  # input to the state that shows it
    tunnel_rtt_ms: float | None  # median of the tunnel's own keepalives
    tunnel: Tunnel = "sealed"
    repair_up: str | None = None  # what was done against loss at the end, and why
    repair_down: str | None = None
    control_bytes: int = 0  # of the control connection: registering, keys, goodbye; both ways
    ticks: int = 1  # of the game server
    late_ticks: int = 0  # `game.LATE_TICK_S` and more behind, or skipped: the machine is too slow
    worst_tick_s: float = 0.0

    @property
    def game_bytes(self) -> int:
        return self.up.game_bytes + self.down.game_bytes

    @property
    def tunnel_bytes(self) -> int:
        return self.up.tunnel_bytes + self.down.tunnel_bytes

    @property
    def overhead(self) -> float | None:
        """Tunnel bytes beyond the game's own, per game byte; both ways, before loss."""
        if not self.game_bytes:
            return None
        return (self.tunnel_bytes - self.game_bytes) / self.game_bytes

    @property
    def busy(self) -> bool:
        """Whether this machine was too slow, so that the figures are not the link's alone."""
        return self.late_ticks > self.ticks * MANY_LATE_TICKS

    def warning(self) -> str | None:
        """Set when `busy`. What to do about it depends on the command: the story says that."""
        if not self.busy:
            return None
        return (
            f"this machine could not keep up: {self.late_ticks} of the game's {self.ticks} ticks"
            f" came late, up to {self.worst_tick_s * 1000:.0f} ms. Delays, pauses and lateness"
            " above are its own as well as the link's."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "fec": self.fec,
            "tunnel": self.tunnel,
            "seconds": round(self.seconds, 2),
            "up": self.up.to_json(),
            "down": self.down.to_json(),
            "round_trip_p50_ms": in_ms(self.round_trips_s, 0.5),
            "round_trip_p95_ms": in_ms(self.round_trips_s, 0.95),
            "tunnel_rtt_ms": None if self.tunnel_rtt_ms is None else round(self.tunnel_rtt_ms, 2),
            "overhead": rounded(self.overhead),
            "repair_up": self.repair_up,
            "repair_down": self.repair_down,
            "control_bytes": self.control_bytes,
            "ticks": self.ticks,
            "late_ticks": self.late_ticks,
            "worst_tick_ms": round(self.worst_tick_s * 1000, 1),
            "warning": self.warning(),
        }


@attrs.frozen(kw_only=True)
class Live:
    """A cheap look at a running match. Missing: something newer has come already.

    `repair_up` and `repair_down`: what the first node's client says is done against loss.
    """

    seconds: float
    inputs_sent: int
    inputs_dropped: int
    inputs_missing: int
    states_sent: int
    states_dropped: int
    states_missing: int
    duplicates: int
    round_trip_ms: float | None
    freeze_ms: float
    repair_packets: int
    repair_up: str | None = None
    repair_down: str | None = None

    def to_json(self) -> dict[str, Any]:
        record = attrs.asdict(self)
        return {k: round(v, 2) if isinstance(v, float) else v for k, v in record.items()}


def look(world: World) -> Live:
    """Constant work for each player, so that looking does not disturb the match."""
    players = [p for p in (world.player(bot.who) for bot in world.bots) if p is not None]
    everyone = [*(p.inputs for p in players), *(bot.states for bot in world.bots)]
    smoothed = [bot.rtt.smoothed_s for bot in world.bots if bot.rtt.smoothed_s is not None]
    counts = [relay.counts for relay in world.relays]
    figures = world.redirects[0].figures(trio.current_time())
    return Live(
        seconds=world.seconds(),
        inputs_sent=sum(bot.sent for bot in world.bots),
        inputs_dropped=sum(each["up"].lost[Kind.SOURCE] for each in counts),
        inputs_missing=sum(p.inputs.newest - len(p.inputs.numbers) for p in players),
        states_sent=sum(player.sent for player in players),
        states_dropped=sum(each["down"].lost[Kind.SOURCE] for each in counts),
        states_missing=sum(b.states.newest - len(b.states.numbers) for b in world.bots),
        duplicates=sum(receipts.duplicates for receipts in everyone),
        round_trip_ms=statistics.fmean(smoothed) * 1000 if smoothed else None,
        freeze_ms=max((bot.states.freeze_s * 1000 for bot in world.bots), default=0.0),
        repair_packets=sum(way.received[Kind.REPAIR] for each in counts for way in each.values()),
        repair_up=figures.repair_up,
        repair_down=figures.repair_down,
    )


def take_tally(world: World) -> Tally:
    """Everything about a match that is over."""
    inputs: dict[int, Receipts] = {}
    states_sent: dict[int, int] = {}
    for bot in world.bots:
        player = world.player(bot.who)
        inputs[bot.who] = Receipts() if player is None else player.inputs
        states_sent[bot.who] = 0 if player is None else player.sent
    own = [redirect.totals().rtt_median_ms for redirect in world.redirects]
    known = [value for value in own if value is not None]
    figures = world.redirects[0].figures(trio.current_time())
    return Tally(
        fec=str(world.settings.fec),
        seconds=world.seconds(),
        up=_way(world, "up", {b.who: b.sent for b in world.bots}, inputs, world.game.corrupt),
        down=_way(
            world,
            "down",
            states_sent,
            {bot.who: bot.states for bot in world.bots},
            sum(bot.corrupt for bot in world.bots),
        ),
        round_trips_s=tuple(value for bot in world.bots for value in bot.round_trips),
        tunnel_rtt_ms=statistics.fmean(known) if known else None,
        tunnel=world.settings.tunnel,
        repair_up=figures.repair_up,
        repair_down=figures.repair_down,
        control_bytes=sum(
            way.bytes[Kind.QUIC] for relay in world.control_relays for way in relay.counts.values()
        ),
        ticks=world.game.ticks + world.game.skipped,
        late_ticks=world.game.late_ticks + world.game.skipped,
        worst_tick_s=world.game.worst_s,
    )


def _way(
    world: World,
    direction: Direction,
    sent_by: dict[int, int],
    received: dict[int, Receipts],
    corrupt: int,
) -> Way:
    lost_by: dict[Cause, int] = dict.fromkeys(getattr(world.settings, direction).causes(), 0)
    budget_s: float = getattr(world.settings.fec, direction).budget_s
    fastest_s = {who: r.fastest_s for who, r in received.items() if r.fastest_s is not None}
    dropped: set[Label] = set()
    bound = 0
    for relay in world.relays:
        fates = [fate for fate in relay.log if fate.direction == direction]
        for fate in fates:
            if fate.label is not None and fate.lost:
                dropped.add(fate.label)
                if fate.cause is not None:
                    lost_by[fate.cause] = lost_by.get(fate.cause, 0) + 1
        bound += least_unknown(fates, fastest_s, budget_s)
    late = {(who, n) for who, receipts in received.items() for n in receipts.late(budget_s)}
    delays: list[float] = []
    own: list[float] = []
    for who, receipts in received.items():
        usual = [t for n, t in receipts.transit_s.items() if (who, n) not in dropped]
        own += usual
        if usual:
            median = statistics.median(usual)
            transits = receipts.transit_s.items()
            delays += [t - median for n, t in transits if (who, n) in dropped]
    counts = [relay.counts[direction] for relay in world.relays]
    delivered = frozenset((who, n) for who, each in received.items() for n in each.numbers)
    return Way(
        sent_by=sent_by,
        delivered=delivered,
        dropped=frozenset(dropped),
        lost_by=lost_by,
        bound=bound,
        budget_s=budget_s,
        repair_delays_s=tuple(delays),
        own_transits_s=tuple(own),
        late=len(late),
        repaired_late=len(late & dropped),
        duplicates=sum(receipts.duplicates for receipts in received.values()),
        corrupt=corrupt,
        freeze_s=max((receipts.freeze_s for receipts in received.values()), default=0.0),
        game_bytes=sum(each.payload_bytes for each in counts),
        tunnel_bytes=sum(sum(each.bytes.values()) for each in counts),
        repair_packets=sum(each.received[Kind.REPAIR] for each in counts),
        wire=Wire.of(counts),
    )


async def watch(world: World, show: Callable[[Live], object], every_s: float = 1.0) -> None:
    """Calls `show(Live)` in a thread, so that a slow terminal holds up no packet. Endless."""
    while True:
        await trio.sleep(every_s)
        gc.freeze()  # the growing log of fates is no garbage: walking it would stall the match
        await trio.to_thread.run_sync(show, look(world))
