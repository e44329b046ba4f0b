from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import attrs
import pytest
from lightspeed_protocol.control_messages import Disconnect, Register, Rekey
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.extensions import (
    AckExtensions,
    Capability,
    RefusalCode,
    RegisterExtensions,
    decode_ack,
    decode_refusal,
    encode_register,
)
from lightspeed_protocol.runtime.udp import LARGEST_BYTES
from lightspeed_proxy.admission import (
    GRANT_S,
    LARGEST_DATAGRAM,
    MORE_THAN_DEVICES,
    MOST_TOKENS,
    RESUME_BURST,
    RESUME_S,
    WRONG_PER_S,
    Admission,
    Granted,
    Member,
    Told,
)
from lightspeed_proxy.config import Limits, Node, ProxyConfig, Security
from lightspeed_proxy.credentials import Invite, Invites, hash_token
from lightspeed_proxy.refusals import RefusedRegistration

from tests.support.nodes import INVITE, TOKEN, FakePlane, counting_bytes

HOST = "192.0.2.1"
OTHER_TOKEN = bytes(32)
OTHER = attrs.evolve(INVITE, name="bob", token_sha256=hash_token(OTHER_TOKEN))


@attrs.define(eq=False)
class FakeConnection:
    member: Member | None = None
    heard: list[Disconnect] = attrs.field(factory=list)

    def ended(self, message: Disconnect) -> None:
        self.heard.append(message)

    @property
    def codes(self) -> list[Any]:
        return [decode_refusal(message.extensions).code for message in self.heard]


@attrs.define(eq=False)
class Desk:
    """An admission with a fake data plane, and short words to ask it."""

    admission: Admission
    plane: FakePlane
    now: float = 100.0
    unix_now: float = 1_000_000.0

    def ask(
        self, connection: FakeConnection | None = None, host: str = HOST, **extensions: Any
    ) -> Granted | RefusedRegistration:
        ext = RegisterExtensions(**{"credential": TOKEN, "versions": (8,), **extensions})
        message = Register(1, 2, encode_register(ext))
        connection = FakeConnection() if connection is None else connection
        return self.admission.register(message, host, connection, self.now, self.unix_now)

    def granted(self, connection: FakeConnection | None = None, **words: Any) -> AckExtensions:
        answer = self.ask(connection, **words)
        assert isinstance(answer, Granted), answer
        return decode_ack(answer.ack.extensions)

    def refused(self, connection: FakeConnection | None = None, **words: Any) -> RefusalCode:
        answer = self.ask(connection, **words)
        assert isinstance(answer, RefusedRegistration)
        return answer.code

    @property
    def results(self) -> dict[str, int]:
        return {word: n for word, n in self.admission.counters.results.items() if n}

    @property
    def ended(self) -> dict[str, int]:
        return {word: n for word, n in self.admission.counters.ended.items() if n}


def desk(
    *invites: Invite,
    dev: bool = False,
    limits: dict[str, Any] | None = None,
    legacy: str = "off",
    told: Told | None = None,
    room: int = 1000,
) -> Desk:
    plane = FakePlane(room=room)
    config = ProxyConfig(
        node=Node(node_id="n1", region="here"),
        limits=Limits(**(limits or {})),
        security=Security(legacy=legacy),
    )
    admission = Admission(
        config=config,
        plane=plane,
        invites=Invites(invites or (INVITE, OTHER)),
        random_bytes=counting_bytes(),
        dev=dev,
        told=told or Told(),
    )
    return Desk(admission, plane)


def test_an_invite_opens_a_sealed_session() -> None:
    told = Told(
        data_port=4434,
        data_host="node.example.com",
        visible="198.51.100.7",
        capabilities=(Capability.PROBE, Capability.REKEY),
    )
    world = desk(told=told)
    connection = FakeConnection()
    answer = world.ask(connection, fec=(4, 2, 1, 9, 2), client="1.2", features=(1,))
    assert isinstance(answer, Granted)
    ack, ext = answer.ack, decode_ack(answer.ack.extensions)
    session = world.plane.granted[ack.session_id]
    assert (ack.session_token, ack.node_id, ack.region) == (0, "n1", "here")
    assert session.lease is not None
    assert (session.lease.invite, session.lease.key, session.lease.host) == ("ada", ext.key, HOST)
    assert (ext.version, ext.fec, ext.resumed) == (8, (4, 2, 1), False)
    assert (ext.data_port, ext.data_host, ext.visible) == (4434, "node.example.com", "198.51.100.7")
    assert ext.capabilities == (2, 4)
    assert ext.limits is not None
    assert attrs.astuple(ext.limits) == (1000, 1_000_000, LARGEST_BYTES)
    assert ext.resume_s == 120
    assert answer.features == (1,)
    assert connection.member is answer.member
    assert (answer.member.client, answer.member.host) == ("1.2", HOST)
    assert world.results == {"granted": 1}


def test_the_largest_datagram_is_what_the_socket_reads() -> None:
    assert LARGEST_DATAGRAM == LARGEST_BYTES


def test_keys_secrets_and_ids_are_never_given_twice() -> None:
    world = desk(limits={"max_sessions_per_invite": 50})
    acks = [world.granted() for _ in range(50)]
    assert len({ack.key for ack in acks} | {ack.resume for ack in acks}) == 100
    assert len(world.plane.granted) == 50


def test_ids_in_use_and_zero_are_not_given() -> None:
    world = desk()
    ids = iter([0, 5, 5, 6])
    world.admission.random_bytes = lambda size: (next(ids) if size == 4 else 1).to_bytes(
        size, "big"
    )
    first, second = world.ask(), world.ask(credential=OTHER_TOKEN)
    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    assert (first.ack.session_id, second.ack.session_id) == (5, 6)


@pytest.mark.parametrize(
    ("invite", "ask", "code"),
    [
        (INVITE, {"credential": None}, RefusalCode.NO_CREDENTIAL),
        (INVITE, {"credential": bytes(32)}, RefusalCode.UNKNOWN_TOKEN),
        (attrs.evolve(INVITE, expires=1_000_000), {}, RefusalCode.EXPIRED),
        (attrs.evolve(INVITE, revoked=5), {}, RefusalCode.REVOKED),
        (INVITE, {"versions": (1, 2)}, RefusalCode.NO_COMMON_VERSION),
        (INVITE, {"versions": (9,)}, RefusalCode.NO_COMMON_VERSION),
        (INVITE, {"versions": ()}, RefusalCode.NO_COMMON_VERSION),  # the original's, version 1
    ],
)
def test_what_is_wrong_is_refused_and_counted(
    invite: Invite, ask: dict[str, Any], code: RefusalCode
) -> None:
    world = desk(invite)
    assert world.refused(**ask) == code
    assert world.plane.granted == {}
    assert world.admission.members == {}
    assert list(world.results.values()) == [1]
    assert world.results.keys() == {code.name.lower().replace("_", "-")}


def test_an_invite_is_good_until_its_second_has_come() -> None:
    world = desk(attrs.evolve(INVITE, expires=1_000_000))
    world.unix_now = 999_999.9
    assert world.granted().version == 8


def test_a_stopping_node_takes_nobody() -> None:
    world = desk()
    world.admission.draining = True
    assert world.refused() == RefusalCode.DRAINING
    assert world.refused(credential=bytes(32)) == RefusalCode.DRAINING


def test_extensions_that_cannot_be_read_are_the_callers_to_answer() -> None:
    world = desk()
    with pytest.raises(WireError, match="tlv"):
        world.admission.register(Register(1, 0, b"\x01\x00\x01x"), HOST, FakeConnection(), 0.0, 0.0)
    assert world.results == {}


def test_an_invite_allows_so_many_devices_and_no_more() -> None:
    world = desk(limits={"max_sessions_per_invite": 2})
    world.granted()
    world.granted()
    assert world.refused() == RefusalCode.TOO_MANY_SESSIONS
    assert world.granted(credential=OTHER_TOKEN).version == 8


def test_an_invites_own_number_of_devices_counts() -> None:
    world = desk(attrs.evolve(INVITE, max_sessions=1), limits={"max_sessions_per_invite": 9})
    world.granted()
    assert world.refused() == RefusalCode.TOO_MANY_SESSIONS


def test_a_resumed_session_is_not_one_more() -> None:
    world = desk(attrs.evolve(INVITE, max_sessions=1))
    first = world.granted()
    assert world.granted(resume=first.resume).resumed
    assert world.results == {"granted": 1, "resumed": 1}


@pytest.mark.parametrize("room", [1, 1000])
def test_a_full_node_says_so(room: int) -> None:
    world = desk(room=room, limits={"max_clients": 1})
    world.granted()
    assert world.refused(credential=OTHER_TOKEN) == RefusalCode.NODE_FULL
    assert len(world.admission.members) == 1


def test_an_invites_own_limits_come_first() -> None:
    nets = (ip_network("198.51.100.0/24"),)
    world = desk(attrs.evolve(INVITE, max_pps=50, destinations=nets))
    ack = world.granted()
    (session,) = world.plane.granted.values()
    assert session.lease is not None
    assert session.lease.rates is not None
    rates = session.lease.rates
    assert (rates.packets_per_s, rates.bytes_per_s) == (50, 1_000_000)
    assert session.lease.destinations == nets
    assert ack.limits is not None
    assert (ack.limits.packets_per_s, ack.limits.bytes_per_s) == (50, 1_000_000)
    config = attrs.evolve(world.admission.config, limits=Limits(max_bps_per_client=7))
    world.admission.apply(config, Told())
    assert (rates.packets_per_s, rates.bytes_per_s) == (50, 7)


# -- wrong tokens ------------------------------------------------------------------------


def test_wrong_tokens_are_paced_by_host_and_a_right_one_still_passes() -> None:
    world = desk()
    codes = [world.refused(credential=bytes(31) + bytes((n,))) for n in range(1, 16)]
    assert codes[:WRONG_PER_S] == [RefusalCode.UNKNOWN_TOKEN] * WRONG_PER_S
    assert codes[WRONG_PER_S:] == [RefusalCode.TOO_OFTEN] * 5
    assert world.refused(credential=b"x" * 32, host="192.0.2.2") == RefusalCode.UNKNOWN_TOKEN
    assert world.granted().version == 8
    world.now += 1.0
    assert world.refused(credential=b"x" * 32) == RefusalCode.UNKNOWN_TOKEN


def test_only_wrong_tokens_use_up_the_pace() -> None:
    world = desk(attrs.evolve(INVITE, revoked=1))
    for _ in range(WRONG_PER_S * 2):
        assert world.refused() == RefusalCode.REVOKED
    assert world.refused(credential=bytes(32)) == RefusalCode.UNKNOWN_TOKEN


# -- registering again and again -------------------------------------------------------------


def test_registering_again_goes_on_with_the_limits_used_up() -> None:
    world = desk(room=1)  # the heir takes the place of the one before
    connection = FakeConnection()
    world.granted(connection)
    (first,) = world.plane.granted.values()
    first.bytes_up = 77
    world.granted(connection)
    (second,) = world.plane.granted.values()
    assert second is not first
    assert (second.up, second.down, second.opened) == (first.up, first.down, first.opened)
    assert second.bytes_up == 77
    assert world.ended == {"replaced": 1}
    assert world.admission._devices == {INVITE.token_sha256: 1}
    assert connection.member is not None
    assert connection.member.session is second


def test_a_reload_reaches_limits_that_were_inherited() -> None:
    world = desk()
    connection = FakeConnection()
    world.granted(connection)
    (first,) = world.plane.granted.values()
    world.granted(connection)
    (second,) = world.plane.granted.values()
    assert first.lease is not None
    assert second.lease is not None
    assert second.lease.rates is first.lease.rates  # what the inherited meters read
    config = attrs.evolve(world.admission.config, limits=Limits(max_pps_per_client=7))
    world.admission.apply(config, Told())
    assert second.lease.rates is not None
    assert second.lease.rates.packets_per_s == 7


def test_another_invites_session_inherits_nothing() -> None:
    world = desk()
    connection = FakeConnection()
    world.granted(connection)
    (first,) = world.plane.granted.values()
    world.granted(connection, credential=OTHER_TOKEN)
    (second,) = world.plane.granted.values()
    assert second.up is not first.up
    assert world.ended == {"replaced": 1}


def test_a_refused_register_leaves_the_session_at_hand() -> None:
    world = desk(attrs.evolve(INVITE, max_sessions=1))
    connection = FakeConnection()
    answers = [world.ask(connection) for _ in range(MORE_THAN_DEVICES + 3)]
    assert isinstance(answers[-2], RefusedRegistration)
    assert len(world.plane.granted) == 1
    assert connection.member is not None


def test_new_sessions_are_paced_by_invite() -> None:
    world = desk(attrs.evolve(INVITE, max_sessions=3), OTHER)
    connection = FakeConnection()
    burst = 3 + MORE_THAN_DEVICES
    for _ in range(burst):
        world.granted(connection)
    answer = world.ask(connection)
    assert isinstance(answer, RefusedRegistration)
    assert answer.code == RefusalCode.TOO_OFTEN
    assert "too many sessions" in answer.text
    assert answer.disconnect.reason == 3
    assert world.granted(credential=OTHER_TOKEN).version == 8
    world.now += GRANT_S
    world.granted(connection)
    assert world.refused(connection) == RefusalCode.TOO_OFTEN
    assert world.results["too-often"] == 2


def test_what_was_paced_is_forgotten_with_its_invite() -> None:
    world = desk()
    for number in range(40):
        token = number.to_bytes(32, "big")
        one = attrs.evolve(INVITE, name=str(number), token_sha256=hash_token(token))
        world.admission.invites = Invites((one,))
        world.granted(credential=token)
        world.now += GRANT_S
    assert len(world.admission._grants) <= 3


def test_a_session_is_resumed_at_a_pace_and_counts_as_no_new_one() -> None:
    world = desk()
    secret = world.granted().resume
    for _ in range(RESUME_BURST):
        assert world.granted(resume=secret).resumed
    told = list(world.plane.told)
    answer = world.ask(resume=secret)
    assert isinstance(answer, RefusedRegistration)
    assert (answer.code, "taken up too often" in answer.text) == (RefusalCode.TOO_OFTEN, True)
    assert world.plane.told == told
    assert not world.granted().resumed
    world.now += RESUME_S
    assert world.granted(resume=secret).resumed
    for _ in range(100):
        world.now += RESUME_S
        assert world.granted(resume=secret).resumed


def test_the_data_plane_learns_where_a_client_registered() -> None:
    world = desk()
    first = world.granted()
    again = world.granted(resume=first.resume, host="198.51.100.4")
    assert again.key is not None
    assert world.plane.told == [f"renew {again.key.hex()} 198.51.100.4"]
    (session,) = world.plane.granted.values()
    assert session.lease is not None
    assert session.lease.host == HOST


# -- an open node ------------------------------------------------------------------------


def test_an_open_node_takes_anybody() -> None:
    world = desk(attrs.evolve(INVITE, revoked=1), dev=True)
    for credential in (None, bytes(32), TOKEN):
        assert world.granted(credential=credential).version == 8
    assert {member.invite for member in world.admission.members.values()} == {None}
    assert world.granted(versions=(2, 8)).version == 2


def test_an_open_node_knows_its_invites_all_the_same() -> None:
    world = desk(attrs.evolve(INVITE, max_sessions=1), dev=True)
    world.granted()
    assert world.refused() == RefusalCode.TOO_MANY_SESSIONS


# -- versions 1 and 2 --------------------------------------------------------------------


def test_versions_1_and_2_are_bound_to_host_and_token() -> None:
    world = desk(legacy="registered", limits={"max_sessions_per_invite": 500})
    for _ in range(3):
        world.granted(versions=(1,))
    leases = [session.lease for session in world.plane.granted.values()]
    assert len(leases) == 3
    assert all(lease is not None and lease.host == HOST and lease.key is None for lease in leases)
    tokens = {lease.token for lease in leases if lease is not None}
    assert len(tokens) == 3
    assert 0 not in tokens
    ack = world.granted(versions=(2,))
    assert (ack.version, ack.key, ack.resume, ack.resume_s, ack.fec) == (2, None, None, None, ())


def test_a_host_has_255_tokens() -> None:
    world = desk(legacy="registered", limits={"max_sessions_per_invite": 500, "max_clients": 500})
    for _ in range(MOST_TOKENS):
        world.granted(versions=(1,))
    assert world.refused(versions=(1,)) == RefusalCode.NODE_FULL
    assert world.granted(versions=(1,), host="192.0.2.9").version == 1
    assert world.granted().version == 8


def test_the_first_version_that_both_speak_is_taken() -> None:
    world = desk(legacy="registered")
    assert world.granted(versions=(77, 2, 8)).version == 2
    assert world.granted(versions=(8, 1)).version == 8


def test_a_client_that_adds_nothing_is_answered_without_additions() -> None:
    world = desk(dev=True)
    answer = world.admission.register(Register(1, 0), HOST, FakeConnection(), 0.0, 0.0)
    assert isinstance(answer, Granted)
    assert answer.ack.extensions == b""
    assert 1 <= answer.ack.session_token <= 255


def test_a_version_1_session_is_not_resumed() -> None:
    world = desk(legacy="registered")
    first = world.granted()
    assert not world.granted(versions=(1,), resume=first.resume).resumed


# -- resume ------------------------------------------------------------------------------


def test_a_client_that_comes_back_finds_its_session_under_a_new_key() -> None:
    world = desk()
    connection, later = FakeConnection(), FakeConnection()
    first = world.granted(connection)
    (session_id,) = world.plane.granted
    world.admission.lost(connection, world.now)
    world.now += 60.0
    second = world.granted(later, resume=first.resume)
    assert second.resumed
    assert second.key not in (None, first.key)
    assert second.resume == first.resume  # if this answer is lost, it comes back with the same
    assert second.key is not None
    assert world.plane.told == [f"renew {second.key.hex()} {HOST}"]
    assert list(world.plane.granted) == [session_id]
    assert later.member is world.admission.members[session_id]
    assert connection.heard == []


def test_a_session_that_is_resumed_elsewhere_is_taken_from_its_old_connection() -> None:
    world = desk()
    old, new = FakeConnection(), FakeConnection()
    first = world.granted(old)
    assert world.granted(new, resume=first.resume).resumed
    assert old.codes == [RefusalCode.SESSION_ENDED]
    assert old.member is None
    world.admission.lost(old, world.now)  # its end changes nothing for the new one
    (member,) = world.admission.members.values()
    assert member.connection is new


def test_the_same_connection_resumes_without_being_told_off() -> None:
    world = desk()
    connection = FakeConnection()
    first = world.granted(connection)
    assert world.granted(connection, resume=first.resume).resumed
    assert connection.heard == []
    assert connection.member is not None


def test_registering_again_without_the_secret_replaces_the_session() -> None:
    world = desk(attrs.evolve(INVITE, max_sessions=1), limits={"max_clients": 1})
    connection = FakeConnection()
    world.granted(connection)
    assert not world.granted(connection).resumed
    assert len(world.plane.granted) == len(world.admission.members) == 1
    assert world.ended == {"replaced": 1}
    assert connection.heard == []


def test_resuming_another_session_gives_up_the_one_at_hand() -> None:
    world = desk()
    away, here = FakeConnection(), FakeConnection()
    first = world.granted(away)
    world.admission.lost(away, world.now)
    world.granted(here)
    assert world.granted(here, resume=first.resume).resumed
    assert world.ended == {"replaced": 1}
    assert len(world.admission.members) == 1
    assert here.member is not None


@pytest.mark.parametrize("secret", [bytes(16), b"\xff" * 16])
def test_a_wrong_secret_opens_a_new_session(secret: bytes) -> None:
    world = desk()
    world.granted()
    assert not world.granted(resume=secret).resumed
    assert len(world.plane.granted) == 2


def test_a_secret_is_good_with_its_own_invite_only() -> None:
    world = desk()
    first = world.granted()
    assert not world.granted(resume=first.resume, credential=OTHER_TOKEN).resumed
    later = attrs.evolve(INVITE, token_sha256=hash_token(b"n" * 32))  # of the same name
    world.admission.invites = Invites((INVITE, attrs.evolve(later, name="ada2")))
    assert not world.granted(resume=first.resume, credential=b"n" * 32).resumed


def test_a_secret_of_a_revoked_invite_is_no_good() -> None:
    world = desk()
    first = world.granted()
    world.admission.invites = Invites((attrs.evolve(INVITE, revoked=1),))
    assert world.refused(resume=first.resume) == RefusalCode.REVOKED


def test_a_session_waits_for_its_client_and_then_ends() -> None:
    world = desk(limits={"resume_s": 10.0})
    connection = FakeConnection()
    first = world.granted(connection)
    (member,) = world.admission.members.values()
    world.now += 1000.0
    world.admission.check(member, world.now, world.unix_now)  # connected, silent on the data port
    assert world.admission.members
    world.admission.lost(connection, world.now)
    member.session.last_heard = world.now + 5.0  # it plays on
    world.admission.check(member, world.now + 14.9, world.unix_now)
    assert world.admission.members
    world.now += 15.0
    assert not world.granted(resume=first.resume).resumed  # nobody has looked since
    assert world.ended == {"lost": 1}
    world.admission.check(member, world.now, world.unix_now)
    assert world.ended == {"lost": 1}


def test_a_session_nobody_comes_back_for_ends() -> None:
    world = desk(limits={"resume_s": 10.0})
    connection = FakeConnection()
    world.granted(connection)
    (member,) = world.admission.members.values()
    world.admission.lost(connection, world.now)
    world.admission.check(member, world.now + 10.0, world.unix_now)
    assert world.plane.granted == {}
    assert world.ended == {"lost": 1}


def test_a_version_1_client_that_plays_keeps_its_session() -> None:
    world = desk(legacy="registered", limits={"resume_s": 10.0})
    connection = FakeConnection()
    world.granted(connection, versions=(1,))
    (member,) = world.admission.members.values()
    world.admission.lost(connection, world.now)
    port = attrs.evolve(member.session, last_heard=world.now + 50.0)
    member.session.ports.append(port)
    world.admission.check(member, world.now + 59.9, world.unix_now)
    assert world.admission.members
    world.admission.check(member, world.now + 60.0, world.unix_now)
    assert world.ended == {"lost": 1}


# -- ends --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now_it_is", "why", "words"),
    [
        ((), "revoked", "revoked"),
        ((attrs.evolve(INVITE, revoked=1),), "revoked", "revoked"),
        ((attrs.evolve(INVITE, token_sha256=b"o" * 32),), "revoked", "revoked"),
        ((attrs.evolve(INVITE, expires=1_000_000),), "expired", "expired"),
    ],
)
def test_a_revoked_or_expired_invite_ends_what_runs(
    now_it_is: tuple[Invite, ...], why: str, words: str
) -> None:
    world = desk()
    connection, away, other = FakeConnection(), FakeConnection(), FakeConnection()
    world.granted(connection)
    world.granted(away)
    world.granted(other, credential=OTHER_TOKEN)
    world.admission.lost(away, world.now)
    world.admission.invites = Invites((*now_it_is, OTHER))
    for member in tuple(world.admission.members.values()):
        world.admission.check(member, world.now, world.unix_now)
    assert connection.codes == [RefusalCode.SESSION_ENDED]
    assert words in decode_refusal(connection.heard[0].extensions).text
    assert world.ended == {why: 2}
    assert other.heard == []
    assert [member.connection for member in world.admission.members.values()] == [other]
    assert len(world.plane.granted) == 1


def test_a_session_that_the_data_plane_ends_is_forgotten() -> None:
    world = desk()
    fin, idle = FakeConnection(), FakeConnection()
    secret = world.granted(fin).resume
    world.granted(idle)
    for connection, why in ((fin, "fin"), (idle, "idle")):
        assert connection.member is not None
        world.plane.gone(connection.member.session, why)
        assert connection.member is None
    assert fin.heard == []  # its own doing
    assert [message.reason for message in idle.heard] == [1]
    assert world.ended == {"fin": 1, "idle": 1}
    assert world.admission.members == {}
    assert not world.granted(resume=secret).resumed


def test_nothing_is_kept_of_sessions_that_have_ended() -> None:
    world = desk(legacy="registered")
    for number in range(200):
        connection = FakeConnection()
        world.granted(connection, versions=(8, 1) if number % 2 else (1,), client=str(number))
        (member,) = world.admission.members.values()
        world.admission.end(member, "left")
        world.now += GRANT_S
    admission = world.admission
    assert (admission.members, admission._by_resume, admission._devices) == ({}, {}, {})
    assert world.plane.granted == {}


def test_a_client_that_leaves_is_forgotten_at_once() -> None:
    world = desk()
    connection = FakeConnection()
    secret = world.granted(connection).resume
    (member,) = world.admission.members.values()
    world.admission.end(member, "left")
    assert connection.member is None
    assert world.plane.granted == {}
    assert not world.granted(resume=secret).resumed


# -- new keys ----------------------------------------------------------------------------


def test_epochs_count_from_1_to_255_and_start_again_at_1() -> None:
    world = desk()
    connection = FakeConnection()
    world.granted(connection)
    assert connection.member is not None
    offers = [world.admission.rekey(connection.member) for _ in range(257)]
    assert [offer.epoch for offer in offers] == [*range(1, 256), 1, 2]
    assert len({offer.key for offer in offers}) == 257
    assert world.plane.told == [f"rekey {offer.key.hex()}" for offer in offers]
    assert world.admission.counters.rekeys == 257


def test_a_key_not_used_yet_is_offered_again() -> None:
    world = desk()
    connection = FakeConnection()
    world.granted(connection)
    assert connection.member is not None
    first = world.admission.rekey(connection.member)
    world.plane.unused = True
    assert world.admission.rekey(connection.member) == first
    assert world.admission.counters.rekeys == 1
    assert first != Rekey()


def test_epochs_go_on_over_a_resume() -> None:
    world = desk()
    connection = FakeConnection()
    secret = world.granted(connection).resume
    assert connection.member is not None
    world.admission.rekey(connection.member)
    world.granted(connection, resume=secret)
    assert world.admission.rekey(connection.member).epoch == 2
