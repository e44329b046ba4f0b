"""The story from outside: its process, what it prints, how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import trio
from lightspeed_client.lab import node as lab_node
from lightspeed_client.lab import world as lab_world
from lightspeed_client.lab.cli import demo, lab
from lightspeed_client.lab.show import PlainView
from lightspeed_client.lab.sites import Tunnel
from lightspeed_client.lab.story import (
    LAB_REMEDY,
    DemoStory,
    LabStory,
    run_story,
    warnings_of,
)
from lightspeed_client.lab.tally import Live
from lightspeed_client.lab.verdict import judge
from lightspeed_client.lab.weather import Weather
from lightspeed_client.lab.world import WorldSettings

from .test_verdict import OFF

LIGHTSPEED = [sys.executable, "-m", "lightspeed_client"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def children_of(pid: int) -> list[int]:
    """Of all its threads: a child belongs to the one that started it."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for task in tasks for word in task.read_text("ascii").split()]


def test_the_demo_tells_both_matches_and_a_verdict_from_its_own_figures() -> None:
    out = io.StringIO()
    assert run_story(DemoStory(seconds=3, seed=2, view=PlainView(out))) == 0
    text = out.getvalue()
    began = text[: text.index("match 1")].splitlines()
    for what in ("game", "node", "invite", "client", "link"):
        assert sum(line.startswith(f"  {what} ") for line in began) == 1
    for part in (
        "match 1 of 2, without loss repair",
        "match 2 of 2, with loss repair auto",
        "5% loss each way",
        " repair off  repair auto",
        "Checked packet by packet:",
        "the link dropped the same",
        "every one that arrived without repair arrived with it",
        "delivered twice: 0",
        "whether the way through a node is",
        "repair auto, at the end:\n  up: 1 repair per ",
    ):
        assert part in text
    assert "NOT with it" not in text


async def test_an_interrupted_lab_says_how_long_it_played() -> None:
    out = io.StringIO()
    stop = trio.Event()

    class Impatient(PlainView):
        def show(self, live: Live) -> None:
            trio.from_thread.run_sync(stop.set)

    story = LabStory(settings=WorldSettings(), seconds=600, view=Impatient(out))
    with trio.fail_after(20):
        assert await story.tell(stop) == 0
    text = out.getvalue()
    assert text.startswith("starting 1 node (with an invite), a game server and 1 bot\n")
    assert re.search(r"^stopped after 1\.\d s of 600$", text, re.MULTILINE)


def test_the_advice_names_only_what_the_command_has() -> None:
    slow = attrs.evolve(OFF, ticks=100, late_ticks=50)
    (warning,) = warnings_of(slow, OFF)
    verdict = judge(slow, OFF).lines()
    for words, command in (([warning, *verdict], demo), ([warning, LAB_REMEDY], lab)):
        text = "\n".join(words)
        assert "lose other programs" in text
        assert set(re.findall(r"--\w+", text)) <= {n for o in command.params for n in o.opts}
    assert "players" not in "\n".join([warning, *verdict])  # the demo has one, always


@pytest.mark.parametrize(
    ("tunnel", "words"),
    [("sealed", "could not register at its node"), ("open", "no input reached the game server")],
)
def test_a_link_that_passes_nothing_is_no_match(
    tunnel: Tunnel, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_world, "REGISTER_S", 0.1)
    closed = WorldSettings(up=Weather(loss=1.0), tunnel=tunnel)
    story = LabStory(settings=closed, seconds=1, view=PlainView(io.StringIO()))
    assert run_story(story) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "near 100 %" in error


def test_without_a_node_installed_it_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lab_node, "MODULE", "lightspeed_nowhere")
    assert run_story(DemoStory(seconds=3, seed=1, view=PlainView(io.StringIO()))) == 1
    error = capsys.readouterr().err
    assert "lightspeed-proxy is not installed" in error
    assert "Traceback" not in error


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_lab_with_its_figures_and_leaves_no_process(
    name: str,
) -> None:
    if signal.getsignal(signal.Signals[name]) is signal.SIG_IGN and name == "SIGHUP":
        pytest.skip("platform: under nohup a hang-up is to be ignored")
    command = [*LIGHTSPEED, "lab", "--seconds", "600", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the first second has been played
        children = children_of(process.pid)
        assert children
        process.send_signal(signal.Signals[name])
        rest, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    last = json.loads(rest.splitlines()[-1])
    assert last["final"] is True
    assert last["up"]["arrived"] > 50
    assert last["stopped"] is True
    assert not any(alive(pid) for pid in children)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_when_the_node_dies_the_lab_says_why_and_fails() -> None:
    command = [*LIGHTSPEED, "lab", "--seconds", "600", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (node,) = children_of(process.pid)
        os.kill(node, signal.Signals["SIGKILL"])
        _, error = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "the lab broke: the node died" in error
    assert "Traceback" not in error


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    command = [*LIGHTSPEED, "lab", "--seconds", "600", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
        process.wait(timeout=15)
    assert process.returncode == 1
    assert error == ""
