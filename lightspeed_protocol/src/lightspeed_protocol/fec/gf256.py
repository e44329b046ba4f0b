"""Arithmetic in GF(2^8), on whole packets at a time.

Addition is XOR. Multiplication by a constant is `bytes.translate` with that constant's row of
the product table, so a packet costs one call and no loop over its bytes.

Source: PROTOCOL.md, "Window repair": polynomial 0x11D and the coefficients. A Cauchy matrix has no
singular square part (Blömer et al., "An XOR-based erasure-resilient coding scheme", 1995), so
any n repairs with different keys over the same packets rebuild any n of them.
"""

from __future__ import annotations

from typing import Final

POLYNOMIAL: Final = 0x11D  # x^8 + x^4 + x^3 + x^2 + 1; 2 generates every element but 0
COEFFICIENTS: Final = 128  # different ones; they repeat in key and SSN at this period


def _products() -> tuple[bytes, ...]:
    """Row c, column x: c·x. Each row comes from one half or one less of its own number."""
    rows = [bytes(256), bytes(range(256))]
    double = bytes(x << 1 ^ (POLYNOMIAL if x & 0x80 else 0) for x in range(256))
    for c in range(2, 256):
        row = rows[c >> 1].translate(double)
        rows.append(add(row, rows[1]) if c & 1 else row)
    return tuple(rows)


def add(a: bytes, b: bytes) -> bytes:
    """The sum, as long as the longer; the shorter counts as padded with zeros at its end."""
    size = max(len(a), len(b))
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(size, "little")


PRODUCTS: Final = _products()
INVERSES: Final = bytes([0, *(PRODUCTS[c].index(1) for c in range(1, 256))])

# By (key ^ ssn) & 127. The two sets the Cauchy matrix is drawn from are 0..127 and 128..255, so
# their elements never meet and the inverse always exists.
CAUCHY: Final = INVERSES[COEFFICIENTS:]
SCALED: Final = tuple(PRODUCTS[c] for c in CAUCHY)  # the table that multiplies by it


def coefficient(key: int, ssn: int) -> int:
    """What packet `ssn` is multiplied by in the repair with this key: 1..255.

    1 / ((key & 127) XOR (128 | ssn & 127)); only the key travels.
    """
    return CAUCHY[(key ^ ssn) & 127]
