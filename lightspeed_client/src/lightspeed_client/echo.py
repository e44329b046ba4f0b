"""Prints for commands whose reader may leave early, as in `lightspeed games | head -3`."""

from __future__ import annotations

import os
import sys

import click


def say(text: str, *, nl: bool = True) -> None:
    """Print. When the reader has gone, nothing more is printed and the command goes on, so that
    what it found still decides its exit status."""
    try:
        click.echo(text, nl=nl)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or the flush at exit fails again, aloud
        os.close(nowhere)
