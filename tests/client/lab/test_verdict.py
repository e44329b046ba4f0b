from __future__ import annotations

from collections.abc import Set as AbstractSet

import attrs
import pytest
from lightspeed_client.lab.promise import check
from lightspeed_client.lab.tally import Tally
from lightspeed_client.lab.verdict import judge
from lightspeed_client.lab.way import Way

SENT = 1000
DROPPED = frozenset(range(20, SENT, 20))  # 49 of 1000


def way(healed: AbstractSet[int] = frozenset(), *, sent: int = SENT, late: int = 0) -> Way:
    numbers = set(range(1, sent + 1))
    return Way(
        sent_by={0: sent},
        delivered=frozenset((0, n) for n in (numbers - DROPPED) | set(healed)),
        dropped=frozenset((0, n) for n in DROPPED if n <= sent),
        repair_delays_s=tuple(0.03 for _ in healed),
        own_transits_s=(0.025,),
        late=late,
        bound=1,
        freeze_s=0.04,
        game_bytes=100_000,
        tunnel_bytes=120_000 + 300 * len(healed),
    )


def tally(one: Way, fec: str = "xor:4") -> Tally:
    return Tally(fec=fec, seconds=10, up=one, down=one, round_trips_s=(0.05,), tunnel_rtt_ms=50.0)


OFF = tally(way(), "off")


def test_repair_that_heals_is_said_to_help_and_what_it_cost() -> None:
    verdict = judge(OFF, tally(way(DROPPED - {20, 40})))
    assert verdict.outcome == "helped"
    assert verdict.headline.startswith("Loss repair (xor:4) helped: 4.90%")
    assert "0.20%" in verdict.headline
    assert verdict.headline.endswith("It cost 12% more bytes.")
    text = "\n".join(verdict.lines())
    assert "(+12%)" in text
    assert "30 ms after its moment" in text
    assert "4 packets stayed lost: fewer repair packets came" in text
    assert "4 packets lost or too late with repair; with as many repair packets" in text
    assert "any code would have left at least 2" in text
    assert "whether the way through a node is shorter" in text
    assert verdict.held
    assert [line.split(":")[0] for line in verdict.same] == [
        "longest freeze of states",
        "longest freeze of inputs",
        "round trip from input to state, median",
        "packets that needed no repair, one way, median",
    ]
    assert len(verdict.not_better) == 2


@pytest.mark.parametrize(
    ("states_s", "trip_s", "better", "worse"),
    [
        (0.015, 0.030, True, False),
        (0.090, 0.070, False, True),
        (0.050, 0.056, False, False),  # less than a tick, less than half a tick
    ],
)
def test_every_figure_stands_where_it_belongs(
    states_s: float, trip_s: float, better: bool, worse: bool
) -> None:
    """Freeze and round trip as well: better, the same, or not better; never in two places."""
    one = attrs.evolve(way(DROPPED), freeze_s=states_s)
    verdict = judge(OFF, attrs.evolve(tally(one), round_trips_s=(trip_s,)))
    for name in ("longest freeze of states", "round trip from input"):
        found = [
            any(line.startswith(name) for line in lines)
            for lines in (verdict.better, verdict.not_better, verdict.same)
        ]
        assert found == [better, worse, not better and not worse]


@pytest.mark.parametrize("half", [0, 1])
def test_a_busy_machine_is_inconclusive_whichever_half_it_spoilt(half: int) -> None:
    tallies = [OFF, tally(way(DROPPED))]
    tallies[half] = attrs.evolve(tallies[half], ticks=100, late_ticks=3)
    verdict = judge(*tallies)
    assert verdict.outcome == "inconclusive"
    text = "\n".join(verdict.lines())
    assert text.startswith("Inconclusive: this machine was too busy to tell.")
    assert "Close other programs and run it again." in text
    assert "help" not in text
    assert (verdict.better, verdict.same, verdict.not_better) == ([], [], [])
    assert "lost game packets: 4.90% without, 0.00% with (98 repaired)" in text
    assert verdict.held  # so the exit status is 0


def test_a_busy_machine_does_not_excuse_a_broken_promise() -> None:
    busy = attrs.evolve(tally(attrs.evolve(way(DROPPED), duplicates=1)), late_ticks=1)
    verdict = judge(OFF, busy)
    assert (verdict.outcome, verdict.held) == ("inconclusive", False)
    assert "broke its promise" in "\n".join(verdict.lines())


def test_a_rebuilt_packet_in_time_counts_as_saved_and_a_late_one_does_not() -> None:
    """The figures of 5 % loss at 64 packets/s and xor:4: lost or late 5.3 % to 1.8 %."""
    without = tally(way(late=4), "off")
    verdict = judge(without, tally(attrs.evolve(way(DROPPED, late=18), repaired_late=15)))
    assert verdict.outcome == "helped"
    assert "helped: 5.30% of the game's packets were lost or came too late without it, 1.80%" in (
        verdict.headline
    )
    (line,) = [line for line in verdict.better if "undisturbed" in line]
    assert "30 of the repaired came too late and count here" in line


def test_each_reason_for_a_packet_that_stayed_lost_has_its_own_number() -> None:
    one = way(DROPPED - {20, 40, 980}, late=2)
    one = attrs.evolve(one, delivered=one.delivered - {(0, 7)})  # and one the link let pass
    lines = judge(OFF, tally(one)).not_better
    starts = [(int(line.split()[0]), line.partition(": ")[2][:20]) for line in lines]
    assert starts == [
        (6, "fewer repair packets"),
        (12, ""),
        (2, "not lost on the link"),
    ]
    assert "any code would have left at least 2" in lines[1]
    single = attrs.evolve(tally(one), up=way(DROPPED), down=attrs.evolve(way(DROPPED - {980})))
    assert judge(OFF, single).not_better[0].startswith("1 packet stayed lost: fewer")


def test_repair_that_heals_nothing_is_said_not_to_help() -> None:
    verdict = judge(OFF, tally(way()))
    assert verdict.outcome == "no help"
    assert "did NOT help" in verdict.headline
    assert verdict.better == []


def test_repair_that_comes_too_late_is_said_not_to_help_play() -> None:
    verdict = judge(OFF, tally(way(DROPPED, late=len(DROPPED))))
    assert verdict.outcome == "no help"
    assert "too late" in verdict.headline


def test_without_loss_there_is_nothing_to_praise() -> None:
    clean = attrs.evolve(
        way(), delivered=frozenset((0, n) for n in range(1, SENT + 1)), dropped=frozenset()
    )
    verdict = judge(tally(clean, "off"), tally(clean))
    assert verdict.outcome == "no loss"
    assert "only cost" in verdict.headline


def test_a_packet_that_repair_lost_breaks_the_promise() -> None:
    broken = way(DROPPED)
    broken = attrs.evolve(broken, delivered=broken.delivered - {(0, 7)})
    verdict = judge(OFF, tally(broken))
    assert not verdict.held
    assert "1 arrived without repair but NOT with it" in "\n".join(verdict.lines())


def test_a_longest_freeze_is_better_only_when_it_is_much_shorter() -> None:
    for freeze_s, better in ((0.035, False), (0.02, True)):
        verdict = judge(OFF, tally(attrs.evolve(way(DROPPED), freeze_s=freeze_s)))
        assert any("longest freeze" in line for line in verdict.better) is better


def test_other_losses_are_admitted() -> None:
    other = attrs.evolve(way(DROPPED), dropped=frozenset({(0, 3)}))
    result = check("inputs", way(), other)
    assert not result.same_losses
    assert "compare the shares only" in result.line()
