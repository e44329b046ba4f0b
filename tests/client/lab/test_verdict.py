from __future__ import annotations

from collections.abc import Set as AbstractSet

import attrs
from lightspeed_client.lab.tally import Tally, Way
from lightspeed_client.lab.verdict import check, judge

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
    text = "\n".join(verdict.lines())
    assert "(+12%)" in text
    assert "30 ms after its moment" in text
    assert "4 packets stayed lost" in text
    assert "cannot show whether the way through a node is shorter" in text
    assert any("round trip" in line for line in verdict.not_better)
    assert any("longest freeze" in line for line in verdict.not_better)  # it did not change
    assert verdict.held


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


def test_a_packet_delivered_twice_breaks_the_promise() -> None:
    assert not check("inputs", way(), attrs.evolve(way(DROPPED), duplicates=1)).held


def test_only_numbers_that_both_sent_are_compared() -> None:
    shorter = check("inputs", way(), way(DROPPED, sent=900))
    assert (shorter.common, shorter.missing, shorter.same_losses) == (900, 0, True)
    assert shorter.gained == shorter.dropped == 45


def test_a_longest_freeze_is_better_only_when_it_is_much_shorter() -> None:
    for freeze_s, better in ((0.035, False), (0.02, True)):
        verdict = judge(OFF, tally(attrs.evolve(way(DROPPED), freeze_s=freeze_s)))
        assert any("longest freeze" in line for line in verdict.better) is better


def test_other_losses_are_admitted() -> None:
    other = attrs.evolve(way(DROPPED), dropped=frozenset({(0, 3)}))
    result = check("inputs", way(), other)
    assert not result.same_losses
    assert "compare the shares only" in result.line()
