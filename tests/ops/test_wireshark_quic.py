"""The dissector on control messages inside QUIC, with a key log: real aioquic ends, no socket.

The two ends hand each other their datagrams on a clock that is only a number; what they say is
written into a capture as it would have been seen on the way.
"""

from __future__ import annotations

import datetime as dt
import ssl
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import AF_INET, inet_pton
from typing import Final

import attrs
import pytest
from aioquic._buffer import Buffer
from aioquic.h3.connection import H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import pull_quic_header
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.ops.captures import (
    CLIENT,
    CONTROL,
    EXPERT,
    INFO,
    PROTOCOL,
    Address,
    Row,
    rows,
    text,
    udp,
    write_pcap,
)
from tests.ops.test_wireshark_control import KEY, PIN, TOKEN, frame, string, tlv

CLIENT_BYTES: Final = inet_pton(AF_INET, CLIENT[0])

PING: Final = frame(b"\x01" + bytes(7) + b"\x09")
PONG: Final = frame(b"\x02" + bytes(15) + b"\x09")
REGISTER: Final = frame(b"\x03\x01\x40" + tlv(1, TOKEN) + tlv(2, b"\x08"))
ACK: Final = frame(
    b"\x04" + struct.pack("!IB", 7, 0) + string("n1") + string("eu") + tlv(2, KEY) + tlv(1, b"\x08")
)
BYE: Final = frame(b"\x05\x02")
PEERS: Final = frame(  # more than one QUIC packet holds
    b"\x13\x28" + (string("n" * 40) + string("eu") + string("h") + b"\x11\x51" + PIN) * 40
)


@attrs.define(eq=False)
class Pair:
    """A client and a node, and every datagram that went between them, in order."""

    client: QuicConnection
    node: QuicConnection
    address: Address
    seen: list[bytes] = attrs.field(factory=list)
    now: float = 0.0

    @classmethod
    def connect(
        cls,
        keys: Path,
        offers: list[str] | None,
        address: Address = CONTROL,
        takes: list[str] | None = None,
    ) -> Pair:
        """Shake hands over ALPN `offers`; the client writes `keys`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
        today = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(today - dt.timedelta(days=1))
            .not_valid_after(today + dt.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        node_settings = QuicConfiguration(is_client=False, alpn_protocols=takes or offers)
        node_settings.certificate, node_settings.private_key = certificate, key
        with keys.open("w") as log:
            client = QuicConnection(
                configuration=QuicConfiguration(
                    is_client=True,
                    alpn_protocols=offers,
                    verify_mode=ssl.CERT_NONE,
                    secrets_log_file=log,
                )
            )
            client.connect(address, now=0.0)
            first = client.datagrams_to_send(0.0)
            header = pull_quic_header(Buffer(data=first[0][0]), host_cid_length=8)
            node = QuicConnection(
                configuration=node_settings,
                original_destination_connection_id=header.destination_cid,
            )
            pair = cls(client, node, address)
            pair.carry(CLIENT, [datagram for datagram, _ in first])
            pair.flush()
        return pair

    def carry(self, source: Address, datagrams: Sequence[bytes]) -> None:
        """Hand datagrams from that end to the other one."""
        there = self.address if source == CLIENT else CLIENT
        receiver = self.node if source == CLIENT else self.client
        for datagram in datagrams:
            self.seen.append(udp(datagram, source=source, destination=there))
            receiver.receive_datagram(datagram, source, self.now)

    def flush(self) -> None:
        """Let both talk until neither has anything to say."""
        for _ in range(20):
            self.now += 0.001
            out = [datagram for datagram, _ in self.client.datagrams_to_send(self.now)]
            self.carry(CLIENT, out)
            back = [datagram for datagram, _ in self.node.datagrams_to_send(self.now)]
            self.carry(self.address, back)
            for end in (self.client, self.node):
                while end.next_event() is not None:
                    pass
            if not out and not back:
                return
        pytest.fail("the two ends never stop talking")

    def ask(self, *parts: bytes, answer: bytes = b"") -> None:
        """One stream: each part in a packet of its own, then the node's answer."""
        stream = self.client.get_next_available_stream_id()
        for number, part in enumerate(parts, 1):
            self.client.send_stream_data(stream, part, end_stream=number == len(parts))
            self.flush()
        if answer:
            self.node.send_stream_data(stream, answer, end_stream=True)
            self.flush()


@attrs.frozen
class Shown:
    """What tshark makes of a pair's talk."""

    capture: Path
    options: list[str]

    def rows(self, *names: str, options: Sequence[str] = ()) -> list[Row]:
        return rows(self.capture, *names, options=[*self.options, *options])

    def messages(self, *options: str) -> list[str]:
        """Words of all messages, packet by packet."""
        shown = [row for row in self.rows(options=options) if row.one(PROTOCOL) == "LightSpeed/C"]
        return [row.one(INFO).split("), ", 2)[-1] for row in shown]

    def text(self) -> str:
        return text(self.capture, *self.options)


def show(folder: Path, talk: Callable[[Pair], None], pair: Pair) -> Shown:
    talk(pair)
    capture = write_pcap(folder / "talk.pcap", pair.seen)
    return Shown(capture, ["-o", f"tls.keylog_file:{folder / 'keys.log'}"])


def ordinary(pair: Pair) -> None:
    pair.ask(PING, answer=PONG)
    pair.ask(REGISTER, answer=ACK)
    stream = pair.node.get_next_available_stream_id(is_unidirectional=True)
    pair.node.send_stream_data(stream, BYE)
    pair.flush()


ORDINARY: Final = [
    "Ping",
    "Pong",
    "Register game 64",
    "RegisterAck session 7 version 8",
    "Disconnect server shutdown",
]


@pytest.mark.parametrize("offers", [["lightspeed/1"], ["h3", "lightspeed/1"], None])
def test_messages_show_with_a_key_log_by_the_alpn_the_node_took_or_without_one(
    tmp_path: Path, offers: list[str] | None
) -> None:
    pair = Pair.connect(tmp_path / "keys.log", offers, takes=offers and offers[-1:])
    shown = show(tmp_path, ordinary, pair)

    assert shown.messages() == ORDINARY
    assert shown.messages("-2") == ORDINARY
    (register,) = shown.rows(
        "lightspeed.control.credential", options=["-Y", "lightspeed.control.type == 3"]
    )
    assert register.one("lightspeed.control.credential") == TOKEN.hex()


def test_without_the_keys_nothing_shows(tmp_path: Path) -> None:
    shown = show(tmp_path, ordinary, Pair.connect(tmp_path / "keys.log", ["lightspeed/1"]))

    blind = Shown(shown.capture, [])
    assert blind.messages() == []
    assert TOKEN.hex() not in blind.text()


def test_our_alpn_counts_on_any_port_and_its_absence_only_on_ours(tmp_path: Path) -> None:
    for alpn, wanted in ((["lightspeed/1"], ORDINARY), (None, [])):
        folder = tmp_path / str(len(wanted))
        folder.mkdir()
        pair = Pair.connect(folder / "keys.log", alpn, ("198.51.100.1", 7443))
        shown = show(folder, ordinary, pair)

        assert shown.messages() == wanted
        assert shown.messages("-o", "lightspeed.quic_ports:7443") == ORDINARY


@pytest.mark.parametrize("alpn", [["lightspeed/1"], None])
def test_a_message_in_several_packets_is_put_together(
    tmp_path: Path, alpn: list[str] | None
) -> None:
    def talk(pair: Pair) -> None:
        pair.ask(PING[:1], PING[1:2], PING[2:7], PING[7:], answer=PEERS)
        pair.ask(REGISTER[:20], REGISTER[20:] + PING + PING[:3], PING[3:])

    shown = show(tmp_path, talk, Pair.connect(tmp_path / "keys.log", alpn))

    wanted = ["Ping", "Peers 40 known", "Register game 64, Ping", "Ping"]
    assert shown.messages() == wanted
    assert shown.messages("-2") == wanted
    shown.text()


def test_packets_out_of_order_and_twice_give_each_message_once(tmp_path: Path) -> None:
    pair = Pair.connect(tmp_path / "keys.log", ["lightspeed/1"])
    stream = pair.client.get_next_available_stream_id()
    handshake = len(pair.seen)
    for part in (REGISTER[:10], REGISTER[10:20], REGISTER[20:]):
        pair.client.send_stream_data(stream, part)
        pair.flush()
    ours = [packet for packet in pair.seen[handshake:] if packet[12:16] == CLIENT_BYTES]
    first, second, third = ours[:3]
    capture = write_pcap(
        tmp_path / "order.pcap", [*pair.seen[:handshake], third, first, first, second]
    )
    shown = Shown(capture, ["-o", f"tls.keylog_file:{tmp_path / 'keys.log'}"])

    assert shown.messages() == ["Register game 64"]


def test_a_stream_that_ends_inside_a_message_says_so(tmp_path: Path) -> None:
    def talk(pair: Pair) -> None:
        pair.ask(PING[:5])
        pair.ask(PING[:1])
        pair.ask(PING[:6], b"\x00")
        pair.ask(frame(b"\x09\x00"))
        pair.ask(b"\x00\x00")

    shown = show(tmp_path, talk, Pair.connect(tmp_path / "keys.log", ["lightspeed/1"]))

    assert shown.messages() == [
        "Ends inside a message: 3 of 9 bytes",
        "Ends inside a length",
        "Ends inside a message: 5 of 9 bytes",
        "unknown 0x09",
        "A length of 0: not even a type",
    ]
    faulted = [row for row in shown.rows() if row.one(PROTOCOL) == "LightSpeed/C"]
    assert all(row[EXPERT] for row in faulted)


def test_http3_on_the_same_port_is_left_to_wireshark(tmp_path: Path) -> None:
    def talk(pair: Pair) -> None:
        client, node = H3Connection(pair.client), H3Connection(pair.node)
        pair.flush()
        stream = pair.client.get_next_available_stream_id()
        headers = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/health")]
        client.send_headers(stream, [*headers, (b":authority", b"n")], end_stream=True)
        pair.flush()
        node.send_headers(stream, [(b":status", b"200")])
        node.send_data(stream, PING, end_stream=True)
        pair.flush()

    shown = show(tmp_path, talk, Pair.connect(tmp_path / "keys.log", ["h3"]))

    assert shown.messages() == []
    assert "HTTP3" in {row.one(PROTOCOL) for row in shown.rows()}
    assert "lightspeed" not in shown.text().lower()
