from __future__ import annotations

import attrs
from lightspeed_client.lab.promise import check

from .test_verdict import DROPPED, way


def test_a_packet_delivered_twice_breaks_the_promise() -> None:
    assert not check("inputs", way(), attrs.evolve(way(DROPPED), duplicates=1)).held


def test_only_numbers_that_both_sent_are_compared() -> None:
    shorter = check("inputs", way(), way(DROPPED, sent=900))
    assert (shorter.common, shorter.missing, shorter.same_losses) == (900, 0, True)
    assert shorter.gained == shorter.dropped == 45
