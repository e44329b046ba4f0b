from __future__ import annotations

import pytest
from lightspeed_client.lab.receipts import Receipts


def test_nothing_received_is_no_figure() -> None:
    receipts = Receipts()
    receipts.close(9.0)
    assert (receipts.late(), receipts.freeze_s, receipts.fastest_s) == (set(), 0.0, None)


def test_late_is_measured_from_the_fastest_packet() -> None:
    receipts = Receipts()
    for number, transit_s in ((1, 0.100), (2, 0.020), (3, 0.069), (4, 0.071)):
        assert receipts.note(number, 10.0 * number, 10.0 * number + transit_s)
    assert receipts.late() == {1, 4}  # more than 50 ms after 20 ms
    assert receipts.numbers == {1, 2, 3, 4}


def test_a_number_counts_once() -> None:
    receipts = Receipts()
    assert receipts.note(5, 0.0, 1.0)
    assert not receipts.note(5, 0.0, 2.0)
    assert receipts.duplicates == 1
    assert receipts.transit_s == {5: 1.0}


def test_only_something_newer_ends_a_freeze() -> None:
    receipts = Receipts()
    receipts.note(1, 0.0, 0.0)
    receipts.note(3, 0.0, 0.1)
    receipts.note(2, 0.0, 0.3)
    receipts.note(4, 0.0, 0.5)
    assert receipts.freeze_s == pytest.approx(0.4)
    receipts.close(1.5)
    assert receipts.freeze_s == pytest.approx(1.0)
