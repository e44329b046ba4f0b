"""Loss repair as tests ask for it, in short."""

from __future__ import annotations

from lightspeed_client.fec_choice import OFF, FecChoice, parse_fec
from lightspeed_protocol.fec.protection import Protection
from lightspeed_protocol.fec.window import Plan


def xor(k: int | None) -> FecChoice:
    """Both ways; None is off."""
    return OFF if k is None else parse_fec(f"xor:{k}")


def fixed(plan: Plan | None) -> Protection:
    return Protection(plan=plan)
