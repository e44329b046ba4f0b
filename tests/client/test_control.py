from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
from lightspeed_client.app import RedirectSettings, open_redirect
from lightspeed_client.control import RENEW_S, STALE_S, ControlSession
from lightspeed_client.resume import Memory
from lightspeed_client.session import Grant
from lightspeed_protocol.control import Disconnect, DisconnectReason, Rekey, ServerInfo
from lightspeed_protocol.errors import Refused
from lightspeed_protocol.extensions import Refusal, RefusalCode, encode_refusal
from trio.testing import MockClock

from .fakes import NODE, SERVER, FakeNet
from .sealed_node import HOME_NODE, SealedNode


@attrs.define(eq=False)
class World:
    node: SealedNode
    session: ControlSession
    keeper: Memory
    grants: list[Grant]
    keys: list[bytes]
    farewells: int = 0


@asynccontextmanager
async def open_session(
    node: SealedNode, keeper: Memory | None = None, **changes: Any
) -> AsyncIterator[World]:
    keeper = keeper or Memory()
    grants: list[Grant] = []
    keys: list[bytes] = []
    session = ControlSession(
        node=attrs.evolve(HOME_NODE, **changes),
        connect=node.connect,
        keeper=keeper,
        on_grant=lambda grant, data: grants.append(grant),
        on_rekey=keys.append,
        on_farewell=lambda: setattr(world, "farewells", world.farewells + 1),
        rng=random.Random(1),
    )
    world = World(node, session, keeper, grants, keys)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        yield world
        nursery.cancel_scope.cancel("test over")


def states(world: World) -> str:
    return world.session.state


async def test_a_session_is_granted_and_its_secret_kept(autojump_clock: MockClock) -> None:
    async with open_session(SealedNode()) as world:
        with trio.fail_after(1):
            await world.session.settled.wait()
        assert (world.session.state, world.session.problem) == ("registered", None)
        assert world.session.session_id == "00001b59"
        (asked,) = world.node.registers
        assert (asked.resume, asked.credential) == (None, HOME_NODE.token)
        await trio.sleep(60)
        assert len(world.node.registers) == 1
        assert world.node.pings >= 3, "is it still there?"
        assert await world.keeper.load() is not None


async def test_a_lost_connection_is_made_again_and_the_session_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        world.node.hang_up()
        world.node.reachable = False
        await trio.sleep(300)
        assert states(world) == "connecting"
        assert "no answer from 192.0.2.1:4433; trying again" in (world.session.problem or "")
        assert caplog.text.count("no answer from 192.0.2.1:4433") == 1
        world.node.reachable = True
        await trio.sleep(11)
        assert states(world) == "registered"
        assert [grant.resumed for grant in world.grants] == [False, True]
        assert len({grant.session_id for grant in world.grants}) == 1
        assert world.grants[0].key != world.grants[1].key


async def test_a_restarted_client_gets_its_session_back(autojump_clock: MockClock) -> None:
    node, keeper = SealedNode(), Memory()
    async with open_session(node, keeper):
        await trio.sleep(1)
    async with open_session(node, keeper) as world:
        await trio.sleep(1)
        assert [grant.resumed for grant in world.grants] == [True]
        assert len(node.sessions) == 1
        await world.session.goodbye()
        await trio.sleep(60)
        assert len(node.registers) == 2, "a client that has left does not come back"
    assert node.goodbyes == 1
    assert await keeper.load() is None


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (RefusalCode.UNKNOWN_TOKEN, "does not know your invite"),
        (RefusalCode.EXPIRED, "has expired"),
        (RefusalCode.REVOKED, "has been revoked"),
        (RefusalCode.NO_CREDENTIAL, "asks for an invite"),
        (RefusalCode.NO_COMMON_VERSION, "update the older"),
    ],
)
async def test_what_asking_again_cannot_change_is_asked_once(
    autojump_clock: MockClock, code: RefusalCode, says: str
) -> None:
    async with open_session(SealedNode(refuses=code)) as world:
        with trio.fail_after(1):
            await world.session.refused.wait()
        assert world.session.state == "refused"
        assert says in (world.session.problem or "")
        await trio.sleep(600)
        assert len(world.node.registers) == 1
        assert world.grants == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (RefusalCode.TOO_MANY_SESSIONS, "too many devices"),
        (RefusalCode.NODE_FULL, "is full"),
        (RefusalCode.DRAINING, "shutting down or restarting"),
        (RefusalCode.TOO_OFTEN, "asked too often"),
    ],
)
async def test_what_time_may_change_is_shown_and_tried_again(
    autojump_clock: MockClock, code: RefusalCode, says: str
) -> None:
    async with open_session(SealedNode(refuses=code)) as world:
        await trio.sleep(60)
        assert not world.session.settled.is_set()
        assert says in (world.session.problem or "")
        assert 6 < len(world.node.registers) < 20
        world.node.refuses = None
        await trio.sleep(11)
        assert world.session.state == "registered"


async def test_another_key_than_the_invites_is_never_asked_anything(
    autojump_clock: MockClock,
) -> None:
    async with open_session(SealedNode(), pin=bytes(32)) as world:
        await trio.sleep(600)
        assert world.node.registers == []
        assert isinstance(world.session.refusal, Refused)
        assert "not the node of your invite" in (world.session.problem or "")


async def test_another_key_in_mid_session_is_shown_and_tried_again(
    autojump_clock: MockClock,
) -> None:
    """A captive portal, or worse, between us and the node: the session may still go on."""
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        right, world.node.pin = world.node.pin, bytes(32)
        world.node.hang_up()
        await trio.sleep(30)
        assert "not the node" in (world.session.problem or "")
        assert not world.session.refused.is_set()
        world.node.pin = right
        await trio.sleep(11)
        assert world.session.state == "registered"


async def test_a_revoked_invite_ends_a_running_session_for_good_and_says_why(
    autojump_clock: MockClock,
) -> None:
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        world.node.refuses = RefusalCode.REVOKED
        ended = encode_refusal(Refusal(code=RefusalCode.SESSION_ENDED))
        world.node.say(Disconnect(DisconnectReason.AUTH_FAILURE, ended))
        await trio.sleep(600)
        assert (world.session.state, len(world.node.registers)) == ("refused", 2)
        assert "has been revoked" in (world.session.problem or "")
        assert not world.session.refused.is_set(), "a running client stays up"


async def test_a_session_that_another_client_took_is_not_taken_back(
    autojump_clock: MockClock,
) -> None:
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        ended = encode_refusal(Refusal(code=RefusalCode.SESSION_ENDED))
        world.node.say(Disconnect(DisconnectReason.AUTH_FAILURE, ended))
        await trio.sleep(1)
        assert [asked.resume for asked in world.node.registers] == [None, None]
        assert world.grants[1].session_id != world.grants[0].session_id


async def test_what_the_node_says_by_itself_is_acted_upon_once(autojump_clock: MockClock) -> None:
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        for epoch in (1, 1, 2):
            world.node.say(Rekey(epoch, bytes((epoch,)) * 16))
        assert world.keys == [b"\1" * 16, b"\2" * 16]
        world.node.say(ServerInfo(30, 5, 100))
        world.node.say(Disconnect(DisconnectReason.SERVER_SHUTDOWN))
        assert world.farewells == 1
        await trio.sleep(1)
        assert len(world.node.registers) == 1, "it carries on while it drains"
        (client,) = world.node.clients
        assert client.tell is not None
        client.tell(b"\0\0junk")
        await trio.sleep(20)
        assert world.session.state == "registered"


async def test_a_rekey_that_a_registration_overtook_is_not_used(
    autojump_clock: MockClock,
) -> None:
    """Its key is of the registration before: sealed with it, nothing would be authentic."""
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        world.node.say(Rekey(1, b"\1" * 16))
        await trio.sleep(RENEW_S)
        world.session.path_is_silent()
        await trio.sleep(0.1)
        assert len(world.grants) == 2
        world.node.say(Rekey(2, b"\2" * 16))
        assert world.keys == [b"\1" * 16]
        await trio.sleep(STALE_S)
        world.node.say(Rekey(1, b"\1" * 16))
        world.node.say(Rekey(3, b"\3" * 16))
        assert world.keys == [b"\1" * 16, b"\3" * 16]


async def test_epochs_count_on_over_a_resume_and_begin_anew_with_another_session(
    autojump_clock: MockClock,
) -> None:
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        world.node.say(Rekey(1, b"\1" * 16))
        world.node.hang_up()
        await trio.sleep(1)
        assert [grant.resumed for grant in world.grants] == [False, True]
        world.node.say(Rekey(1, b"\1" * 16))
        assert len(world.keys) == 1
        world.node.say(Rekey(2, b"\2" * 16))
        assert len(world.keys) == 2, "another connection: nothing of the one before can come"
        world.node.sessions.clear()
        world.node.hang_up()
        await trio.sleep(1.5)
        assert [grant.resumed for grant in world.grants] == [False, True, False]
        world.node.say(Rekey(2, b"\3" * 16))
        assert len(world.keys) == 3


async def test_a_data_address_that_no_node_may_name_is_said_and_tried_again_in_one_session(
    autojump_clock: MockClock,
) -> None:
    async with open_session(SealedNode(data=("127.0.0.1", 4434))) as world:
        await trio.sleep(30)
        assert world.grants == []
        assert "this machine itself" in (world.session.problem or "")
        assert len(world.node.registers) > 3
        assert len(world.node.sessions) == 1, "the invite's devices are not used up"
        world.node.data = NODE
        await trio.sleep(11)
        assert world.session.state == "registered"


async def test_the_last_words_of_a_node_cannot_move_the_cursor(
    autojump_clock: MockClock,
) -> None:
    async with open_session(SealedNode(parting="\x1b[2Jgone\u202e\x9b")) as world:
        await trio.sleep(1)
        world.node.reachable = False
        world.node.hang_up()
        await trio.sleep(0.1)
        assert "[2Jgone" in (world.session.problem or "")
        assert (world.session.problem or "").isprintable()
        world.node.unreachable = "no answer: \x1b[2J\x9b"
        await trio.sleep(11)
        assert "no answer:" in (world.session.problem or "")
        assert (world.session.problem or "").isprintable()


async def test_a_silent_path_registers_again_but_not_too_often(autojump_clock: MockClock) -> None:
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        times = []
        for _ in range(1200):
            before = len(world.node.registers)
            world.session.path_is_silent()
            await trio.sleep(0.1)
            if len(world.node.registers) > before:
                times.append(trio.current_time())
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert times[0] == pytest.approx(RENEW_S, abs=0.3)
        assert gaps[:3] == pytest.approx([10, 20, 40], abs=0.5)
        assert all(asked.resume is not None for asked in world.node.registers[1:])
        await trio.sleep(100)
        for _ in range(10):
            world.session.path_is_silent()
            await trio.sleep(0.1)
        world.node.registers.clear()
        await trio.sleep(RENEW_S)
        world.session.path_is_silent()
        await trio.sleep(0.1)
        assert len(world.node.registers) == 1, "a later silence starts afresh"


async def test_a_connection_that_answers_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        (first,) = world.node.clients
        first.mute = True
        await trio.sleep(30)
        assert first.closed.is_set()
        assert [grant.resumed for grant in world.grants] == [False, True]


async def test_in_doubt_the_connection_is_asked_and_a_mute_one_replaced_within_two_seconds(
    autojump_clock: MockClock,
) -> None:
    """A node that was killed and is back: what comes to it is of a session nobody knows."""
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        (first,) = world.node.clients
        for _ in range(20):  # it answers: nothing changes, however long the path is silent
            world.session.path_is_doubtful()
            await trio.sleep(0.25)
        assert world.node.clients == [first]
        assert len(world.grants) == 1
        first.mute = True
        began = trio.current_time()
        while len(world.grants) == 1:
            world.session.path_is_doubtful()
            await trio.sleep(0.05)
        assert trio.current_time() - began < 2.0
        assert first.closed.is_set()
        assert world.session.state == "registered"


async def test_leaving_waits_a_moment_at_most(autojump_clock: MockClock) -> None:
    async with open_session(SealedNode()) as world:
        await trio.sleep(1)
        world.node.clients[0].mute = True
        began = trio.current_time()
        await world.session.goodbye()
        assert trio.current_time() - began <= 1.0
        assert await world.keeper.load() is None


async def test_a_refusal_at_the_start_ends_the_client_with_its_reason(
    autojump_clock: MockClock,
) -> None:
    net, node = FakeNet(), SealedNode(refuses=RefusalCode.REVOKED)
    settings = RedirectSettings(server=SERVER, node=HOME_NODE)
    with pytest.raises(Refused, match="has been revoked"):
        async with open_redirect(settings, bind=net.bind, connect=node.connect):
            pytest.fail("no game could have been carried")
    assert not net.ports


async def test_an_unreachable_node_is_no_error(autojump_clock: MockClock) -> None:
    net, node = FakeNet(), SealedNode(reachable=False)
    settings = RedirectSettings(server=SERVER, node=HOME_NODE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.serve, net.bind(NODE))
        async with open_redirect(settings, bind=net.bind, connect=node.connect) as redirect:
            game = net.bind(("127.0.0.1", 5000))
            game.send(b"early", redirect.local_addresses[0])
            await trio.sleep(30)
            figures = redirect.figures(trio.current_time())
            assert (figures.state, figures.control, figures.session) == (
                "starting", "connecting", None,
            )  # fmt: skip
            assert "no answer from 192.0.2.1:4433" in (figures.notice or "")
            assert redirect.table.drops["no-session"] == 1
            node.reachable = True
            await trio.sleep(12)
            game.send(b"hello", redirect.local_addresses[0])
            await trio.sleep(1)
            assert game.take() == [b"hello"]
            assert redirect.figures(trio.current_time()).state == "carrying"
        nursery.cancel_scope.cancel("test over")
