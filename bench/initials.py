"""Connection attempts that cost their maker next to nothing, at a steady rate.

    python -m bench.initials CONTROL_PORT

Each attempt is what anybody can send without ever doing a handshake's work: an Initial with a
ready-made ClientHello; and after the node's Retry a second one with its token, under the keys of
the connection id the Retry gave. Then it says no more and leaves the node with a half-open
connection. Attempts come from `HOSTS` addresses of this machine. Reads attempts a second from its
input, one number a line, 0 at first; says its counts as JSON when its input ends.
Source: RFC 9000 §17.2.2, RFC 9001 §5.2.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import sys
import time
from typing import Final

import attrs
from aioquic._buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, QuicProtocolVersion, pull_quic_header
from aioquic.tls import Epoch
from lightspeed_protocol.runtime.quic import ALPN
from lightspeed_protocol.runtime.quic_client import SERVER_NAME
from lightspeed_protocol.runtime.quic_connection import ClientConnection, configuration

from .clients import HOSTS, local

VERSION: Final = int(QuicProtocolVersion.VERSION_1)
DATAGRAM_BYTES: Final = 1200
READY: Final = 256  # first Initials made before the start; each is used again and again
OWN_ID: Final = b"storming"  # what the node is to call us: the ClientHello names it
TAG_BYTES: Final = 16
NUMBER_BYTES: Final = 2


def client_hello() -> bytes:
    """The TLS message that our own client begins with."""
    config = configuration(is_client=True, alpn=ALPN)
    config.server_name, config.verify_mode = SERVER_NAME, ssl.CERT_NONE
    connection = ClientConnection(configuration=config, streams=0, uni_streams=3)
    connection.host_cid = OWN_ID
    connection._local_initial_source_connection_id = OWN_ID
    connection.connect(("127.0.0.1", 1), now=0.0)
    return bytes(connection._crypto_streams[Epoch.INITIAL].sender._buffer)


def initial(hello: bytes, to: bytes, token: bytes = b"") -> bytes:
    """A whole datagram: one Initial packet for the connection id `to`."""
    head = Buffer(capacity=DATAGRAM_BYTES)
    head.push_uint8(0xC0 | NUMBER_BYTES - 1)
    head.push_uint32(VERSION)
    for cid in (to, OWN_ID):
        head.push_uint8(len(cid))
        head.push_bytes(cid)
    head.push_uint_var(len(token))
    head.push_bytes(token)
    rest = DATAGRAM_BYTES - head.tell() - 2  # a two-byte length
    head.push_uint16(0x4000 | rest)
    head.push_uint16(0)  # packet number
    frames = Buffer(capacity=DATAGRAM_BYTES)
    frames.push_uint8(0x06)  # CRYPTO at offset 0
    frames.push_uint8(0)
    frames.push_uint_var(len(hello))
    frames.push_bytes(hello)
    keys = CryptoPair()
    keys.setup_initial(cid=to, is_client=True, version=VERSION)
    padded = frames.data.ljust(rest - NUMBER_BYTES - TAG_BYTES, b"\0")
    return keys.encrypt_packet(head.data, padded, 0)


@attrs.define(eq=False)
class Attempts:
    to: tuple[str, int]
    hello: bytes = attrs.field(factory=client_hello)
    offered: int = 0
    retried: int = 0  # Retry received, second Initial sent
    answered: int = 0  # datagrams of a handshake that the node has begun
    unsent: int = 0

    def begin(self, sock: socket.socket, datagram: bytes) -> None:
        self.offered += 1
        self._send(sock, datagram)

    def heard(self, sock: socket.socket, datagram: bytes) -> None:
        header = pull_quic_header(Buffer(data=datagram), host_cid_length=len(OWN_ID))
        if header.packet_type is QuicPacketType.RETRY:
            self.retried += 1
            self._send(sock, initial(self.hello, header.source_cid, header.token))
        else:
            self.answered += 1

    def counts(self) -> dict[str, int]:
        names = ("offered", "retried", "answered", "unsent")
        return {name: getattr(self, name) for name in names}

    def _send(self, sock: socket.socket, datagram: bytes) -> None:
        try:
            sock.sendto(datagram, self.to)
        except OSError:
            self.unsent += 1


def main() -> None:
    attempts = Attempts(("127.0.0.1", int(sys.argv[1])))
    ready = [initial(attempts.hello, os.urandom(8)) for _ in range(READY)]
    poll = select.epoll()
    socks: dict[int, socket.socket] = {}
    for number in range(HOSTS):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(local(number))
        sock.setblocking(False)
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    order = list(socks.values())
    told = sys.stdin.fileno()
    os.set_blocking(told, False)
    poll.register(told, select.EPOLLIN)
    rate = due = 0.0
    while True:
        now = time.monotonic()
        while rate and due <= now:
            number = attempts.offered
            attempts.begin(order[number % HOSTS], ready[number % READY])
            due += 1 / rate
        for fd, _ in poll.poll(max(0.0005, due - now) if rate else 0.5):
            if fd == told:
                line = os.read(told, 64)
                if not line:
                    print(json.dumps(attempts.counts()), flush=True)
                    return
                rate, due = float(line.split()[-1]), time.monotonic()
                continue
            try:
                while True:
                    attempts.heard(socks[fd], socks[fd].recv(2048))
            except BlockingIOError:
                pass


if __name__ == "__main__":
    main()
