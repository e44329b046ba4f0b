"""Captures written by hand, and what tshark with our dissector makes of them.

A packet is raw IP (link type 101). Source: the libpcap file format's 24- and 16-byte headers,
RFC 791, RFC 792, RFC 768, RFC 9293.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from socket import AF_INET, inet_pton
from typing import Final

import attrs

from tests.support.skips import need_command

DISSECTOR: Final = Path(__file__).parents[2] / "ops" / "wireshark" / "lightspeed.lua"

CLIENT: Final = ("192.0.2.1", 50001)
DATA: Final = ("198.51.100.1", 4434)
CONTROL: Final = ("198.51.100.1", 4433)
PLAIN: Final = ("198.51.100.1", 5000)  # control messages without QUIC, by a preference

RAW_IP: Final = 101
USER0: Final = 147

TSHARK_S: Final = 100
BETWEEN: Final = "\x1f"  # what stands between the values of a field that comes more than once

IP_AND_UDP: Final = 28  # bytes of both headers

_ICMP: Final = 1
_UDP: Final = 17
_TCP: Final = 6

Address = tuple[str, int]


def _ip(protocol: int, source: Address, destination: Address, body: bytes) -> bytes:
    return (
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
        + inet_pton(AF_INET, source[0])
        + inet_pton(AF_INET, destination[0])
        + body
    )


def udp(payload: bytes, *, source: Address = CLIENT, destination: Address = DATA) -> bytes:
    """One datagram, without a checksum."""
    head = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0)
    return _ip(_UDP, source, destination, head + payload)


def tcp(
    payload: bytes, *, at: int, source: Address = CLIENT, destination: Address = PLAIN
) -> bytes:
    """One segment, the stream's byte `at` first."""
    head = struct.pack("!HHIIBBHHH", source[1], destination[1], 1 + at, 1, 0x50, 0x18, 1000, 0, 0)
    return _ip(_TCP, source, destination, head + payload)


def unreachable(packet: bytes, *, source: Address, quotes: int) -> bytes:
    """The ICMP answer of a closed port to that packet, with its first bytes."""
    return _ip(_ICMP, source, CLIENT, struct.pack("!BBHI", 3, 3, 0, 0) + packet[:quotes])


def write_pcap(
    path: Path, packets: Sequence[bytes], *, link: int = RAW_IP, snaps: Sequence[int] = ()
) -> Path:
    """One packet a millisecond. With `snaps`, each is cut as by a capture with that limit."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link))
        for number, packet in enumerate(packets):
            kept = packet[: snaps[number]] if snaps else packet
            seconds, thousandths = divmod(number, 1000)
            file.write(
                struct.pack("<IIII", seconds, thousandths * 1000, len(kept), len(packet)) + kept
            )
    return path


def _tshark(capture: Path, *arguments: str) -> str:
    """What it prints. Its settings and plugins are this run's own, not the user's."""
    done = subprocess.run(
        [
            need_command("tshark", package="tshark"),
            *("-n", "-X", f"lua_script:{DISSECTOR}", "-r", str(capture)),
            *("-o", f"lightspeed.plain_ports:{PLAIN[1]}"),
            *arguments,
        ],
        env={**os.environ, "HOME": str(capture.parent), "XDG_CONFIG_HOME": str(capture.parent)},
        capture_output=True,
        text=True,
        timeout=TSHARK_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr, done.stderr
    return done.stdout


def text(capture: Path, *options: str) -> str:
    """All that tshark can say about every packet, its bytes as text included."""
    said = _tshark(capture, "-V", "-x", *options)
    assert "Lua Error" not in said
    assert "_ws.lua" not in said
    return said


@attrs.frozen
class Row:
    """The fields that were asked for, of one packet."""

    values: dict[str, list[str]]

    def __getitem__(self, name: str) -> list[str]:
        return self.values[name]

    def one(self, name: str) -> str:
        """The only value of a field."""
        (value,) = self.values[name]
        return value


INFO: Final = "_ws.col.Info"
PROTOCOL: Final = "_ws.col.Protocol"
EXPERT: Final = "_ws.expert.message"
LUA: Final = "_ws.lua.error"


def rows(capture: Path, *names: str, options: Sequence[str] = ()) -> list[Row]:
    """These fields of every packet, in order, and always info, protocol and expert messages."""
    asked = [INFO, PROTOCOL, EXPERT, LUA, *names]
    said = _tshark(
        capture,
        *("-T", "fields", "-E", "separator=/t", "-E", f"aggregator={BETWEEN}"),
        *(word for name in asked for word in ("-e", name)),
        *options,
    )
    found = []
    for line in said.splitlines():
        values = [cell.split(BETWEEN) if cell else [] for cell in line.split("\t")]
        row = Row(dict(zip(asked, values, strict=True)))
        assert row[LUA] == []
        found.append(row)
    return found
