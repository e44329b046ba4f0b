"""A data plane that does nothing but remember what it was told, for tests of the node around it."""

from __future__ import annotations

import itertools
import math
import socket
from collections.abc import Callable

import attrs
import trio
from lightspeed_protocol.errors import WireError
from lightspeed_proxy.abuse import Opened
from lightspeed_proxy.admission import Admission
from lightspeed_proxy.config import ProxyConfig
from lightspeed_proxy.counters import Counters
from lightspeed_proxy.credentials import Invite, Invites, hash_token
from lightspeed_proxy.rate_limit import Meter, Rates
from lightspeed_proxy.sessions import Lease, Session
from lightspeed_proxy.state import NodeState

TOKEN = bytes(range(32))
INVITE = Invite(name="ada", token_sha256=hash_token(TOKEN), created=1)


@attrs.define(eq=False)
class FakePlane:
    """Grants up to `room` sessions; `unused` says that the offered key has not been used."""

    room: int = 1000
    unused: bool = False
    granted: dict[int, Session] = attrs.field(factory=dict)
    told: list[str] = attrs.field(factory=list)

    def grant(self, lease: Lease, now: float, *, heir_to: Session | None = None) -> Session:
        if len(self.granted) - (heir_to is not None) >= self.room:
            raise WireError("max-clients")
        meters = Meter(Rates(1, 1)), Meter(Rates(1, 1))
        session = Session(None, None, *meters, Opened(), lease=lease, opened_at=now, last_heard=now)
        if heir_to is not None:
            session.inherit(heir_to)
        self.granted[lease.session_id] = session
        return session

    def find(self, session_id: int) -> Session | None:
        return self.granted.get(session_id)

    def renew(self, session: Session, key: bytes, host: str) -> None:
        self.told.append(f"renew {key.hex()} {host}")

    def rekey(self, session: Session, key: bytes) -> bool:
        if not self.unused:
            self.told.append(f"rekey {key.hex()}")
        return not self.unused

    def end(self, session: Session) -> None:
        del self.granted[session.id]
        self.told.append("end")

    def gone(self, session: Session, why: str) -> None:
        """As if the data plane had ended it by itself."""
        del self.granted[session.id]
        assert session.on_end is not None
        session.on_end(session, why)


@attrs.define(eq=False)
class FakeRelay(FakePlane):
    """Set `sessions`, `flows` and `last_traffic`; read `told` and `config`."""

    config: ProxyConfig = attrs.field(factory=ProxyConfig)
    counters: Counters = attrs.field(factory=Counters)
    data: tuple[socket.socket, ...] = ()
    dev: bool = False
    sessions: int = 0
    flows: int = 0
    kernel_drops: int = 0
    last_traffic: float = -math.inf
    permitted: bool = True
    breaths: int = 0
    failure: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fails like a data socket that went away, once `failure` is set."""
        task_status.started()
        await self.failure.wait()
        raise OSError("the data socket is gone")

    def apply(self, config: ProxyConfig) -> None:
        self.config = config
        self.told.append("apply")

    def permits(self, host: str, port: int) -> bool:
        return self.permitted

    def breathe(self) -> None:
        self.breaths += 1

    def refuse_new(self) -> None:
        self.told.append("refuse_new")

    def say_goodbye(self) -> None:
        self.told.append("say_goodbye")

    def close(self) -> None:
        self.told.append("close")


def counting_bytes() -> Callable[[int], bytes]:
    """Instead of chance: 1, 2, 3... in as many bytes as are wanted."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def node_state(
    config: ProxyConfig | None = None,
    *,
    relay: FakeRelay | None = None,
    clock: Callable[[], float] = trio.current_time,
    started: float = 0.0,
    dev: bool = False,
    invites: tuple[Invite, ...] = (INVITE,),
) -> NodeState:
    """A node that is ready, around a fake data plane, and knows one invite."""
    config = ProxyConfig() if config is None else config
    relay = FakeRelay(config=config, dev=dev) if relay is None else relay
    admission = Admission(
        config=config,
        plane=relay,
        invites=Invites(invites),
        random_bytes=counting_bytes(),
        dev=dev,
    )
    return NodeState(
        config=config,
        counters=relay.counters,
        relay=relay,
        admission=admission,
        dev=dev,
        clock=clock,
        started=started,
        phase="ready",
    )
