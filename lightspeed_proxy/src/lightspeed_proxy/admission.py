"""Who may use this node: decides each Register, and when what was granted ends.

Everybody needs an invite, except on an open node (`--dev`). A member is one granted session; it
outlives its connection by `resume_s`, so that a client that was restarted or lost its network finds
the same flows and ports again, with the resume secret that only it was told.

What fails is refused with a code and one line for the player. Wrong tokens are paced by host, not
because 32 random bytes could be guessed but because each answer costs; a right token passes always,
so nobody can lock out a neighbour behind the same NAT. New sessions are paced by invite and resumed
ones by session, because each has fresh keys and a session of its own fresh limits. Times are
seconds on the caller's clock.
Source: PROTOCOL.md, "Extensions" (the codes).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Final, Protocol

import attrs
from lightspeed_protocol.control_messages import (
    NO_KEY,
    Disconnect,
    DisconnectReason,
    Register,
    RegisterAck,
    Rekey,
)
from lightspeed_protocol.errors import WireError
from lightspeed_protocol.extensions import (
    RESUME_BYTES,
    AckExtensions,
    Capability,
    Limits,
    RefusalCode,
    RegisterExtensions,
    decode_register,
    encode_ack,
)
from lightspeed_protocol.seal import KEY_BYTES, VERSION_SEALED

from .config import ProxyConfig
from .credentials import Invite, Invites
from .host_pace import Bucket, HostPace
from .rate_limit import Rates
from .refusals import (
    ENDS,
    NEW_SESSIONS,
    PROBLEM,
    RESULT,
    RESUMED,
    TEXTS,
    RefusedRegistration,
    RegistrationCounters,
    refusal,
)
from .repair_terms import RepairTerms, accepted
from .sessions import Lease, Session

LEGACY: Final = (1, 2)  # header versions that cannot be sealed
LARGEST_DATAGRAM: Final = 2048  # runtime.udp LARGEST_BYTES

WRONG_PER_S: Final = 10  # tokens from one host
# New sessions of one invite: all its devices at once and a few that try again, then slowly.
MORE_THAN_DEVICES: Final = 8
GRANT_S: Final = 2.0
RESUME_S: Final = 0.5  # between two resumes of one session
RESUME_BURST: Final = 10
MOST_TOKENS: Final = 255  # version 1 and 2 sessions of one host: their token is one byte, not 0


class Plane(Protocol):
    """What is asked of the data plane; `relay.Relay` is the real one."""

    def grant(self, lease: Lease, now: float, *, heir_to: Session | None = ...) -> Session: ...
    def renew(self, session: Session, key: bytes, host: str) -> None: ...
    def rekey(self, session: Session, key: bytes) -> bool: ...
    def end(self, session: Session) -> None: ...
    def find(self, session_id: int) -> Session | None: ...


class Connection(Protocol):
    """Through which a client registered. `member` is what it holds; it may be None again."""

    member: Member | None

    def ended(self, message: Disconnect) -> None:
        """The session of this connection is no longer its own."""


@attrs.define(eq=False, kw_only=True)
class Member:
    """A granted session. `connection` is None while its client is away."""

    session: Session
    lease: Lease
    invite: Invite | None  # None: of an open node
    client: str  # its version, in its own words
    host: str  # where it registered from
    version: int  # of its packets' header
    since: float
    connection: Connection | None
    resume: bytes | None = attrs.field(default=None, repr=False)  # the secret's hash
    left_at: float = -math.inf  # when its last connection ended
    epoch: int = 0
    offered: bytes = attrs.field(default=NO_KEY, repr=False)  # the key of `epoch`
    resumes: Bucket = attrs.field(factory=lambda: Bucket(RESUME_S, RESUME_BURST))

    @property
    def sealed(self) -> bool:
        return self.version == VERSION_SEALED

    @property
    def last_heard(self) -> float:
        """The last authentic packet, on whichever port of a version 1 or 2 client."""
        return max(port.last_heard for port in (self.session, *self.session.ports))


@attrs.frozen(kw_only=True)
class Granted:
    member: Member
    ack: RegisterAck
    features: tuple[int, ...]


@attrs.frozen(kw_only=True)
class Told:
    """What every client is told of the node itself. Without `data_port`: the usual one."""

    data_port: int | None = None
    data_host: str = ""
    visible: str | None = None
    capabilities: tuple[Capability, ...] = ()


class _No(Exception):
    """Leaves `Admission.register` from wherever the answer is clear."""

    def __init__(self, code: RefusalCode, text: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.text = text  # instead of the code's own


@attrs.define(eq=False, kw_only=True)
class Admission:
    """All members of one node. `random_bytes` must be fit for keys."""

    config: ProxyConfig
    plane: Plane
    invites: Invites
    random_bytes: Callable[[int], bytes] = attrs.field(repr=False)
    dev: bool = False
    told: Told = attrs.field(factory=Told)
    draining: bool = False
    counters: RegistrationCounters = attrs.field(factory=RegistrationCounters)
    members: dict[int, Member] = attrs.field(factory=dict)  # by session id
    _by_resume: dict[bytes, Member] = attrs.field(factory=dict)
    _devices: Counter[bytes] = attrs.field(factory=Counter)  # members by their invite's hash
    _grants: dict[bytes, Bucket] = attrs.field(factory=dict)  # by their invite's hash
    _wrong: HostPace = attrs.field(factory=lambda: HostPace(WRONG_PER_S))

    def apply(self, config: ProxyConfig, told: Told) -> None:
        """Take over new settings; members keep their sessions, under the new limits."""
        self.config, self.told = config, told
        for member in self.members.values():
            if member.invite is not None and member.lease.rates is not None:
                member.lease.rates.set(*self._rates(member.invite))

    def register(
        self, message: Register, host: str, connection: Connection, now: float, unix_now: float
    ) -> Granted | RefusedRegistration:
        """Decide. Raises `WireError` for extensions that cannot be read.

        A connection holds one session: what it held before ends, unless it is resumed.
        """
        ext = decode_register(message.extensions)
        try:
            if self.draining:
                raise _No(RefusalCode.DRAINING)
            invite = self._invite(ext.credential, host, now, unix_now)
            version = self._version(ext.versions or (message.protocol_version,))
            old = self._resumed(ext.resume, invite, now) if version == VERSION_SEALED else None
            if old is None:
                member, key, secret = self._grant(version, invite, host, connection, now)
            else:
                member, key, secret = old, self._take_over(old, connection, host, now), ext.resume
        except _No as no:
            self.counters.results[RESULT[no.code]] += 1
            return RefusedRegistration(no.code, no.text)
        self.counters.results["granted" if old is None else "resumed"] += 1
        connection.member = member
        member.connection, member.client, member.host = connection, ext.client, host
        if member.sealed:
            member.session.agree(RepairTerms.agree(ext, self.config.limits.max_repair))
        ack = RegisterAck(
            member.lease.session_id,
            member.lease.token,
            self.config.node.node_id,
            self.config.node.region,
            # A client that added nothing reads nothing that is added.
            self._ack(member, ext, version, key, secret, resumed=old is not None)
            if message.extensions
            else b"",
        )
        return Granted(member=member, ack=ack, features=ext.features)

    def lost(self, connection: Connection, now: float) -> None:
        """A connection ended without a word: its session waits for the client."""
        member, connection.member = connection.member, None
        if member is not None:
            member.connection, member.left_at = None, now

    def end(self, member: Member, why: str, message: Disconnect | None = None) -> None:
        """End a session; its connection, if there is one, is told `message`."""
        if self._forget(member, why):
            self.plane.end(member.session)
            self._tell(member, message)

    def check(self, member: Member, now: float, unix_now: float) -> None:
        """End this member's session if its client is gone or its invite is no longer good."""
        if member.connection is None and now >= self._until(member):
            self.end(member, "lost")
        elif member.invite is not None:
            code = self._problem(member.invite, unix_now)
            if code is not None:
                why = "expired" if code is RefusalCode.EXPIRED else "revoked"
                self.end(member, why, refusal(RefusalCode.SESSION_ENDED, TEXTS[code]))

    def rekey(self, member: Member) -> Rekey:
        """A new key for this session, or once more the one it has not used yet."""
        key = self.random_bytes(KEY_BYTES)
        if self.plane.rekey(member.session, key):
            member.epoch, member.offered = member.epoch % 255 + 1, key
            self.counters.rekeys += 1
        return Rekey(member.epoch, member.offered)

    # -- deciding ------------------------------------------------------------------------

    def _invite(self, token: bytes | None, host: str, now: float, unix_now: float) -> Invite | None:
        invite = None if token is None else self.invites.find(token)
        code = RefusalCode.NO_CREDENTIAL if token is None else RefusalCode.UNKNOWN_TOKEN
        problem = code if invite is None else self._problem(invite, unix_now)
        if problem is None:
            return invite
        if self.dev:
            return None  # open to anyone
        if problem is RefusalCode.UNKNOWN_TOKEN and not self._wrong.admit(host, now):
            raise _No(RefusalCode.TOO_OFTEN)
        raise _No(problem)

    def _problem(self, invite: Invite, unix_now: float) -> RefusalCode | None:
        word = self.invites.problem(invite, unix_now)
        return None if word is None else PROBLEM[word]

    def _version(self, wanted: tuple[int, ...]) -> int:
        legacy = LEGACY if self.dev or self.config.security.legacy == "registered" else ()
        for version in wanted:
            if version == VERSION_SEALED or version in legacy:
                return version
        raise _No(RefusalCode.NO_COMMON_VERSION)

    def _resumed(self, secret: bytes | None, invite: Invite | None, now: float) -> Member | None:
        """The session that this secret stands for, if it is this invite's and still there."""
        member = None if secret is None else self._by_resume.get(sha256(secret).digest())
        if member is None or not _same(member.invite, invite):
            return None
        if member.connection is None and now >= self._until(member):
            self.end(member, "lost")
            return None
        return member

    def _until(self, member: Member) -> float:
        """How long a session without connection waits for its client."""
        return max(member.last_heard, member.left_at) + self.config.limits.resume_s

    # -- granting ------------------------------------------------------------------------

    def _grant(
        self,
        version: int,
        invite: Invite | None,
        host: str,
        connection: Connection,
        now: float,
    ) -> tuple[Member, bytes | None, bytes | None]:
        own = connection.member
        # Its limits go on: registering again must not be worth anything.
        heir_to = own if own is not None and _same(own.invite, invite) else None
        if len(self.members) - (own is not None) >= self.config.limits.max_clients:
            raise _No(RefusalCode.NODE_FULL)
        if invite is not None:
            devices = self._devices[invite.token_sha256] - (heir_to is not None)
            most = invite.max_sessions or self.config.limits.max_sessions_per_invite
            if devices >= most:
                raise _No(RefusalCode.TOO_MANY_SESSIONS)
            self._pace(invite.token_sha256, most + MORE_THAN_DEVICES, now)
        if own is not None and heir_to is None:
            self.end(own, "replaced")
        key = secret = None
        if version == VERSION_SEALED:
            key, secret = self.random_bytes(KEY_BYTES), self.random_bytes(RESUME_BYTES)
        lease = Lease(
            invite="" if invite is None else invite.name,
            session_id=self._session_id(),
            key=key,
            token=0 if key is not None else self._token(host),
            host=host,
            rates=self._rates_of(invite, heir_to),
            destinations=() if invite is None else invite.destinations,
        )
        try:
            heir = None if heir_to is None else heir_to.session
            session = self.plane.grant(lease, now, heir_to=heir)
        except WireError:
            raise _No(RefusalCode.NODE_FULL) from None
        if heir_to is not None:
            self.end(heir_to, "replaced")
        session.on_end = self._ended
        member = Member(
            session=session,
            lease=lease,
            invite=invite,
            client="",
            host=host,
            version=version,
            since=now,
            connection=connection,
        )
        self.members[lease.session_id] = member
        if invite is not None:
            self._devices[invite.token_sha256] += 1
        if secret is not None:
            member.resume = sha256(secret).digest()
            self._by_resume[member.resume] = member
        return member, key, secret

    def _pace(self, invite: bytes, burst: int, now: float) -> None:
        """Counts a new session of an invite."""
        if len(self._grants) > 2 * len(self.invites):  # some are of invites that are gone
            self._grants = {name: each for name, each in self._grants.items() if each.full_at > now}
        bucket = self._grants.setdefault(invite, Bucket(GRANT_S, burst))
        bucket.burst = burst
        if not bucket.admit(now):
            raise _No(RefusalCode.TOO_OFTEN, NEW_SESSIONS)

    def _rates_of(self, invite: Invite | None, heir_to: Member | None) -> Rates | None:
        """An heir shares what its meters read, so that a reload still reaches it."""
        if invite is None:
            return None
        rates = Rates(*self._rates(invite))
        if heir_to is not None and heir_to.lease.rates is not None:
            heir_to.lease.rates.set(rates.packets_per_s, rates.bytes_per_s)
            return heir_to.lease.rates
        return rates

    def _take_over(self, old: Member, connection: Connection, host: str, now: float) -> bytes:
        """The session goes on under a new key; whoever else holds it, or is held, lets go."""
        if not old.resumes.admit(now):
            raise _No(RefusalCode.TOO_OFTEN, RESUMED)
        if connection.member is not None and connection.member is not old:
            self.end(connection.member, "replaced")
        if old.connection is not connection:
            self._tell(old, refusal(RefusalCode.SESSION_ENDED))
        key = self.random_bytes(KEY_BYTES)
        self.plane.renew(old.session, key, host)
        old.offered = NO_KEY
        return key

    def _session_id(self) -> int:
        while True:
            number = int.from_bytes(self.random_bytes(4), "big")
            if number and number not in self.members and self.plane.find(number) is None:
                return number

    def _token(self, host: str) -> int:
        """One that no other session of this host has."""
        taken = {each.lease.token for each in self.members.values() if each.lease.host == host}
        free = [token for token in range(1, MOST_TOKENS + 1) if token not in taken]
        if not free:
            raise _No(RefusalCode.NODE_FULL)
        return free[int.from_bytes(self.random_bytes(4), "big") % len(free)]

    def _rates(self, invite: Invite | None) -> tuple[int, int]:
        """Packets and bytes a second: the invite's, where it says nothing the node's."""
        limits = self.config.limits
        if invite is None:
            return limits.max_pps_per_client, limits.max_bps_per_client
        return (
            invite.max_pps or limits.max_pps_per_client,
            invite.max_bps or limits.max_bps_per_client,
        )

    def _ack(
        self,
        member: Member,
        ext: RegisterExtensions,
        version: int,
        key: bytes | None,
        secret: bytes | None,
        *,
        resumed: bool,
    ) -> bytes:
        packets_per_s, bytes_per_s = self._rates(member.invite)
        limits = Limits(
            packets_per_s=packets_per_s,
            bytes_per_s=min(bytes_per_s, 0xFFFF_FFFF),
            largest_datagram=LARGEST_DATAGRAM,
        )
        return encode_ack(
            AckExtensions(
                version=version,
                key=key,
                data_port=self.told.data_port,
                data_host=self.told.data_host,
                fec=accepted(ext.fec) if version == VERSION_SEALED else (),
                limits=limits,
                visible=self.told.visible,
                capabilities=self.told.capabilities,
                resume=secret,
                resume_s=None if secret is None else int(self.config.limits.resume_s),
                resumed=resumed,
            )
        )

    # -- ending --------------------------------------------------------------------------

    def _ended(self, session: Session, why: str) -> None:
        """The data plane has ended a session by itself."""
        member = self.members.get(session.id)
        if member is not None and self._forget(member, why if why in ENDS else "idle"):
            self._tell(member, None if why == "fin" else Disconnect(DisconnectReason.TIMEOUT))

    def _forget(self, member: Member, why: str) -> bool:
        if self.members.get(member.lease.session_id) is not member:
            return False
        del self.members[member.lease.session_id]
        if member.resume is not None:
            del self._by_resume[member.resume]
        if member.invite is not None:
            self._devices[member.invite.token_sha256] -= 1
            if not self._devices[member.invite.token_sha256]:
                del self._devices[member.invite.token_sha256]
        self.counters.ended[why] += 1
        return True

    def _tell(self, member: Member, message: Disconnect | None) -> None:
        connection, member.connection = member.connection, None
        if connection is not None:
            connection.member = None
            if message is not None:
                connection.ended(message)


def _same(one: Invite | None, other: Invite | None) -> bool:
    """Whether these are one invite, and not a later one of the same name."""
    if one is None or other is None:
        return one is other
    return one.token_sha256 == other.token_sha256
