"""Phrases that several places of the client use, so that all of them say the same."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """ "1 flow", "2 flows"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """Text from a node or a server, on one line and unable to steer a terminal.

    Controls (C0, C1) and characters that turn the writing direction become spaces.
    """
    return "".join(c if c.isprintable() else " " for c in text).strip()


def why_no_answer(port: int | None = None, *, invited: bool = False) -> str:
    """Every reason a node may have for silence. A closed node drops keepalives too."""
    which = "its UDP port" if port is None else f"UDP port {port}"
    if invited:
        return f"it does not run there, or a firewall on the way closes {which}"
    return (
        f"it does not run there, or a firewall closes {which}, or it runs without --dev"
        ' and answers nobody (its `lightspeed-proxy status` then shows drops as "closed")'
    )
