"""The window code: repair of what is lost, made from any of the newest 128 packets.

Systematic: a game packet leaves at once and is delivered at once, repair only adds. Between our
own peers, inside the sealed header. `window_plan` has the format, `window_encoder` and
`window_decoder` the two ends, `window_solver` and `gf256` the mathematics.

Source: PROTOCOL.md, "Window repair".
"""

from __future__ import annotations

from .window_decoder import WindowDecoder
from .window_encoder import WindowEncoder
from .window_plan import Plan

__all__ = ["Plan", "WindowDecoder", "WindowEncoder"]
