"""What a node sends to an address that has proved nothing: no more than came from there.

And what it does for somebody who only claims to be a registered player: nothing. Attacker,
player and node are network namespaces; bytes are counted by the kernel, IP headers included.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from lightspeed_client.control_link import exchange
from lightspeed_protocol.control import Register, RegisterAck
from lightspeed_protocol.extensions import RegisterExtensions, encode_register
from lightspeed_protocol.header import (
    FIN,
    HANDSHAKE,
    KEEPALIVE,
    Header,
    control_packet,
    decode,
)
from lightspeed_protocol.runtime.quic_client import open_client
from lightspeed_protocol.runtime.udp import UdpPort
from lightspeed_protocol.seal import SealedEnd

from tests.support.counted import CountingServer, drain
from tests.support.guests import open_guest
from tests.support.invites import InvitedNode, Place, open_invited_node, parse
from tests.support.netns import Namespace, forge, join, open_namespaces
from tests.support.quic import PlainClient
from tests.support.skips import need_netns

pytestmark = pytest.mark.net

NODE, PLAYER = "192.0.2.2", "192.0.2.1"
BYSTANDER = "192.0.2.9"  # at the player's end of the cable; has nothing to do with it
NODE_TO_ATTACKER, ATTACKER = "203.0.113.2", "203.0.113.1"
CONTROL, DATA = (NODE, 4433), (NODE, 4434)
EACH = 60  # packets of a kind, which fit the node's receive buffer


@pytest.fixture(autouse=True)
def machine() -> None:
    need_netns()


@attrs.define(eq=False)
class World:
    player: Namespace
    attacker: Namespace
    machine: Namespace
    node: InvitedNode
    line: str
    server: CountingServer

    async def taken(self) -> int:
        """Datagrams the node has dealt with, on both ports, each under exactly one name."""
        health = await self.node.health()
        text = await self.node.scrape()
        flags = ("keepalives", "handshakes", "fins")
        answered = sum(
            int(float(line.split()[1]))
            for line in text.splitlines()
            for flag in flags
            if line.startswith(f"lightspeed_{flag}_total ")
        )
        quic = health["control"]["quic"]
        named = ("datagrams", "admitted", "retries_sent", "version_negotiations")
        control = sum(quic[name] for name in named) + sum(quic["dropped"].values())
        return int(health["packets_dropped"] + answered + control)

    async def until_taken(self, count: int) -> None:
        with trio.fail_after(20):
            while await self.taken() < count:
                await trio.sleep(0.02)
        assert await self.taken() == count


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    """The node takes version 1 and 2 from registered hosts: the most it can be made to do."""
    with open_namespaces(3) as (player, attacker, machine), ExitStack() as sockets:
        join(player, f"{PLAYER}/24", machine, f"{NODE}/24")
        join(attacker, f"{ATTACKER}/24", machine, f"{NODE_TO_ATTACKER}/24")
        attacker.do("ip", "route", "add", "default", "via", NODE_TO_ATTACKER)
        player.do("ip", "route", "add", "default", "via", NODE)
        player.do("ip", "address", "add", f"{BYSTANDER}/32", "dev", "lo")
        machine.inside(allow_spoofing)
        server = CountingServer(sockets.enter_context(machine.udp(("127.0.0.1", 0))))
        async with (
            trio.open_nursery() as nursery,
            open_invited_node(
                directory,
                Place(host="", inside=machine),
                settings={"security": {"legacy": "registered"}},
                advertised=NODE,
            ) as (node, line),
        ):
            nursery.start_soon(server.serve)
            yield World(player, attacker, machine, node, line, server)
            nursery.cancel_scope.cancel("test over")


def allow_spoofing() -> None:
    """Let the kernel take packets from where their sender cannot be, as many networks do."""
    for path in Path("/proc/sys/net/ipv4/conf").glob("*/rp_filter"):
        path.write_text("0")


# -- amplification -----------------------------------------------------------------------


def first_packets(count: int) -> list[bytes]:
    """Beginnings of QUIC connections, without a cookie."""
    return [PlainClient.make(["lightspeed/1"]).take()[0] for _ in range(count)]


def of_version(packet: bytes, version: int, size: int = 1200) -> bytes:
    return (packet[:1] + version.to_bytes(4, "big") + packet[5:])[:size].ljust(size, b"\0")


def kinds() -> dict[str, tuple[tuple[str, int], list[bytes]]]:
    """What an attacker may try: where to, and the datagrams."""
    rng = random.Random(5)
    begin = first_packets(EACH)
    forged = [Header(sequence=n, token=n) for n in range(EACH)]
    sealed = SealedEnd.client(1, bytes(16))
    flags = (KEEPALIVE, HANDSHAKE, FIN)
    return {
        "first packets": (CONTROL, begin),
        "first packets too short": (CONTROL, [packet[:1199] for packet in begin]),
        "versions nobody speaks": (CONTROL, [of_version(p, 0x1A2A3A4A) for p in begin]),
        "those too short": (CONTROL, [of_version(p, 0x1A2A3A4A, 200) for p in begin]),
        "version negotiations": (CONTROL, [of_version(p, 0) for p in begin]),
        "no QUIC": (CONTROL, [rng.randbytes(rng.randrange(1, 1200)) for _ in begin]),
        "garbage": (DATA, [rng.randbytes(rng.randrange(1, 1400)) for _ in begin]),
        "keepalives": (DATA, [control_packet(KEEPALIVE, sequence=n) for n in range(EACH)]),
        "handshakes": (DATA, [control_packet(HANDSHAKE, token=n) for n in range(EACH)]),
        "game packets": (DATA, [header.encode() + b"input" for header in forged]),
        "sealed flags": (DATA, [sealed.control(flags[n % 3], 0, b"??") for n in range(EACH)]),
    }


async def test_an_unproven_address_never_gets_more_than_it_sent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.machine.meter(ATTACKER, BYSTANDER)
        answered: set[str] = set()
        with (
            world.attacker.udp((ATTACKER, 40000)) as own,
            world.attacker.forger() as raw,
            world.player.udp((BYSTANDER, 40001)),  # else its kernel complains to the node
        ):

            def honestly(packet: bytes, to: tuple[str, int]) -> None:
                own.sendto(packet, to)

            def as_bystander(packet: bytes, to: tuple[str, int]) -> None:
                raw.sendto(forge((BYSTANDER, 40001), to, packet), to)

            taken = await world.taken()
            before = world.machine.metered()
            for way in (honestly, as_bystander):
                for kind, (to, packets) in kinds().items():
                    for packet in packets:
                        way(packet, to)
                    taken += len(packets)
                    await world.until_taken(taken)
                    after = world.machine.metered()
                    came = after["arriving"] - before["arriving"]
                    went = after["leaving"] - before["leaving"]
                    assert came == sum(28 + len(packet) for packet in packets), kind
                    assert went <= came, (kind, way)
                    if went:
                        answered.add(kind)
                    before = after
        assert answered == {"first packets", "versions nobody speaks"}
        assert (await world.node.health())["packets_relayed"] == 0


# -- spoofed -----------------------------------------------------------------------------


@attrs.define(eq=False)
class OldClient:
    """Registered for header version 1, and playing."""

    port: UdpPort
    token: int
    server: tuple[str, int]
    back: list[bytes] = attrs.field(factory=list)
    sent: int = 0

    def packet(self, token: int, payload: bytes) -> bytes:
        """As this client would send it with that token."""
        header = Header(source=(PLAYER, 1), destination=self.server, token=token)
        return attrs.evolve(header, sequence=self.sent & 0xFFFF).encode() + payload

    async def play(self) -> None:
        """Until an answer of the game server has come back; the node first asks who is there."""
        with trio.fail_after(20):
            count = len(self.back)
            while len(self.back) == count:
                self.sent += 1
                self.port.send(self.packet(self.token, b"old %d" % self.sent), DATA)
                with trio.move_on_after(0.5):
                    await self._hear()

    async def _hear(self) -> None:
        for datagram, _ in await self.port.receive():
            header = decode(datagram)
            if header.flags == HANDSHAKE:
                answer = control_packet(HANDSHAKE, token=header.token, sequence=header.sequence)
                self.port.send(answer, DATA)
            elif not header.flags:
                self.back.append(datagram[20:])


@asynccontextmanager
async def open_old_client(
    line: str, machine: Namespace, server: tuple[str, int]
) -> AsyncIterator[OldClient]:
    invite, token = parse(line)
    ask = Register(1, 0, encode_register(RegisterExtensions(credential=token, versions=(1,))))
    control = UdpPort(machine.udp((PLAYER, 0)))
    async with open_client(CONTROL, pin=invite.pin, bind=lambda _: control) as client:
        ack = await exchange(client, ask)
        assert isinstance(ack, RegisterAck)
        with UdpPort(machine.udp((PLAYER, 0))) as port:
            yield OldClient(port, ack.session_token, server)


async def test_whoever_only_claims_a_registered_address_is_forwarded_nowhere(
    tmp_path: Path,
) -> None:
    async with (
        open_world(tmp_path) as world,
        open_guest(world.line, world.player.udp) as guest,
        open_old_client(world.line, world.player, world.server.address) as old,
    ):
        await guest.turn()
        game = (PLAYER, 50000)
        guest.play(game, world.server.address, b"sealed")
        await guest.heard(b"sealed")
        await old.play()
        heard = len(world.server.heard)
        before = Counter((await world.node.health())["drops"])

        rng = random.Random(3)
        sealed_at = (PLAYER, guest.port.address[1])
        old_at = (PLAYER, old.port.address[1])
        unknown_at = (PLAYER, 40000)
        attempts: list[tuple[str, tuple[str, int], bytes]] = []
        for token in range(256):
            right = token == old.token
            attempts += [
                ("forged", sealed_at, forge_seal(guest.end, rng)),
                ("unproven" if right else "unregistered", sealed_at, old.packet(token, b"spoofed")),
                ("unproven" if right else "unregistered", unknown_at, old.packet(token, b"as new")),
            ]
            if not right:  # all that header version 1 has to tell them apart
                attempts.append(("unregistered", old_at, old.packet(token, b"spoofed")))
        with (
            world.attacker.forger() as raw,
            world.player.udp(unknown_at) as unknown,
        ):
            for number, (_, source, packet) in enumerate(attempts):
                raw.sendto(forge(source, DATA, packet), DATA)
                if number % EACH == 0:
                    await guest.turn()
            await guest.turn()
            assert [len(data) for data, _ in drain(unknown)] == [20]  # asked for 26 bytes
        counted = Counter((await world.node.health())["drops"]) - before
        assert counted == Counter(reason for reason, _, _ in attempts)
        assert len(world.server.heard) == heard

        await old.play()  # both are still who they were
        guest.play(game, world.server.address, b"sealed too")
        await guest.heard(b"sealed too")
        assert len(world.server.exits) == 2


def forge_seal(end: SealedEnd, rng: random.Random) -> bytes:
    """A packet of that session as its next ones look, but for the key."""
    other = SealedEnd.client(end.session_id, rng.randbytes(16))
    other.sealer.number = end.sealer.number + rng.randrange(100)
    return other.control(rng.choice([KEEPALIVE, FIN, 0]), 0, b"spoofed")
