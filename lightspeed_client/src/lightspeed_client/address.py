"""Reads "host:port" as players write it, and turns names into addresses without stalling play.

Source: default node port 4434, PROTOCOL.md "Ports".
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

import trio

Address = tuple[str, int]

NODE_PORT: Final = 4434


class Unresolved(OSError):
    """A name has no address (now). The text says what to do; trying again may help."""


def parse_address(text: str, *, default_port: int | None = None) -> Address:
    """Split "host:port", "[::1]:4434", "::1" or "host"; the host stays as written.

    Raises `ValueError` with the remedy. Without `default_port` the port must be there.
    """
    text = text.strip()
    form = "host:port or [IPv6]:port"
    port_text: str | None
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"want {form}, got {text!r}")
        port_text = rest[1:] if rest else None
        if not _is_ipv6(host):
            raise ValueError(f"{host!r} is not an IPv6 address; brackets are for those only")
    elif text.count(":") > 1:
        if not _is_ipv6(text):
            raise ValueError(f"want {form}, got {text!r}")
        host, port_text = text, None
    else:
        host, colon, rest = text.partition(":")
        port_text = rest if colon else None
    if not host or any(character.isspace() or character in "/@?#" for character in host):
        raise ValueError(f"want host:port, for example 192.0.2.1:{NODE_PORT}, got {text!r}")
    if port_text is None:
        if default_port is None:
            raise ValueError(f"the port is missing in {text!r}: write {_bracketed(host)}:PORT")
        return host, default_port
    return host, parse_port(port_text)


def parse_port(text: str) -> int:
    """1..65535, or `ValueError`."""
    # isdecimal alone would let other scripts' digits through
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 65535:
        raise ValueError(f"want a port from 1 to 65535, got {text!r}")
    return int(text)


def write_address(address: Address) -> str:
    """The address as `parse_address` reads it."""
    return f"{_bracketed(address[0])}:{address[1]}"


def is_name(host: str) -> bool:
    """True when the host needs DNS."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


async def resolve(address: Address, *, ipv4_only: bool, what: str) -> Address:
    """The first numeric address of a host. Raises `Unresolved`; `what` names it in the text."""
    host, port = address
    family = socket.AF_INET if ipv4_only else socket.AF_UNSPEC
    if ipv4_only and _is_ipv6(host):
        raise Unresolved(only_ipv4(host))
    try:
        found = await trio.socket.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise Unresolved(
            f"cannot find the {what} {host!r} ({reason}): check the spelling and this machine's"
            " network and DNS"
        ) from None
    addresses = [(str(sockaddr[0]), int(sockaddr[1])) for *_, sockaddr in found]
    # IPv4 first, because "localhost" lists ::1 first and most nodes listen on IPv4 only
    addresses.sort(key=lambda each: ":" in each[0])
    return next((each for each in addresses if has_route(each)), addresses[0])


def has_route(address: Address) -> bool:
    """Whether this machine knows a way to a numeric address. Sends nothing."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
    except OSError:
        return False
    return True


def only_ipv4(host: str) -> str:
    """What to say about an IPv6 game server and a node without an invite."""
    return (
        f"{host} is IPv6, but the open tunnel's header names IPv4 servers only: use its IPv4"
        " address, or a node with an invite"
    )


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
