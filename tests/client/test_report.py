from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from lightspeed_client.figures import Totals
from lightspeed_client.flows import FlowTable
from lightspeed_client.gauges import Gauges
from lightspeed_client.report import last, percent, plain_words, save
from lightspeed_protocol.keepalive import Prober

NOTHING = Gauges(FlowTable(), Prober(0.25, 0.0), 0.0).totals(
    65.0, strangers=0, server="203.0.113.5:27960", node="192.0.2.1:4434"
)
GOOD = attrs.evolve(
    NOTHING, keepalives_sent=100, keepalives_answered=98, loss=0.02, rtt_median_ms=31.0,
    rtt_min_ms=30.0, rtt_p95_ms=35.0, jitter_ms=1.0, sent=4000, received=3990, overhead=0.3,
    fec="xor:4", repaired=120, loss_down=0.031, residual_down=0.0004, game_bytes_out=9,
)  # fmt: skip
THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def words(totals: Totals) -> str:
    return "\n".join(plain_words(totals))


def test_what_was_not_measured_is_said() -> None:
    never_reached = words(NOTHING)
    assert "too short to ask the node" in never_reached
    assert "No game sent a packet" in never_reached
    silent = words(attrs.evolve(NOTHING, keepalives_sent=9, loss=1.0))
    assert "The node never answered" in silent
    assert "This machine has no network" in silent
    assert "without --dev" in silent
    no_server = words(attrs.evolve(GOOD, received=0))
    assert "game server never answered" in no_server
    assert "rebuilt" not in no_server


def test_whose_name_was_not_found_is_said() -> None:
    wrong = attrs.evolve(NOTHING, server="gaem.example.com:5", not_found="game server")
    text = words(attrs.evolve(wrong, drops={"names-not-found": 1}))
    assert "The game server's name (gaem.example.com:5) was not found" in text
    assert "Check --server" in text
    assert "--proxy" not in text
    assert "1 packet from the game could not be sent on" in text
    assert "No game sent" not in text
    assert "Check --proxy" in words(attrs.evolve(NOTHING, not_found="node"))


def test_a_server_is_not_blamed_for_a_node_that_never_answered() -> None:
    text = words(attrs.evolve(NOTHING, keepalives_sent=9, loss=1.0, sent=159))
    assert "159 packets from the game sent, 0 came back" in text
    assert "game server never answered" not in text


def test_one_is_not_many() -> None:
    text = words(attrs.evolve(GOOD, sent=1, received=1, outages=1, outage_s=4.0, strangers=1))
    for part in ("1 packet from the game sent, 1 came back", "silent 1 time,", "1 packet."):
        assert part in text


def test_a_good_session_is_told_with_its_numbers() -> None:
    text = words(attrs.evolve(GOOD, outages=2, outage_s=12.0, strangers=3, drops={"short": 4}))
    for part in (
        "1 min 5 s", "median 31.0 ms", "2.0 %", "3.1 %", "120 packets rebuilt", "less than 0.1 %",
        "30.0 %", "silent 2 times, 12 s", "not all in these shares", "strangers: 3 packets",
        "short 4", "4000 packets from the game sent, 3990 came back", "98 of 100 keepalives",
    ):  # fmt: skip
        assert part in text
    assert "no repair was on" in words(attrs.evolve(GOOD, fec="off"))


def test_what_was_lost_each_way_is_told_or_said_not_to_be_known() -> None:
    assert "of the packets from the game is not known: this node does not say" in words(GOOD)
    told = attrs.evolve(GOOD, loss_up=0.021, residual_up=0.002, repaired_late=7)
    text = words(told)
    assert (
        "3.1 % of the packets to the game were lost on the way; 120 packets rebuilt (7 of" in text
    )
    assert (
        "2.1 % of the packets from the game were lost, as the node says; 0.2 % stayed lost or came"
        " too late." in text
    )
    off = words(attrs.evolve(told, fec="off"))
    assert "2.1 % of the packets from the game were lost, as the node says.\n" in off


def test_what_repair_took_is_told() -> None:
    assert "Repair took" not in words(GOOD)
    busy = attrs.evolve(GOOD, repair_sent=2000, repair_received=1, repair_asked=1, repair_capped=5)
    text = words(busy)
    assert (
        "Repair took 2000 packets sent, 0.50 for each of the game's; 1 packet received, 0.00 for"
        " each of the game's." in text
    )
    assert "Lost packets were asked for again 1 time." in text
    assert "5 repair packets could not be sent: --fec-cap allows no more." in text


def test_unknown_shares_are_not_zero() -> None:
    assert percent(None) == "an unknown share"
    assert percent(0.0) == "0.0 %"


def test_the_newest_reports_are_kept_and_come_first(tmp_path: Path) -> None:
    for minute in range(7):
        save(tmp_path, GOOD, THEN + timedelta(minutes=minute), keep=3)
    assert len(list((tmp_path / "reports").iterdir())) == 3
    ended = [record["ended"] for record in last(tmp_path, 2)]
    assert ended == ["2026-01-02T03:10:05+00:00", "2026-01-02T03:09:05+00:00"]


def test_a_broken_report_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, GOOD, THEN)
    (tmp_path / "reports" / "session-20990101T000000Z-1.json").write_text("{")
    assert len(last(tmp_path, 5)) == 1
    assert last(tmp_path / "nowhere", 5) == []


def test_an_unwritable_place_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where a directory should be")
    with pytest.raises(OSError, match=r"\S"):
        save(tmp_path, GOOD, THEN)
