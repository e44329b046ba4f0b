from __future__ import annotations

import pytest
from lightspeed_client.fec_choice import parse_fec


def test_off_and_every_k_are_read() -> None:
    assert parse_fec("off") is None
    assert [parse_fec(f"xor:{k}") for k in range(2, 17)] == list(range(2, 17))


@pytest.mark.parametrize("text", ["", "xor", "xor:", "xor:1", "xor:17", "xor:4.0", "auto", "4"])
def test_anything_else_is_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(ValueError, match="want off or xor:K with K from 2 to 16"):
        parse_fec(text)
