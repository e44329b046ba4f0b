"""A UDP socket that is read in batches and written without waiting.

`await recvfrom()` per datagram costs about ten times what draining costs, so a reader waits
for readability once and takes what is there. A write never waits, because a game datagram
stuck behind a full buffer is worth less than the one after it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Final, Protocol, Self

import attrs
import trio

Address = tuple[str, int]
Datagram = tuple[bytes, Address]

BATCH: Final = 64  # datagrams per wake-up, so one busy socket cannot starve the rest
LARGEST_BYTES: Final = 2048  # of one tunnel packet; what is longer is cut to one byte more
BUFFER_BYTES: Final = 1 << 21  # asked of the kernel: a second of a busy node; it may give less


class Port(Protocol):
    """What a relay needs of a socket; tests pass a lossy fake."""

    @property
    def address(self) -> Address: ...
    def send(self, payload: bytes, to: Address) -> bool: ...
    async def receive(self) -> list[Datagram]: ...


def open_socket(address: Address) -> socket.socket:
    """A bound, non-blocking UDP socket; the host decides between IPv4 and IPv6.

    An empty host is every address of both families (IPv4 peers then appear as ::ffff:a.b.c.d),
    or of IPv4 where the machine has no IPv6. Other IPv6 sockets take IPv6 only. Raises `OSError`
    when the address cannot be had.
    """
    if address[0]:
        return _bound(address, both=False)
    try:
        return _bound(("::", address[1]), both=True)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _bound(("0.0.0.0", address[1]), both=False)


def _bound(address: Address, *, both: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


@attrs.define(eq=False)
class UdpPort:
    """The real `Port`. Leaving its `with` block closes the socket."""

    _sock: socket.socket
    unsent: int = 0  # datagrams the kernel would not take

    @classmethod
    def bind(cls, address: Address) -> Self:
        """Open and bind; raises `OSError`."""
        return cls(open_socket(address))

    @property
    def address(self) -> Address:
        host, port, *_ = self._sock.getsockname()
        return host, port

    def send(self, payload: bytes, to: Address) -> bool:
        """Hand one datagram to the kernel; False means dropped, never queued.

        No route, no network and a full buffer are all the same to a game packet: it is gone.
        """
        try:
            self._sock.sendto(payload, to)
        except OSError:
            self.unsent += 1
            return False
        return True

    async def receive(self) -> list[Datagram]:
        """Wait for one datagram, then take what else is there, up to `BATCH`."""
        batch: list[Datagram] = []
        while not batch:
            await trio.lowlevel.wait_readable(self._sock)
            for _ in range(BATCH):
                try:
                    payload, source = self._sock.recvfrom(LARGEST_BYTES + 1)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # the ICMP answer to an earlier send; nothing to read here
                batch.append((payload, source if len(source) == 2 else source[:2]))
        return batch

    def close(self) -> None:
        """Close; a task waiting in `receive` gets `trio.ClosedResourceError`."""
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
