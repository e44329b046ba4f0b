"""An invited node inside one test: its sealed data port, and the control connection to it.

The seal is the real one (its own tests hold it to the specification's vectors); sessions, flows
and what is said when are written here from PROTOCOL.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs
import trio
from lightspeed_client.nodes import KnownNode
from lightspeed_protocol.control import (
    ControlMessage,
    Disconnect,
    DisconnectReason,
    FrameReader,
    Ping,
    Pong,
    Register,
    RegisterAck,
    Rekey,
    ServerInfo,
    encode,
    frame,
)
from lightspeed_protocol.errors import LinkDown, Refused, WireError
from lightspeed_protocol.extensions import (
    AckExtensions,
    Limits,
    Refusal,
    RefusalCode,
    RegisterExtensions,
    decode_register,
    encode_ack,
    encode_refusal,
)
from lightspeed_protocol.fec.window import Plan
from lightspeed_protocol.header import FIN, HANDSHAKE, KEEPALIVE, swap_addresses
from lightspeed_protocol.runtime.udp import Port
from lightspeed_protocol.seal import SealedEnd
from lightspeed_protocol.sealed_flow import SealedFlow

from tests.support.repair import fixed

from .fakes import NODE, Address, echo

CONTROL: Address = (NODE[0], 4433)
PIN = bytes(range(32))
TOKEN = bytes(range(32, 64))
HOME_NODE = KnownNode(name="home", host=NODE[0], port=4433, pin=PIN, token=TOKEN)


@attrs.define(eq=False)
class SealedSession:
    """`client` is where its newest authentic packet came from."""

    end: SealedEnd
    client: Address | None = None
    flows: dict[bytes, SealedFlow] = attrs.field(factory=dict)
    old: list[SealedEnd] = attrs.field(factory=list)  # before renewals: their packets are late


@attrs.define(eq=False)
class SealedNode:
    """Answers for a game server that turns a payload into `server(payload)`."""

    server: Callable[[bytes], list[bytes]] = echo
    fec_k: int | None = None  # the node protects what it sends
    loses: Callable[[int], bool] = lambda _: False  # of its n-th packet towards a client
    answers_fin: bool = True
    takes_repair: bool = True
    ipv6_inside: bool = True
    largest_datagram: int = 1500
    refuses: RefusalCode | None = None
    reason: DisconnectReason = DisconnectReason.AUTH_FAILURE
    data: Address = NODE
    token: bytes = TOKEN
    pin: bytes = PIN
    reachable: bool = True  # the control port
    unreachable: str = "no answer from 192.0.2.1:4433"  # what is said when it is not
    parting: str = "gone"  # the words with which a connection ends
    sessions: dict[int, SealedSession] = attrs.field(factory=dict)
    registers: list[RegisterExtensions] = attrs.field(factory=list)
    got: list[tuple[bytes, bytes]] = attrs.field(factory=list)  # label, payload
    sources: list[Address] = attrs.field(factory=list)  # of each authentic packet
    fins: list[bytes] = attrs.field(factory=list)  # labels
    keepalives: int = 0
    goodbyes: int = 0
    pings: int = 0
    drops: list[str] = attrs.field(factory=list)
    last: tuple[bytes, Address] | None = None  # the last packet sent, for replays
    sent: int = 0
    epoch: int = 0
    clients: list[FakeControl] = attrs.field(factory=list)
    _next_id: int = 7001

    # -- the data port -----------------------------------------------------------------

    async def serve(self, port: Port) -> None:
        while True:
            for datagram, source in await port.receive():
                for packet in self.answer(datagram, source, trio.current_time()):
                    self.sent += 1
                    if not self.loses(self.sent):
                        self.last = packet, source
                        port.send(packet, source)

    def answer(self, datagram: bytes, source: Address, now: float) -> list[bytes]:
        number = int.from_bytes(datagram[24:28] if datagram[0] >> 4 == 8 else datagram[48:52])
        session = self.sessions.get(number)
        if session is None:
            self.drops.append("session")
            return []
        try:
            opened = session.end.open(datagram, now)
        except WireError as exc:
            self.drops.append(exc.reason)
            return []
        self.sources.append(source)
        if opened.newest:
            session.client = source
        back = swap_addresses(opened.addresses)
        if opened.flags & (KEEPALIVE | HANDSHAKE):
            self.keepalives += bool(opened.flags & KEEPALIVE)
            return [session.end.control(opened.flags, 7, opened.payload)]
        if opened.flags & FIN:
            self.fins.append(opened.addresses)
            if not any(opened.addresses):
                del self.sessions[number]
                ended = encode_refusal(Refusal(code=RefusalCode.SESSION_ENDED))
                self.say(Disconnect(DisconnectReason.AUTH_FAILURE, ended))
            return [session.end.control(FIN, 7, b"", opened.addresses)] if self.answers_fin else []
        flow = session.flows.get(back)
        if flow is None:
            plan = None if self.fec_k is None else Plan.xor(self.fec_k)
            flow = session.flows[back] = SealedFlow.open(session.end, back, fixed(plan))
        out: list[bytes] = []
        for payload in flow.receive(opened, 0.0):
            self.got.append((opened.addresses, payload))
            for told in self.server(payload):
                out += flow.wrap(told, 7, 0.0)
        return out

    # -- the control connection --------------------------------------------------------

    def connect(
        self,
        address: Address,
        *,
        pin: bytes,
        on_node_stream: Callable[[bytes], None] | None = None,
        timeout_s: float = 5.0,
    ) -> AbstractAsyncContextManager[FakeControl]:
        return self._open(pin, on_node_stream)

    @asynccontextmanager
    async def _open(
        self, pin: bytes, tell: Callable[[bytes], None] | None
    ) -> AsyncIterator[FakeControl]:
        await trio.lowlevel.checkpoint()
        if not self.reachable:
            raise LinkDown(self.unreachable)
        if pin != self.pin:
            raise Refused("this is not the node of your invite")
        client = FakeControl(self, tell)
        self.clients.append(client)
        try:
            yield client
        finally:
            client.closed.set()
            self.clients.remove(client)

    def told(self, message: ControlMessage) -> ControlMessage:
        match message:
            case Ping(stamp):
                self.pings += 1
                return Pong(stamp, 5)
            case ServerInfo():
                return ServerInfo(3, 1, 100)
            case Disconnect():
                self.goodbyes += 1
                return Disconnect()
            case Register(_, _, extensions):
                return self._register(decode_register(extensions))
            case _:
                raise WireError("reset")

    def _register(self, asked: RegisterExtensions) -> ControlMessage:
        self.registers.append(asked)
        refusal = self.refuses
        if refusal is None and asked.credential != self.token:
            refusal = RefusalCode.UNKNOWN_TOKEN
        if refusal is not None:
            return Disconnect(self.reason, encode_refusal(Refusal(code=refusal, text="no\nway")))
        key = bytes((len(self.registers),)) * 16
        old = self.sessions.get(int.from_bytes(asked.resume, "big")) if asked.resume else None
        if old is not None:
            number = old.end.session_id
            old.end = SealedEnd.node(number, key)
            old.flows.clear()
        else:
            number = self._next_id
            self._next_id += 1
            self.sessions[number] = SealedSession(SealedEnd.node(number, key))
        told = AckExtensions(
            version=8,
            key=key,
            data_port=self.data[1],
            data_host=self.data[0],
            fec=(1, 2) if self.takes_repair else (),
            limits=Limits(
                packets_per_s=1000, bytes_per_s=10**6, largest_datagram=self.largest_datagram
            ),
            visible="198.51.100.9",
            capabilities=(1, 4, 5) if self.ipv6_inside else (1, 4),
            resume=number.to_bytes(16, "big"),
            resume_s=120,
            resumed=old is not None,
        )
        return RegisterAck(number, 0, "node-1", "lab", encode_ack(told))

    def rekey(self) -> None:
        """Give every session a new key, told on the node's stream."""
        self.epoch = self.epoch % 255 + 1
        for session in self.sessions.values():
            key = bytes((100 + self.epoch,)) * 16
            if session.end.rekey(key, trio.current_time()):
                self.say(Rekey(self.epoch, key))

    def say(self, message: ControlMessage) -> None:
        """On the node's own stream, to every client, in two chunks."""
        whole = frame(encode(message))
        for client in self.clients:
            if client.tell is not None:
                client.tell(whole[:3])
                client.tell(whole[3:])

    def hang_up(self) -> None:
        """The control connections are gone, as when the node restarts."""
        for client in self.clients:
            client.closed.set()


@attrs.define(eq=False)
class FakeControl:
    """Stands in for `QuicClient`."""

    node: SealedNode
    tell: Callable[[bytes], None] | None
    closed: trio.Event = attrs.field(factory=trio.Event)
    mute: bool = False

    async def request(self, data: bytes, *, timeout_s: float = 5.0) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.closed.is_set():
            raise LinkDown("closed")
        if self.mute:
            await trio.sleep(timeout_s)
            raise trio.TooSlowError
        (message,) = FrameReader().feed(data)
        if isinstance(message, WireError):
            raise message
        return frame(encode(self.node.told(message)))

    async def wait_closed(self) -> tuple[int, str]:
        await self.closed.wait()
        return 0, self.node.parting
