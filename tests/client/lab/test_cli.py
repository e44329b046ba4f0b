from __future__ import annotations

import pytest
from click.testing import CliRunner
from lightspeed_client.lab.cli import (
    demo,
    lab,
    parse_blackhole,
    parse_burst,
    parse_percent,
)
from lightspeed_client.lab.weather import Blackhole, Burst


def test_percentages_are_percent_with_or_without_the_sign() -> None:
    assert [parse_percent(text) for text in ("5%", "5", " 0.5 % ", "100%")] == [
        0.05,
        0.05,
        0.005,
        1.0,
    ]


@pytest.mark.parametrize("text", ["", "%", "five", "-1%", "101%", "nan"])
def test_other_percentages_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want"):
        parse_percent(text)


def test_bursts_and_blackholes_are_read() -> None:
    assert parse_burst("2%:80") == Burst(0.02, 0.08)
    assert parse_burst("2:80ms") == Burst(0.02, 0.08)
    assert parse_blackhole("5:1.5") == Blackhole(5.0, 1.5)


@pytest.mark.parametrize("command", [lab, demo])
def test_help_is_there(command: object) -> None:
    for flag in ("-h", "--help"):
        result = CliRunner().invoke(command, [flag])  # type: ignore[arg-type]
        assert result.exit_code == 0
        assert "--seconds" in result.output


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--loss", "150%"], "0% to 100%"),
        (["--burst", "2%"], "SHARE:MS"),
        (["--burst", "100%:80"], "below 100 %"),
        (["--blackhole", "soon"], "AT:SECONDS"),
        (["--blackhole", "-1:2"], "AT:SECONDS"),
        (["--fec", "xor:1"], "xor:K"),
        (["--fec-budget-ms", "1"], "--fec-budget-ms"),
        (["--fec-cap", "0.5x"], "1x to 100x"),
        (["--fec-target", "99"], "--fec-target"),
        (["--tunnel", "open", "--fec", "auto"], "needs a node with an invite"),
        (["--tunnel", "open", "--fec", "xor:4,off"], "needs a node with an invite"),
        (["--players", "0"], "--players"),
        (["--tunnel", "closed"], "'sealed', 'open'"),
        (["--rate", "0"], "--rate"),
        (["--seconds", "3600", "--players", "64"], "more than the lab can follow"),
    ],
)
def test_bad_values_are_usage_errors_with_the_remedy(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(lab, arguments)
    assert result.exit_code == 2
    assert word in result.output
    assert "Traceback" not in result.output
