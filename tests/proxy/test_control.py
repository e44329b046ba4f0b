from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import Any

import attrs
import pytest
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.control import FrameReader, encode, frame
from lightspeed_protocol.control_messages import (
    ControlMessage,
    Disconnect,
    DisconnectReason,
    Peer,
    Peers,
    PeersRequest,
    Ping,
    Pong,
    Probe,
    ProbeMethod,
    ProbeResult,
    Register,
    RegisterAck,
    Rekey,
    ServerInfo,
)
from lightspeed_protocol.extensions import (
    Feature,
    RefusalCode,
    RegisterExtensions,
    decode_ack,
    decode_refusal,
    encode_register,
)
from lightspeed_protocol.invite import Invite as NodeLine
from lightspeed_proxy.config import Limits, Node, ProxyConfig, Security
from lightspeed_proxy.control import (
    INFO_S,
    LARGEST_REQUEST,
    MALFORMED,
    MOST_PEERS,
    TOO_OFTEN,
    UNEXPECTED,
    ControlApp,
    Link,
    known_peers,
)
from lightspeed_proxy.credentials import Invites
from lightspeed_proxy.refusals import refusal
from lightspeed_proxy.state import NodeState

from tests.support.nodes import TOKEN, FakeRelay, node_state

PROBE = Probe(0, 3, "198.51.100.1", 27015)


@attrs.define(eq=False)
class FakeLink:
    """Keeps what was sent, by stream, and what else was done."""

    address: tuple[str, int] = ("::ffff:192.0.2.1", 5000)
    sent: dict[int, bytes] = attrs.field(factory=dict)
    ended: list[int] = attrs.field(factory=list)
    resets: dict[int, int] = attrs.field(factory=dict)
    stopped: list[int] = attrs.field(factory=list)
    closes: list[int] = attrs.field(factory=list)

    @property
    def closed(self) -> bool:
        return bool(self.closes)

    def open_stream(self, *, unidirectional: bool = False) -> int:
        assert unidirectional
        return 3

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        assert stream not in self.ended
        self.sent[stream] = self.sent.get(stream, b"") + data
        if end:
            self.ended.append(stream)

    def reset(self, stream: int, code: int = 0) -> None:
        self.resets[stream] = code

    def stop_reading(self, stream: int, code: int = 0) -> None:
        self.stopped.append(stream)

    def close(self, code: int = 0, reason: str = "") -> None:
        self.closes.append(code)

    async def watch(self, task: Callable[[], Awaitable[object]]) -> None:
        await task()


@attrs.define(eq=False)
class FakeDesk:
    state: NodeState
    time: float = 100.0
    permitted: bool = True
    busy: bool = False
    probes: list[tuple[Probe, Callable[[ControlMessage], object]]] = attrs.field(factory=list)
    gone: list[ControlApp] = attrs.field(factory=list)

    def now(self) -> float:
        return self.time

    def permits(self, host: str, port: int) -> bool:
        return self.permitted

    def probe(self, link: Link, message: Probe, answer: Callable[[ControlMessage], object]) -> bool:
        if not self.busy:
            self.probes.append((message, answer))
        return not self.busy

    def left(self, app: ControlApp) -> None:
        self.gone.append(app)


@attrs.define(eq=False)
class World:
    """One connection to a node that knows one invite."""

    desk: FakeDesk
    link: FakeLink
    app: ControlApp
    streams: int = 0

    def feed(self, data: bytes, *, stream: int = 0, end: bool = True) -> None:
        self.app.handle(StreamDataReceived(data=data, end_stream=end, stream_id=stream))

    def send(self, message: ControlMessage) -> int:
        """On a stream of its own; its number."""
        stream, self.streams = self.streams * 4, self.streams + 1
        self.feed(frame(encode(message)), stream=stream)
        return stream

    def ask(self, message: ControlMessage) -> ControlMessage:
        """The one answer."""
        stream = self.send(message)
        assert stream in self.link.ended, f"reset with {self.link.resets}"
        (answer,) = FrameReader().feed(self.link.sent[stream])
        assert not isinstance(answer, Exception)
        return answer

    def register(self, **extensions: Any) -> RegisterAck:
        ext = RegisterExtensions(**{"credential": TOKEN, "versions": (8,), **extensions})
        answer = self.ask(Register(1, 0, encode_register(ext)))
        assert isinstance(answer, RegisterAck), answer
        return answer

    def pushed(self) -> list[ControlMessage]:
        """What the node has said by itself since the last call."""
        found = FrameReader().feed(self.link.sent.pop(3, b""))
        return [message for message in found if not isinstance(message, Exception)]

    @property
    def counts(self) -> dict[str, int]:
        counters = attrs.asdict(self.desk.state.control)
        return {name: n for name, n in counters.items() if n}


def world(config: ProxyConfig | None = None, *, dev: bool = False, sessions: int = 0) -> World:
    config = ProxyConfig() if config is None else config
    relay = FakeRelay(config=config, dev=dev, sessions=sessions)
    desk = FakeDesk(node_state(config, relay=relay, dev=dev))
    link = FakeLink()
    return World(desk, link, ControlApp(link, desk))


def refusal_of(message: ControlMessage) -> Any:
    assert isinstance(message, Disconnect)
    return decode_refusal(message.extensions).code


# -- one request, one answer ---------------------------------------------------------------


def test_a_ping_is_answered_with_its_own_time_and_the_nodes() -> None:
    answer = world().ask(Ping(77))
    assert isinstance(answer, Pong)
    assert answer.client_timestamp_us == 77
    assert answer.server_timestamp_us > 1_700_000_000_000_000  # unix time


@pytest.mark.parametrize(("sessions", "load"), [(0, 0), (25, 50), (50, 100), (60, 100)])
def test_server_info_says_how_busy_the_node_is(sessions: int, load: int) -> None:
    config = ProxyConfig(limits=Limits(max_clients=50))
    assert world(config, sessions=sessions).ask(ServerInfo(0, 0, 0)) == ServerInfo(
        load, sessions, 50
    )


def test_a_register_is_answered_with_an_ack_and_the_session_is_this_connections() -> None:
    here = world()
    ack = here.register(client="9.9")
    member = here.app.member
    assert member is not None
    assert member.lease.session_id == ack.session_id
    assert member.host == "192.0.2.1"  # as the data plane writes it
    assert decode_ack(ack.extensions).version == 8


def test_a_refused_register_is_answered_and_may_be_tried_again() -> None:
    here = world()
    answer = here.ask(Register(8, 0, encode_register(RegisterExtensions(versions=(8,)))))
    assert refusal_of(answer) == RefusalCode.NO_CREDENTIAL
    assert here.app.member is None
    assert not here.link.closed
    here.register()


def test_who_guesses_too_often_loses_the_connection() -> None:
    here = world()
    wrong = Register(8, 0, encode_register(RegisterExtensions(credential=bytes(32), versions=(8,))))
    codes = [refusal_of(here.ask(wrong)) for _ in range(11)]
    assert codes[-2:] == [RefusalCode.UNKNOWN_TOKEN, RefusalCode.TOO_OFTEN]
    assert not here.link.closed  # the answer has to get out
    here.app.tick(here.desk.time)
    assert here.link.closes == [DisconnectReason.RATE_LIMITED]


def test_a_disconnect_is_echoed_and_ends_the_session() -> None:
    here = world()
    here.register(features=(Feature.NODE_STREAM,))
    here.pushed()
    assert here.ask(Disconnect(DisconnectReason.TIMEOUT)) == Disconnect(DisconnectReason.TIMEOUT)
    assert here.desk.state.admission.members == {}
    assert here.app.member is None
    assert here.pushed() == []
    here.desk.time += 1e6
    here.app.tick(here.desk.time)
    assert [type(message) for message in here.pushed()] == [ServerInfo]  # no key for nobody
    assert here.ask(Disconnect(0)) == Disconnect(0)  # without a session: echoed all the same


def test_peers_are_told_to_players() -> None:
    pin = bytes(range(32))
    lines = tuple(
        str(NodeLine(host, 4433, pin, name=name))
        for host, name in (("node2.example.com", "two"), ("2001:db8::2", ""))
    )
    here = world(ProxyConfig(node=Node(peers=lines)))
    assert refusal_of(here.ask(PeersRequest())) == RefusalCode.NO_CREDENTIAL
    here.register()
    assert here.ask(PeersRequest()) == Peers(
        (
            Peer("two", "", "node2.example.com", 4433, pin),
            Peer("2001:db8::2", "", "2001:db8::2", 4433, pin),
        )
    )


def test_an_open_node_tells_its_peers_to_anybody() -> None:
    assert world(dev=True).ask(PeersRequest()) == Peers()


def test_peers_fit_one_frame_whatever_the_settings_name() -> None:
    line = str(NodeLine(".".join(["x" * 60] * 4), 4433, bytes(32), name="n" * 64))
    peers = known_peers((line,) * 500)
    assert len(peers) == MOST_PEERS
    assert frame(encode(Peers(peers)))


# -- keys ------------------------------------------------------------------------------------


def test_a_client_may_ask_for_a_new_key() -> None:
    here = world()
    assert refusal_of(here.ask(Rekey())) == RefusalCode.NO_CREDENTIAL
    here.register()
    answer = here.ask(Rekey())
    assert isinstance(answer, Rekey)
    assert answer.epoch == 1
    assert isinstance(here.desk.state.relay, FakeRelay)
    assert here.desk.state.relay.told == [f"rekey {answer.key.hex()}"]


def test_a_version_1_session_has_no_key() -> None:
    here = world(dev=True)
    here.register(versions=(1,))
    assert refusal_of(here.ask(Rekey())) == RefusalCode.NO_CREDENTIAL


def test_keys_are_pushed_in_time_and_not_again_before_they_are_used() -> None:
    here = world(ProxyConfig(security=Security(rekey_s=10.0)))
    here.register(features=(Feature.NODE_STREAM,))
    here.pushed()
    relay = here.desk.state.relay
    assert isinstance(relay, FakeRelay)
    epochs = []
    for unused in (False, True, False):
        relay.unused = unused
        here.app.tick(here.desk.time + 9.9)
        assert here.pushed() == []
        here.desk.time += 10.0
        here.app.tick(here.desk.time)
        epochs.append([message.epoch for message in here.pushed() if isinstance(message, Rekey)])
    assert epochs == [[1], [], [2]]


def test_a_key_that_was_asked_for_puts_off_the_next_one() -> None:
    here = world(ProxyConfig(security=Security(rekey_s=10.0)))
    here.register(features=(Feature.NODE_STREAM,))
    here.desk.time += 9.0
    here.ask(Rekey())
    here.pushed()
    here.app.tick(here.desk.time + 9.9)
    assert here.pushed() == []


# -- the node's own stream -------------------------------------------------------------------


def test_a_client_that_listens_is_told_how_busy_the_node_is_from_time_to_time() -> None:
    here = world(sessions=1)
    here.register(features=(Feature.NODE_STREAM,))
    assert here.pushed() == [ServerInfo(1, 1, 100)]
    here.app.tick(here.desk.time + INFO_S - 0.1)
    assert here.pushed() == []
    here.app.tick(here.desk.time + INFO_S)
    assert here.pushed() == [ServerInfo(1, 1, 100)]


def test_one_that_does_not_listen_gets_no_stream() -> None:
    here = world()
    here.register()
    here.app.tick(here.desk.time + 1e6)
    assert 3 not in here.link.sent
    assert not here.app.tell(ServerInfo(0, 0, 0))


def test_the_end_of_a_session_is_told_or_shown() -> None:
    for features, closes in (((Feature.NODE_STREAM,), 0), ((), 1)):
        here = world()
        here.register(features=features)
        here.pushed()
        member = here.app.member
        assert member is not None
        here.desk.state.admission.end(member, "revoked", refusal(RefusalCode.SESSION_ENDED))
        assert len(here.link.closes) == closes
        assert [refusal_of(message) for message in here.pushed()] == [RefusalCode.SESSION_ENDED] * (
            1 - closes
        )
        assert here.app.member is None


def test_a_lost_connection_leaves_the_session_waiting() -> None:
    here = world()
    here.register()
    member = here.app.member
    assert member is not None
    here.app.closed(0, "")
    assert here.desk.gone == [here.app]
    assert (member.connection, member.left_at) == (None, 100.0)
    assert list(here.desk.state.admission.members.values()) == [member]


# -- probes ----------------------------------------------------------------------------------


def test_a_probe_is_for_players_only() -> None:
    here = world()
    assert refusal_of(here.ask(PROBE)) == RefusalCode.NO_CREDENTIAL
    assert here.desk.probes == []


def test_a_probe_is_answered_when_it_has_been_measured() -> None:
    here = world()
    here.register()
    stream = here.send(PROBE)
    assert stream not in here.link.sent
    ((message, answer),) = here.desk.probes
    assert message == PROBE
    result = ProbeResult(ProbeMethod.ICMP, 3, 3, 10, 20)
    answer(result)
    assert FrameReader().feed(here.link.sent[stream]) == [result]
    assert stream in here.link.ended


@pytest.mark.parametrize("own", [True, False])
def test_nothing_is_sent_where_the_player_may_not_play(own: bool) -> None:
    here = world()
    invites = here.desk.state.admission.invites
    if own:  # the invite's own list
        nets = (ip_network("203.0.113.0/24"),)
        (invite,) = invites
        here.desk.state.admission.invites = Invites((attrs.evolve(invite, destinations=nets),))
    here.desk.permitted = own
    here.register()
    assert here.ask(PROBE) == ProbeResult(ProbeMethod.NOTHING, 0, 0, 0, 0)
    assert here.desk.probes == []


def test_probes_are_few_on_one_connection_and_on_the_node() -> None:
    here = world()
    here.register()
    here.send(PROBE)
    here.send(PROBE)
    assert refusal_of(here.ask(PROBE)) == RefusalCode.TOO_OFTEN
    here.desk.time += 1.0
    here.desk.busy = True
    assert refusal_of(here.ask(PROBE)) == RefusalCode.TOO_OFTEN
    assert len(here.desk.probes) == 2


# -- what is no request ------------------------------------------------------------------------


def test_a_request_may_come_byte_by_byte_and_is_answered_once_it_is_there() -> None:
    here = world()
    data = frame(encode(Ping(5)))
    for at in range(len(data) - 1):
        here.feed(data[at : at + 1], end=False)
        assert here.link.sent == {}
    here.feed(data[-1:], end=False)
    assert here.link.ended == [0]
    here.feed(b"and more", end=True)
    assert here.counts == {"requests": 1}


@pytest.mark.parametrize("cut", range(len(frame(encode(Ping(5))))))
def test_a_cut_request_costs_its_stream(cut: int) -> None:
    here = world()
    here.feed(frame(encode(Ping(5)))[:cut])
    assert here.link.resets == {0: MALFORMED}
    assert here.counts == {"malformed": 1}
    assert here.ask(Ping(1)) != Ping(1)  # the connection lives


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0",
        b"\0\1\x7f",
        b"\0\1\x01",
        b"\xff\xff",
        (LARGEST_REQUEST + 1).to_bytes(2, "big"),
        frame(encode(Register(1, 0, b"\x02\x00\x01"))),
        frame(encode(Register(1, 0, b"\x01\x00\x01x"))),
    ],
)
def test_a_stream_without_a_message_is_reset_and_counted(data: bytes) -> None:
    here = world()
    here.feed(data, end=False)
    assert here.link.resets == {0: MALFORMED}
    assert here.counts["malformed"] == 1


@pytest.mark.parametrize(
    "message",
    [
        Pong(1, 2),
        RegisterAck(1, 0, "n", "r"),
        ProbeResult(0, 0, 0, 0, 0),
        Peers(),
    ],
)
def test_answers_are_not_for_clients_to_say(message: ControlMessage) -> None:
    here = world()
    stream = here.send(message)
    assert here.link.resets == {stream: UNEXPECTED}
    assert here.counts == {"requests": 1, "unexpected": 1}


def test_streams_that_cannot_be_answered_are_stopped() -> None:
    here = world()
    here.feed(frame(encode(Ping(5))), stream=2)
    assert (here.link.stopped, here.link.sent) == ([2], {})
    assert here.counts == {"malformed": 1}


def test_a_connection_may_ask_so_often() -> None:
    here = world()
    for _ in range(20):
        here.ask(Ping(1))
    stream = here.send(Ping(1))
    assert here.link.resets == {stream: TOO_OFTEN}
    assert here.counts == {"requests": 20, "too_often": 1}
    here.desk.time += 1.0
    here.ask(Ping(1))


def test_a_stream_given_up_half_way_is_given_up_here_too() -> None:
    here = world()
    here.feed(frame(encode(Ping(5)))[:4], stream=0, end=False)
    here.feed(frame(encode(Ping(5))), stream=4, end=False)
    for stream in (0, 4, 8):
        here.app.handle(StreamReset(error_code=0, stream_id=stream))
    here.app.handle(StopSendingReceived(error_code=0, stream_id=4))
    assert here.link.resets == {0: 0}
    assert here.counts == {"requests": 1}


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=60), st.booleans()), max_size=30))
def test_no_bytes_do_any_harm(chunks: list[tuple[int, bytes, bool]]) -> None:
    here = world()
    for number, data, end in chunks:
        here.feed(data, stream=4 * number, end=end)
    assert not here.link.closed
    here.streams = 9
    here.desk.time += 10.0
    assert isinstance(here.ask(Ping(1)), Pong)


def test_messages_with_a_flipped_bit_do_no_harm_either() -> None:
    rng = random.Random(4)
    ext = encode_register(RegisterExtensions(credential=TOKEN, versions=(8, 1), features=(1,)))
    messages: list[ControlMessage] = [
        Register(1, 0, ext),
        PROBE,
        Rekey(),
        Disconnect(1),
        PeersRequest(),
    ]
    for _ in range(500):
        here = world(dev=True)
        data = bytearray(frame(encode(rng.choice(messages))))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        here.feed(bytes(data))
        assert here.link.sent or here.link.resets or here.desk.probes
