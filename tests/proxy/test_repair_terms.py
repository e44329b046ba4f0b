"""What a session agrees on: the client's wish, under the operator's limit."""

from __future__ import annotations

from lightspeed_protocol.extensions import RegisterExtensions
from lightspeed_protocol.fec.protection import Protection
from lightspeed_protocol.fec.window import Plan
from lightspeed_proxy.repair_terms import LEAST_REPORT_S, RepairTerms, accepted

ALL = (1, 2, 3)


def test_a_node_takes_the_schemes_it_knows_in_the_clients_order() -> None:
    assert accepted((3, 9, 1, 4, 3, 2, 0)) == (3, 1, 4, 2)


def test_the_operators_limit_holds() -> None:
    ext = RegisterExtensions(fec=ALL, protection=Protection(adaptive=True, cap=3))
    assert RepairTerms.agree(ext, 1.5).down == Protection(adaptive=True, cap=1.5)
    assert RepairTerms.agree(ext, 5).down == ext.protection


def test_reports_are_sent_as_often_as_wished_within_reason() -> None:
    def every(ms: int | None, fec: tuple[int, ...] = ALL) -> float | None:
        return RepairTerms.agree(RegisterExtensions(fec=fec, reports_ms=ms), 2).reports_s

    assert (every(None), every(1000), every(1)) == (0.25, 1.0, LEAST_REPORT_S)
    assert every(0) is None
    assert every(250, fec=(1, 2)) is None
    assert RepairTerms.agree(RegisterExtensions(), 2).log() is None


def test_who_says_nothing_is_protected_as_he_protects() -> None:
    assert RepairTerms.agree(RegisterExtensions(fec=ALL), 2).down is None
    assert RepairTerms().mirrored(4) == Protection(plan=Plan.xor(4))
    tight = RepairTerms.agree(RegisterExtensions(fec=ALL), 1.1)
    assert tight.mirrored(1) == Protection(plan=Plan.xor(1), cap=1.1), "the operator pays for it"
