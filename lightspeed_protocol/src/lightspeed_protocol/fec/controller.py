"""How much repair a flow gets, from what its receiver reports.

The cheapest of a few plans that leaves no more than the target unrepaired in time, under the
caps, or the one that leaves least. Raised as soon as loss is likely to need it, lowered after 12 s
in which nothing did.

Source: the plans, and the numbers below, from simulation (`bench.loss_world`).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import attrs

from .backoff import Backoff
from .loss_history import LONG_S, MOST, SHORT_S, Estimate, LossHistory
from .report import INTERVAL_S, Report
from .residual import Again, candidates, packets_ahead, residual
from .window_plan import REPAIR_EXTRA_BYTES, Plan
from .wording import percent, plan_words

FIRST_PLAN: Final = Plan(4, 4)  # before the first report
CALM_S: Final = 12.0
LEAST_S: Final = INTERVAL_S / 4  # between choices, however many reports come
SILENT_S: Final = 12.0  # without a report: what was known is no longer true
# Protection is raised by what is likely: standard errors below the estimate, and times the target.
SHORT_LIKELY: Final = 1.5
LONG_LIKELY: Final = 1.0
TOLERANCE: Final = 1.5
PAUSE_S: Final = 0.1  # between packets: the flow rests, its rate is not lower
SLOWEST_S: Final = 1.0  # between packets: no flow of a game is as slow
SMOOTHING: Final = 1 / 64  # of packet sizes and the time between packets

Losses = list[tuple[float, float]]  # as `residual` takes them; each of them may be what holds


@attrs.frozen(kw_only=True)
class Settings:
    """`target`: share of packets that may be missing `budget_s` after they were due.

    `cap` and `cap_kbps` as in `credit`, which enforces them. `header_bytes`: of a whole packet,
    less its payload. `asking`: the receiver asks again for what is missing.
    """

    target: float = attrs.field(default=0.001, validator=attrs.validators.gt(0))
    budget_s: float = attrs.field(default=0.05, validator=attrs.validators.gt(0))
    cap: float = attrs.field(default=2.0, validator=attrs.validators.ge(1))
    cap_kbps: float | None = None
    header_bytes: int = 64
    asking: bool = False


class Controller:
    """One flow in one direction. `sent` with each source packet, `report` with each report."""

    __slots__ = (
        "_again",
        "_ahead",
        "_backoff",
        "_chosen_s",
        "_fixed",
        "_history",
        "_interval_s",
        "_intervals",
        "_needs",
        "_repair_size",
        "_rested",
        "_round_trip_s",
        "_seen",
        "_sent_s",
        "_settings",
        "_silent_from",
        "_size",
        "plan",
    )

    def __init__(self, settings: Settings, *, fixed: tuple[Plan | None] | None = None) -> None:
        """`fixed` holds a plan that stays, or None for no repair; then reports only explain."""
        self.plan: Plan | None = FIRST_PLAN if fixed is None else fixed[0]
        self._fixed = fixed is not None
        self._settings = settings
        self._history = LossHistory()
        self._backoff = Backoff()
        self._interval_s = 0.0  # smoothed, between packets
        self._intervals = 0
        self._size = 100.0  # smoothed, of payloads
        self._sent_s: float | None = None
        self._repair_size = 0.0  # smoothed, of repairs' payloads; 0 while there was none
        self._rested = False
        self._ahead = -1  # packets within the budget; not known yet
        self._again: Again | None = None  # what can be asked for within the budget
        self._round_trip_s = 0.0
        self._needs: deque[tuple[float, Plan | None]] = deque(maxlen=MOST)  # of the last 12 s
        self._seen: Estimate | None = None  # what the choice was made by
        self._silent_from = math.inf
        self._chosen_s = -math.inf

    @property
    def interval_s(self) -> float:
        """How far apart packets are, pauses aside; 0 while that is not known."""
        return self._interval_s

    @property
    def repairs_silence(self) -> bool:
        """Whether the last packet before a silence is to be repaired, even if there is no plan."""
        if self.plan is not None:
            return True
        seen = self._seen
        return self._again is not None and seen is not None and seen.loss > self._settings.target

    @property
    def answers(self) -> bool:
        """Whether to answer asks: not while less is sent to see what becomes of the loss."""
        return not self._backoff.testing

    def sent(self, payload_bytes: int, now: float) -> None:
        """A source packet leaves."""
        before, self._sent_s = self._sent_s, now
        self._size += (payload_bytes - self._size) * SMOOTHING
        if before is None:
            self._size = payload_bytes
        else:
            self._pace(now - before)
        if now >= self._silent_from:
            self._forget()

    def repaired(self, body_bytes: int) -> None:
        """A repair leaves: it is as long as the longest packet in it."""
        before = self._repair_size or body_bytes
        self._repair_size = before + (body_bytes - before) * SMOOTHING

    def _pace(self, gap_s: float) -> None:
        """One long gap is a rest; after another it is how slow this flow is."""
        rested, self._rested = self._rested, gap_s >= PAUSE_S
        if self._rested and (not rested or gap_s >= SLOWEST_S):
            return
        self._intervals += 1
        gain = max(SMOOTHING, 1 / self._intervals)
        self._interval_s += (gap_s - self._interval_s) * gain

    def report(self, report: Report, now: float, round_trip_s: float) -> None:
        """The receiver's report; `plan` may be another one after it."""
        history = self._history
        history.add(report, now)
        self._silent_from = now + SILENT_S
        if now < self._chosen_s + LEAST_S:
            return
        self._chosen_s = now
        self._round_trip_s = round_trip_s
        if self._seen is None:
            self._needs.append((now, self.plan))
        if (ahead := self._packets_ahead()) != self._ahead:
            self._ahead = ahead
            if not self._fixed:
                self.plan = self._alike(self.plan)
        if self._settings.asking:
            budget_s = self._settings.budget_s
            self._again = Again.within(budget_s, self._interval_s, round_trip_s)
        short, long = history.since(now - SHORT_S), history.since(now - LONG_S)
        self._seen = long if long.loss >= short.likely(SHORT_LIKELY) else short
        if self._fixed:
            return
        left = min(self._left(self.plan, [(each.loss, each.clump)]) / 2 for each in (short, long))
        self._backoff.step(history, _repairs(self.plan), left, now, round_trip_s)
        self._choose(short, long, now)

    def cost(self, plan: Plan | None) -> float:
        """Bytes sent over bytes of source packets, copies that are asked for included."""
        header = self._settings.header_bytes
        repair = self._repair_size or self._size + REPAIR_EXTRA_BYTES
        return 1 + self._extra(plan) * (repair + header) / (self._size + header)

    def explain(self) -> str:
        """The choice and its reason, in one line."""
        what = plan_words(self.plan)
        if self._again is not None:
            ahead = "nothing sent ahead" if self.plan is None else what
            what = f"{ahead}, asks again for what is missing"
        return f"{what}: {self._reason()}"

    def _choose(self, short: Estimate, long: Estimate, now: float) -> None:
        """Raise, keep or lower. Plans of as many repairs are exchanged as it suits."""
        mean = [(each.loss, each.clump) for each in (short, long)]
        likely = [
            (short.likely(SHORT_LIKELY), short.clump),
            (long.likely(LONG_LIKELY), long.clump),
        ]
        allowed = self._allowed()
        plan = self._pick(allowed, likely, TOLERANCE)
        needs = self._needs
        if (lossy_s := self._history.lossy_s) is not None:
            at = min(lossy_s, now - SHORT_S / 2)  # when what it goes by took place
            needs.append((at, self._pick(allowed, likely[:1], TOLERANCE)))
        while needs and needs[0][0] <= now - CALM_S:
            needs.popleft()
        if _repairs(plan) < _repairs(self.plan):
            needed = {need for _, need in needs}
            enough = [self._pick(allowed, mean[1:]), *map(self._alike, needed)]
            plan = max((each for each in enough if each in allowed), key=_repairs, default=plan)
            if _repairs(plan) >= _repairs(self.plan) and self.plan in allowed:
                plan = self.plan
        alike = [each for each in allowed if _repairs(each) == _repairs(plan)]
        self.plan = min(alike, key=lambda each: self._left(each, mean))

    def _pick(
        self, plans: list[Plan | None], losses: Losses, tolerance: float = 1.0
    ) -> Plan | None:
        """The first that meets the target whichever of the losses holds, or the best."""
        most, ahead = self._settings.target * tolerance, self._ahead
        for plan in plans:
            if all(residual(plan, ahead, *each, self._again) <= most for each in losses):
                return plan
        return min(plans, key=lambda plan: self._left(plan, losses))

    def _left(self, plan: Plan | None, losses: Losses) -> float:
        """What to expect, most of all from the first, the newest."""
        left = [residual(plan, self._ahead, *each, self._again) for each in losses]
        return left[0] + sum(left)

    def _allowed(self) -> list[Plan | None]:
        """Plans under the caps and what must not be tried again, the cheapest first."""
        settings = self._settings
        most = min(settings.cap - 1, 1.0)  # the few bytes beyond are for `credit` to refuse
        if settings.cap_kbps is not None and self._interval_s:
            own_kbps = (self._size + settings.header_bytes) / self._interval_s / 125
            most = min(most, settings.cap_kbps / own_kbps - 1)
        ceiling = self._backoff.ceiling
        plans: list[Plan | None] = [None]
        plans += [
            plan
            for plan in candidates(self._ahead)
            if _repairs(plan) <= most and _repairs(plan) < ceiling
        ]
        return sorted(plans, key=_repairs)

    def _is_capped(self, left: float, seen: Estimate) -> bool:
        """Whether a plan that leaves less is forbidden by the caps alone."""
        if self._fixed or self._backoff.ceiling < math.inf:
            return False
        allowed = self._allowed()
        others = [plan for plan in candidates(self._ahead) if plan not in allowed]
        return any(
            residual(plan, self._ahead, seen.loss, seen.clump, self._again) < left
            for plan in others
        )

    def _packets_ahead(self) -> int:
        """How many packets follow within the budget. Holds on where the rate is at a limit."""
        if not self._interval_s:
            return 0
        count = self._settings.budget_s / self._interval_s
        ahead = packets_ahead(count)
        return self._ahead if ahead < self._ahead <= count + 0.1 else ahead

    def _alike(self, plan: Plan | None) -> Plan | None:
        """The same kind of plan, for as many packets as the budget has now."""
        if plan is None:
            return None
        plans = [each for each in candidates(self._ahead) if each.every == plan.every]
        kind = (plan.delay > 0, plan.stride > 1)
        same = (each for each in plans if (each.delay > 0, each.stride > 1) == kind)
        return next(same, plans[0])

    def _extra(self, plan: Plan | None) -> float:
        """Repairs and copies for each source packet; no repair comes before a packet is missed."""
        again, seen = self._again, self._seen
        if again is None or seen is None:
            return _repairs(plan)
        at_once = 0.0 if plan is None or plan.delay else min(2 / plan.every, 1.0)
        return _repairs(plan) + (1 - at_once) * again.copies(seen.loss, seen.clump)

    def _forget(self) -> None:
        """Begin again as at the start."""
        if not self._fixed:
            self.plan = FIRST_PLAN
        self._ahead = -1
        self._again = None
        self._history = LossHistory()
        self._backoff = Backoff()
        self._needs.clear()
        self._seen = None
        self._silent_from = math.inf

    def _reason(self) -> str:
        if (seen := self._seen) is None:
            return f"no report, costs {self.cost(self.plan):.2f}x"
        if not seen.loss:
            parts = ["nothing lost lately"]
        else:
            parts = [f"{percent(seen.loss)} lost in runs of {seen.run:.1f}"]
            if self.plan is None or self.plan in candidates(self._ahead):
                left = residual(self.plan, self._ahead, seen.loss, seen.clump, self._again)
                parts.append(f"expected left {percent(left)}")
                if left > self._settings.target and self._is_capped(left, seen):
                    parts.append("the cap allows no more")
        parts.append(f"costs {self.cost(self.plan):.2f}x")
        backoff = self._backoff
        if backoff.testing:
            parts.append("sending no repair for a moment, to see whether it makes the loss")
        elif backoff.limit < math.inf:
            more, less = percent(backoff.more.loss), percent(backoff.less.loss)
            reason = "packets queued" if backoff.queued else f"{more} were lost instead of {less}"
            parts.append(f"held back: with more, {reason}")
        return ", ".join(parts)


def _repairs(plan: Plan | None) -> float:
    """For each source packet."""
    return 0.0 if plan is None else 1 / plan.every
