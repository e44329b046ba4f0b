"""Keeps a session at one invited node: registers, stays connected, resumes when it is lost.

The task ends with its scope only. A refusal that asking again cannot change, before the first
session, is for the whole client (`refused`); every other trouble is shown and tried again, and
data goes on meanwhile. Source: PROTOCOL.md, "QUIC control"; back-off as LAYOUT.md (b).
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
from collections.abc import Callable
from typing import Final

import attrs
import trio
from lightspeed_protocol.control import (
    Disconnect,
    DisconnectReason,
    FrameReader,
    Rekey,
)
from lightspeed_protocol.errors import LinkDown, Refused, WireError
from lightspeed_protocol.extensions import RefusalCode
from lightspeed_protocol.runtime.supervise import Backoff

from . import __version__
from .address import Address, resolve
from .control_link import ANSWER_S, CONNECT_S, Connect, ControlClient, exchange, find_data, ping
from .fec_choice import OFF, FecChoice
from .figures import ControlState
from .nodes import KnownNode
from .resume import Keeper
from .session import Grant, NodeRefused, read_grant, refusal, register_message
from .words import printable

log = logging.getLogger(__name__)

PING_S: Final = 15.0
RENEW_S: Final = 5.0  # between registrations for a silent path, at least
RENEW_MOST_S: Final = 40.0  # and at most, while they do not help
STALE_S: Final = 2.0  # after registering again; longer than a QUIC packet is late
GOODBYE_S: Final = 1.0  # for the node to hear that the session ends
# A node that comes back is found within 3 s, so lost connections are tried again soon, and three
# of four times without patience: what is sent to a node that is down is not sent again for long.
LOST: Final = Backoff(first_s=0.5, cap_s=1.0)
REFUSED: Final = Backoff(first_s=0.5, cap_s=10.0)
HURRY_S: Final = 1.5
PATIENCE_S: Final = (HURRY_S, HURRY_S, HURRY_S, CONNECT_S)
DOUBT_S: Final = 1.0  # for an answer while the data path is silent, and between such questions


@attrs.define(eq=False, kw_only=True)
class ControlSession:
    """`on_grant` gets a session and its data address; it may raise `OSError`."""

    node: KnownNode
    connect: Connect
    keeper: Keeper
    fec: FecChoice = OFF
    on_grant: Callable[[Grant, Address], object]
    on_rekey: Callable[[bytes], object]
    on_farewell: Callable[[], object]  # the node says that it leaves
    rng: random.Random = attrs.field(factory=random.Random)
    state: ControlState = "connecting"
    problem: str | None = None  # one line for the player
    grant: Grant | None = None
    registrations: int = 0
    refusal: Refused | None = None  # for good, before any session
    refused: trio.Event = attrs.field(factory=trio.Event)  # and so the client may end
    settled: trio.Event = attrs.field(factory=trio.Event)  # granted, or that
    _client: ControlClient | None = None
    _secret: bytes | None = None
    _wake: trio.Event = attrs.field(factory=trio.Event)
    _wanted: bool = False  # a registration, although there is a session
    _renew_at: float | None = None
    _doubt_at: float = -math.inf  # when the next doubt is heard
    _renew_pause_s: float = RENEW_S
    _epoch: int | None = None  # of the last Rekey of this session
    _stale_until: float = -math.inf  # a Rekey until then may be of the registration before
    _told: str | None = None
    _ending: bool = False

    @property
    def session_id(self) -> str | None:
        """As the node's operator sees it."""
        return None if self.grant is None else f"{self.grant.session_id:08x}"

    def path_is_doubtful(self) -> None:
        """Nothing has come over the data path for a moment: is this connection still there?

        A node that was started anew knows neither; then a new connection is made at once.
        """
        if self._client is not None and trio.current_time() >= self._doubt_at:
            self._doubt_at = math.inf  # one question at a time
            self._wake.set()

    def path_is_silent(self) -> None:
        """The data path is dead: register again, with fresh keys, but not too often.

        The node may have forgotten the session, or a firewall on the way may have.
        """
        now = trio.current_time()
        if self._client is None or (self._renew_at is not None and now < self._renew_at):
            return
        self._wanted = True
        self._wake.set()

    # -- the task ----------------------------------------------------------------------

    async def run(self) -> None:
        """Never ends."""
        self._secret = await self.keeper.load()
        failures = 0
        while True:
            granted = self.registrations
            refused: Refused | None = None
            problem = ""
            try:
                await self._converse(
                    PATIENCE_S[failures % len(PATIENCE_S)] if failures else CONNECT_S
                )
            except* Refused as group:
                refused = _first(group, Refused)
            except* (OSError, LinkDown, trio.TooSlowError, WireError) as group:
                problem = _words(group)
            self._client = None
            if self._ending:
                await trio.sleep_forever()
            failures = 1 if self.registrations > granted else failures + 1
            if refused is not None and self._take_refusal(refused):
                await trio.sleep_forever()
            if refused is not None:
                problem = str(refused)
            self._say(f"{problem}; trying again")
            self.state = "connecting"
            backoff = LOST if refused is None else REFUSED
            await trio.sleep(backoff.pause(failures, self.rng))

    async def _converse(self, timeout_s: float) -> None:
        """One connection, from its beginning to its end. Never returns."""
        host = self.node.host
        address = await resolve((host, self.node.port), ipv4_only=False, what="node")
        reader = FrameReader()

        def hear(data: bytes) -> None:
            for message in reader.feed(data):
                self._from_node(message)

        async with (
            self.connect(
                address, pin=self.node.pin, on_node_stream=hear, timeout_s=timeout_s
            ) as client,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._watch, client)
            await self._register(client, address)
            self._client, self._doubt_at = client, -math.inf
            while True:
                with trio.move_on_after(PING_S):
                    await self._wake.wait()
                self._wake = trio.Event()
                if self._wanted:
                    await self._register(client, address, timeout_s=HURRY_S)
                else:  # is it still there?
                    doubted = self._doubt_at == math.inf
                    await ping(client, timeout_s=DOUBT_S if doubted else ANSWER_S)
                self._doubt_at = trio.current_time() + DOUBT_S

    async def _watch(self, client: ControlClient) -> None:
        _, reason = await client.wait_closed()
        raise LinkDown(
            f"the control connection to the node {self.node.name} ended ({printable(reason)})"
        )

    async def _register(
        self, client: ControlClient, address: Address, *, timeout_s: float = ANSWER_S
    ) -> None:
        now = trio.current_time()
        self._wanted = False
        self._renew_pause_s = (
            min(2 * self._renew_pause_s, RENEW_MOST_S)
            if self._renew_at is not None and now < self._renew_at + self._renew_pause_s
            else RENEW_S
        )
        self._renew_at = now + self._renew_pause_s
        ask = register_message(
            token=self.node.token, resume=self._secret, client=__version__, fec=self.fec
        )
        answer = await exchange(client, ask, timeout_s=timeout_s)
        grant = read_grant(answer, name=self.node.name, host=address[0])
        self._secret = grant.resume  # also where its data address is of no use: no second session
        data = await find_data(grant, address, name=self.node.name)
        new = self.grant is not None and grant.session_id != self.grant.session_id
        self.on_grant(grant, data)
        if self.grant is None or new:
            self._epoch = None
        if self._client is client:  # registered before on this connection, whose streams may
            self._stale_until = trio.current_time() + STALE_S  # overtake each other
        self.grant = grant
        self.registrations += 1
        self.state, self.problem, self._told = "registered", None, None
        self.settled.set()
        if self.registrations == 1:
            log.info("the node %s carries: %s", self.node.name, _welcome(grant))
        elif new:
            log.warning(
                "the node %s began a new session: a game that was connected may have to connect"
                " again",
                self.node.name,
            )
        await self._keep(grant.resume)

    async def _keep(self, secret: bytes | None) -> None:
        self._secret = secret
        try:
            if secret is None:
                await self.keeper.forget()
            else:
                await self.keeper.save(secret)
        except OSError as exc:
            log.warning(
                "cannot keep the session for a restart of this client: %s", exc.strerror or exc
            )

    # -- what the node says by itself --------------------------------------------------

    def _from_node(self, message: object) -> None:
        match message:
            case Rekey(epoch, key):
                # One left out costs nothing: the node changes once we use the new key.
                stale = trio.current_time() < self._stale_until
                if epoch != self._epoch and self.grant is not None and not stale:
                    self._epoch = epoch
                    self.on_rekey(key)
            case Disconnect():
                self._told_to_leave(message)
            case _:
                pass  # its load; a later release's word; damaged: the requests still work

    def _told_to_leave(self, message: Disconnect) -> None:
        if self._ending:
            return
        try:
            told = refusal(message, self.node.name)
        except WireError:
            return
        log.warning("%s", told)
        if message.reason == DisconnectReason.SERVER_SHUTDOWN:
            self.on_farewell()
            return  # it carries on while it drains; the connection's end comes by itself
        if told.code == RefusalCode.SESSION_ENDED:
            self._secret = None  # another client of ours has it now, or it is gone
        self._wanted = True
        self._wake.set()

    # -- the end -----------------------------------------------------------------------

    def leaving(self) -> None:
        """From now on the end of the session is no news."""
        self._ending = True

    async def goodbye(self) -> None:
        """Tell the node that the session is over, and forget how to resume it."""
        self._ending = True
        client = self._client
        if client is not None:
            lost = (OSError, LinkDown, trio.TooSlowError, WireError)  # the tunnel has said FIN too
            with trio.move_on_after(GOODBYE_S), contextlib.suppress(*lost):
                await exchange(client, Disconnect())
        if self.grant is not None:
            with trio.move_on_after(GOODBYE_S):
                await self.keeper.forget()

    # -- words -------------------------------------------------------------------------

    def _take_refusal(self, refused: Refused) -> bool:
        """True when asking again is of no use."""
        for_good = not isinstance(refused, NodeRefused) or refused.for_good
        if not for_good or (self.grant is not None and not isinstance(refused, NodeRefused)):
            return False  # another key in mid-session: something is in the way, for now
        self.state, self.problem = "refused", str(refused)
        if self.grant is None:
            self.refusal = refused
            self.refused.set()
            self.settled.set()
        else:
            log.warning("%s", refused)
        return True

    def _say(self, text: str) -> None:
        self.problem = text
        if text != self._told:
            self._told = text
            log.warning("%s", text)


def _welcome(grant: Grant) -> str:
    seen = "" if grant.visible is None else f", game servers see {grant.visible}"
    where = f" in {grant.region}" if grant.region else ""
    kind = "the session goes on" if grant.resumed else "a new session"
    return f"{kind} at {grant.node_id}{where}{seen}"


def _first(group: BaseExceptionGroup[Refused], kind: type[Refused]) -> Refused:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            return _first(exc, kind)
        return exc
    raise AssertionError("a group has a leaf")


def _words(group: BaseExceptionGroup[Exception]) -> str:
    """The first trouble of a group, for the player."""
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            return _words(exc)
        if isinstance(exc, trio.TooSlowError):
            return "the node takes too long to answer"
        if isinstance(exc, WireError):
            return f"the node's answer cannot be read ({exc.reason})"
        return printable(str(exc))  # the node may have had the last word
    return "the control connection failed"
