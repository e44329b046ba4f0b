"""Where a sealed session's client is, and whether somebody there has proved to read what we send.

The newest authentic packet says where answers go. That alone would let a player aim a node at a
victim, by writing the victim's address on one packet. So a host other than the one that
registered is asked by a HANDSHAKE with a number only a reader there can send back, and until
then gets no more bytes than have come from it; what goes beyond waits, bounded, for the proof.
Source: PROTOCOL.md, "Sealed header" (roaming); RFC 9000 §8.2 for the idea, with 1 for its 3.
"""

from __future__ import annotations

import math
import secrets
import socket
from typing import Final

from lightspeed_protocol.header import HANDSHAKE, microseconds

from .abuse import DATAGRAM_OVERHEAD
from .counters import Counters
from .sessions import Address, Session, plain_host

PROOF_BYTES: Final = 8
ASK_S: Final = 0.2  # between two questions
MOST_HELD: Final = 32  # packets: half a second of a game


def follow(session: Session, data: socket.socket, source: Address, counters: Counters) -> None:
    """The newest packet of this session came from a new address."""
    counters.roams += session.client is not None
    session.client, session.data = source, data
    session.held.clear()
    if plain_host(source[0]) == session.host:
        session.proof = None
        return
    session.proof = secrets.token_bytes(PROOF_BYTES)
    session.asked_at = -math.inf
    session.credit = 0


def ask(session: Session, size: int, now: float, counters: Counters) -> None:
    """A packet of `size` bytes came from where nobody has proved himself: perhaps ask (again)."""
    session.credit += size + DATAGRAM_OVERHEAD
    if session.proof is None or session.end is None or now - session.asked_at < ASK_S:
        return
    question = session.end.control(HANDSHAKE, microseconds(now), session.proof)
    if session.spend(len(question) + DATAGRAM_OVERHEAD):
        session.asked_at = now
        _send(session, question, counters)


def prove(session: Session, payload: bytes, counters: Counters) -> bool:
    """Whether this HANDSHAKE answers the question; then what waited leaves now."""
    if session.proof is None or payload != session.proof or session.client is None:
        return False
    session.proof = None
    session.host = plain_host(session.client[0])
    for packet in session.held:
        _send(session, packet, counters)
    session.held.clear()
    return True


def send_unproven(session: Session, packet: bytes, counters: Counters) -> bool:
    """Send within the credit, else keep for the proof; False when there is no room for more."""
    if session.spend(len(packet) + DATAGRAM_OVERHEAD):
        _send(session, packet, counters)
    elif len(session.held) < MOST_HELD:
        session.held.append(packet)
    else:
        counters.drops["unproven"] += 1
        return False
    return True


def _send(session: Session, packet: bytes, counters: Counters) -> None:
    if session.data is None or session.client is None:
        return
    try:
        session.data.sendto(packet, session.client)
    except OSError:
        counters.drops["unsent"] += 1
