"""What a match came to, out of what both ends received and what the link really dropped.

A game packet is (player, number). It was repaired when it arrived although the link dropped
its source packet; how late that was is measured against the player's packets that came by
themselves.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import trio
from lightspeed_protocol.rtt import percentile

from .blocks import find_unprotected
from .impair import Direction, Label
from .packets import Kind
from .receipts import Receipts
from .sites import Tunnel
from .weather import Cause
from .world import World

MANY_LATE_TICKS: Final = 0.02  # fewer are an ordinary desktop's hiccups


@attrs.frozen(kw_only=True)
class Way:
    """One direction: inputs go up, states come down. Bytes are UDP payloads before loss."""

    sent_by: dict[int, int]  # player -> how many; their numbers are 1 to that
    delivered: frozenset[Label]
    dropped: frozenset[Label]  # by the link, as source packets
    repair_delays_s: tuple[float, ...] = ()
    own_transits_s: tuple[float, ...] = ()  # of packets that needed no repair
    late: int = 0
    repaired_late: int = 0  # of those, the ones that repair brought back
    unprotected: int = 0  # lost and not repaired because no repair packet was there for them
    lost_by: dict[Cause, int] = attrs.field(factory=dict)  # of `dropped`; only what was on
    duplicates: int = 0
    corrupt: int = 0
    freeze_s: float = 0.0
    game_bytes: int = 0
    tunnel_bytes: int = 0
    repair_packets: int = 0

    @property
    def sent(self) -> int:
        return sum(self.sent_by.values())

    @property
    def arrived(self) -> int:
        return len(self.delivered)

    @property
    def repaired(self) -> int:
        return len(self.delivered & self.dropped)

    @property
    def lost(self) -> int:
        """After repair."""
        return self.sent - self.arrived

    @property
    def lost_elsewhere(self) -> int:
        """Lost although the link let them pass: a limit, a full buffer, or a fault."""
        return self.lost - len(self.dropped - self.delivered)

    def to_json(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "arrived": self.arrived,
            "lost_before_repair": len(self.dropped),
            "repaired": self.repaired,
            "lost_after_repair": self.lost,
            "lost_elsewhere": self.lost_elsewhere,
            "lost_by": dict(self.lost_by),
            "unprotected": self.unprotected,
            "late": self.late,
            "repaired_late": self.repaired_late,
            "duplicates": self.duplicates,
            "corrupt": self.corrupt,
            "longest_freeze_ms": round(self.freeze_s * 1000, 1),
            "repair_delay_p50_ms": in_ms(self.repair_delays_s, 0.5),
            "repair_delay_p95_ms": in_ms(self.repair_delays_s, 0.95),
            "own_transit_p50_ms": in_ms(self.own_transits_s, 0.5),
            "own_transit_p95_ms": in_ms(self.own_transits_s, 0.95),
            "game_bytes": self.game_bytes,
            "tunnel_bytes": self.tunnel_bytes,
            "repair_packets": self.repair_packets,
        }


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
        overhead = self.overhead
        return {
            "fec": self.fec,
            "tunnel": self.tunnel,
            "seconds": round(self.seconds, 2),
            "up": self.up.to_json(),
            "down": self.down.to_json(),
            "round_trip_p50_ms": in_ms(self.round_trips_s, 0.5),
            "round_trip_p95_ms": in_ms(self.round_trips_s, 0.95),
            "tunnel_rtt_ms": None if self.tunnel_rtt_ms is None else round(self.tunnel_rtt_ms, 2),
            "overhead": None if overhead is None else round(overhead, 4),
            "control_bytes": self.control_bytes,
            "ticks": self.ticks,
            "late_ticks": self.late_ticks,
            "worst_tick_ms": round(self.worst_tick_s * 1000, 1),
            "warning": self.warning(),
        }


@attrs.frozen(kw_only=True)
class Live:
    """A cheap look at a running match. Missing: something newer has come already."""

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

    def to_json(self) -> dict[str, Any]:
        record = attrs.asdict(self)
        return {k: round(v, 2) if isinstance(v, float) else v for k, v in record.items()}


def in_ms(samples_s: Sequence[float], share: float) -> float | None:
    """A percentile in milliseconds; None without samples."""
    return round(percentile(samples_s, share) * 1000, 2) if samples_s else None


def look(world: World) -> Live:
    """Constant work for each player, so that looking does not disturb the match."""
    players = [p for p in (world.player(bot.who) for bot in world.bots) if p is not None]
    everyone = [*(p.inputs for p in players), *(bot.states for bot in world.bots)]
    smoothed = [bot.rtt.smoothed_s for bot in world.bots if bot.rtt.smoothed_s is not None]
    counts = [relay.counts for relay in world.relays]
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
    dropped: set[Label] = set()
    unprotected: set[Label] = set()
    for relay in world.relays:
        fates = [fate for fate in relay.log if fate.direction == direction]
        for fate in fates:
            if fate.label is not None and fate.lost:
                dropped.add(fate.label)
                if fate.cause is not None:
                    lost_by[fate.cause] = lost_by.get(fate.cause, 0) + 1
        plan = getattr(world.settings.fec, direction).plan
        if plan is not None:
            late_start = world.settings.tunnel == "sealed"
            unprotected |= find_unprotected(fates, plan.window, late_start=late_start)
    late = {(who, n) for who, receipts in received.items() for n in receipts.late()}
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
        unprotected=len(unprotected - delivered),
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
    )


async def watch(world: World, show: Callable[[Live], object], every_s: float = 1.0) -> None:
    """Calls `show(Live)` in a thread, so that a slow terminal holds up no packet. Endless."""
    while True:
        await trio.sleep(every_s)
        gc.freeze()  # the growing log of fates is no garbage: walking it would stall the match
        await trio.to_thread.run_sync(show, look(world))
