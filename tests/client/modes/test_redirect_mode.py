from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from lightspeed_client.app import RedirectSettings
from lightspeed_client.display import JsonView, PlainView, Route
from lightspeed_client.figures import Figures, Totals
from lightspeed_client.modes import redirect_mode
from lightspeed_protocol.errors import Refused
from lightspeed_protocol.extensions import RefusalCode
from lightspeed_protocol.runtime.udp import UdpPort
from trio.testing import MockClock

from ..fakes import SERVER, FakeNode
from ..sealed_node import HOME_NODE, SealedNode


@attrs.define(eq=False)
class FakeView:
    """Calls `on_show`; remembers the rest."""

    route: Route | None = None
    shown: list[Figures] = attrs.field(factory=list)
    ended: list[Totals] = attrs.field(factory=list)
    gone: bool = False  # the reader has left
    trouble: int = errno.EPIPE
    held: threading.Event | None = None  # a terminal that takes nothing until this is set

    def begin(self, route: Route) -> None:
        self.route = route

    def show(self, figures: Figures) -> None:
        self.shown.append(figures)
        if self.held is not None:
            self.held.wait(10)
        if self.gone:
            raise OSError(self.trouble, "trouble")

    def end(self, figures: Figures, totals: Totals) -> None:
        self.ended.append(totals)


@pytest.fixture(autouse=True)
def _switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


async def until(true: object) -> None:
    assert callable(true)
    with trio.fail_after(10):
        while not true():
            await trio.sleep(0.01)


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_a_stuck_terminal_never_holds_up_a_game_packet(tmp_path: Path) -> None:
    node, view = FakeNode(), FakeView(held=threading.Event())
    assert view.held is not None
    with UdpPort.bind(("127.0.0.1", 0)) as port, UdpPort.bind(("127.0.0.1", 0)) as game:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, port)
            settings = RedirectSettings(server=SERVER, node=port.address)
            session = redirect_mode.Session(view=view, state_dir=tmp_path)

            async def play() -> None:
                await redirect_mode.run(settings, session)
                nursery.cancel_scope.cancel("session over")

            nursery.start_soon(play)
            await until(lambda: view.shown)
            assert view.route is not None
            assert view.route.server == "203.0.113.5:27960"
            host, _, number = view.route.local[0].rpartition(":")
            for turn in range(50):
                game.send(b"%d" % turn, (host, int(number)))
                with trio.fail_after(15):
                    assert (await game.receive())[0][0] == b"%d" % turn
            assert len(view.shown) == 1, "still stuck"
            await until(lambda: any(name.startswith("status-") for name in names(tmp_path)))
            view.gone = True
            view.held.set()
            await until(lambda: view.ended)
    assert [totals.sent for totals in view.ended] == [50]
    assert len(node.fins) == 1
    assert names(tmp_path) == ["reports"], "no status file stays"
    assert len(names(tmp_path / "reports")) == 1


async def test_an_unwritable_state_directory_is_said_and_nothing_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    view = FakeView(trouble=errno.ENOSPC)
    settings = RedirectSettings(server=SERVER, node=("127.0.0.1", 9))
    session = redirect_mode.Session(view=view, state_dir=tmp_path / "state")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(redirect_mode.run, settings, session)
        await until(lambda: "will not see this client" in caplog.text)
        view.gone = True
    assert len(view.ended) == 1
    assert "cannot save the report" in caplog.text
    assert "output closed" in caplog.text


@pytest.mark.parametrize("kind", [JsonView, PlainView])
async def test_a_reader_that_leaves_ends_the_session_without_a_word(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: type[JsonView | PlainView],
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        session = redirect_mode.Session(view=kind(out), state_dir=tmp_path)
        with trio.fail_after(10):
            await redirect_mode.run(RedirectSettings(server=SERVER, node=("127.0.0.1", 9)), session)
    assert caplog.text == ""
    assert len(names(tmp_path / "reports")) == 1, "the report is kept all the same"


async def test_a_taken_port_is_one_line_and_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with UdpPort.bind(("127.0.0.1", 0)) as taken:
        settings = RedirectSettings(
            server=SERVER, node=("127.0.0.1", 9), local_port=taken.address[1]
        )
        session = redirect_mode.Session(view=FakeView(), state_dir=tmp_path)
        with pytest.RaisesGroup(SystemExit, flatten_subgroups=True, allow_unwrapped=True):
            await redirect_mode.run(settings, session)
    assert capsys.readouterr().err.count("\n") == 1


async def test_seconds_come_at_once_then_evenly_and_late_ones_are_skipped(
    autojump_clock: MockClock,
) -> None:
    times = []
    with trio.move_on_after(8.5):
        async for _ in redirect_mode.seconds():
            times.append(trio.current_time())
            if len(times) == 3:
                await trio.sleep(2.6)  # a slow reader
    assert times == pytest.approx([0, 1, 2, 4.6, 5.6, 6.6, 7.6])


async def test_an_invited_nodes_session_is_kept_for_a_restart_and_forgotten_at_a_clean_end(
    tmp_path: Path,
) -> None:
    node, view = SealedNode(), FakeView()

    def kept() -> list[Path]:
        return list(tmp_path.glob("sessions/*.json"))

    with UdpPort.bind(("127.0.0.1", 0)) as port:
        node.data = port.address
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.serve, port)
            local = attrs.evolve(HOME_NODE, host="127.0.0.1")
            settings = RedirectSettings(server=SERVER, node=local)
            session = redirect_mode.Session(view=view, state_dir=tmp_path)

            async def play() -> None:
                await redirect_mode.run(settings, session, connect=node.connect)
                nursery.cancel_scope.cancel("session over")

            nursery.start_soon(play)
            await until(kept)
            await until(lambda: any(figures.rtt_ms is not None for figures in view.shown))
            assert view.route is not None
            assert view.route.node == "home"
            assert (view.shown[-1].control, view.shown[-1].session) == ("registered", "00001b59")
            view.gone = True
    assert kept() == []
    assert (node.goodbyes, view.ended[0].session) == (1, "00001b59")


async def test_a_refusal_that_comes_late_ends_the_session_with_its_report(tmp_path: Path) -> None:
    node, view = SealedNode(reachable=False), FakeView()
    settings = RedirectSettings(server=SERVER, node=HOME_NODE)
    session = redirect_mode.Session(view=view, state_dir=tmp_path)

    async def open_later() -> None:
        await until(lambda: view.shown)
        node.refuses = RefusalCode.REVOKED
        node.reachable = True

    with pytest.RaisesGroup(
        pytest.RaisesExc(Refused, match="revoked"), flatten_subgroups=True, allow_unwrapped=True
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_later)
            await redirect_mode.run(settings, session, connect=node.connect)
    assert len(view.ended) == 1
    assert view.ended[0].control == "refused"
