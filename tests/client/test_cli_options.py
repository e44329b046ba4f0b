from __future__ import annotations

import click
import pytest
from lightspeed_client.cli_options import Fec, HostPort, pick_node, pick_server, run_checks
from lightspeed_client.modes.checks import Check, failed, passed

CONTEXT = click.Context(click.Command("x"))


def test_addresses_convert_and_fail_as_usage() -> None:
    assert HostPort().convert("192.0.2.5:7", None, None) == ("192.0.2.5", 7)
    assert HostPort(4434).convert("192.0.2.5", None, None) == ("192.0.2.5", 4434)
    assert HostPort().convert(("192.0.2.5", 7), None, None) == ("192.0.2.5", 7)
    with pytest.raises(click.BadParameter, match="port is missing"):
        HostPort().convert("192.0.2.5", None, None)


def test_fec_stays_as_written() -> None:
    assert Fec().convert("xor:4", None, None) == "xor:4"
    with pytest.raises(click.BadParameter, match="want off"):
        Fec().convert("auto", None, None)


def test_the_command_line_wins_over_the_settings() -> None:
    assert pick_node(CONTEXT, ("192.0.2.1", 1), "192.0.2.2") == ("192.0.2.1", 1)
    assert pick_node(CONTEXT, None, "192.0.2.2") == ("192.0.2.2", 4434)
    assert pick_server(CONTEXT, ("192.0.2.1", 1), "192.0.2.2:5") == ("192.0.2.1", 1)
    assert pick_server(CONTEXT, None, "192.0.2.2:5") == ("192.0.2.2", 5)


def test_without_either_the_remedy_is_named() -> None:
    with pytest.raises(click.UsageError, match=r"config set node\.address"):
        pick_node(CONTEXT, None, "")
    with pytest.raises(click.UsageError, match=r"config set redirect\.server"):
        pick_server(CONTEXT, None, "")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("check", "status"), [(passed("a", "b"), 0), (failed("a", "b"), 1)])
def test_checks_decide_the_exit_status(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    check: Check,
    status: int,
    as_json: bool,
) -> None:
    monkeypatch.setattr("lightspeed_client.cli_options.set_up_logs", lambda **_: None)

    async def checks(tell: object) -> list[Check]:
        assert callable(tell)
        tell(check)
        return [check]

    with pytest.raises(SystemExit) as caught:
        run_checks(checks, as_json=as_json)
    assert caught.value.code == status
    assert ("{" in capsys.readouterr().out) == as_json
