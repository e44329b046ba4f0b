"""Throw-away keys and certificates. Their dates are real: QUIC's library reads the wall clock."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lightspeed_protocol.runtime.quic import ServerIdentity


def throw_away_identity(
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    starts: dt.timedelta = dt.timedelta(days=-1),
    lasts: dt.timedelta = dt.timedelta(days=2),
    filler: int = 0,
) -> ServerIdentity:
    """A self-signed ECDSA P-256 certificate, `filler` bytes bigger than it needs to be."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test node")])
    begin = dt.datetime.now(dt.UTC) + starts
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), begin, begin + lasts
    )
    if filler:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.32473.1")  # for documentation, RFC 5612
        extension = x509.UnrecognizedExtension(oid, bytes(filler))
        builder = builder.add_extension(extension, critical=False)
    return ServerIdentity(builder.sign(key, hashes.SHA256()), [], key)
