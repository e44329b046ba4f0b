"""Who the node is: its private key and certificate, where they come from, and what is checked.

First what the settings name, then systemd's credentials, else the node's own: made once, kept in
the state directory, and never replaced, because every invite pins the key. The certificate around
it says little to a player (his client looks at the key alone), so it is good for 20 years.

`cryptography` is imported inside functions: a node without a control port does not need it.
Source: systemd.exec(5) for $CREDENTIALS_DIRECTORY.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs
from lightspeed_protocol.errors import ConfigError
from lightspeed_protocol.runtime.config import read_text

from .config import ProxyConfig
from .state_files import locked, make_dir, one_line, readers_besides_owner, state_dir, write_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificateIssuerPrivateKeyTypes as PrivateKey,
    )
    from cryptography.x509 import Certificate
    from lightspeed_protocol.runtime.quic import ServerIdentity

log = logging.getLogger(__name__)

OWN_FILE: Final = "identity.pem"
LAST_FILE: Final = "identity.json"  # which key the node last ran with
CREDENTIAL_KEY: Final = "lightspeed-key.pem"
CREDENTIAL_CERTIFICATE: Final = "lightspeed-cert.pem"
SERVER_NAME: Final = "lightspeed-proxy"  # what clients ask for in TLS
YEARS: Final = 20
KEYS: Final = "an EC P-256, EC P-384, RSA, Ed25519 or Ed448 key"

Origin = Literal["settings", "credentials", "own"]
Warn = Callable[[str], None]


@attrs.frozen(kw_only=True)
class Pem:
    """A certificate chain and its key as text, and the files they were in."""

    origin: Origin
    certificate_path: Path
    certificate: str
    key_path: Path
    key: str = attrs.field(repr=False)


def load_identity(
    config: ProxyConfig, environ: Mapping[str, str] = os.environ, *, warn: Warn = log.warning
) -> ServerIdentity:
    """The node's identity for a start or a reload. Raises `ConfigError`.

    Reads files and, the very first time, writes one.
    """
    from lightspeed_protocol.runtime.quic import ServerIdentity

    pem = _find(config, environ) or _own(config, environ)
    certificates, key = check_pem(pem, warn)
    _remember(state_dir(config, environ), pem.origin, pin_of(certificates[0]), warn)
    return ServerIdentity(certificate=certificates[0], chain=certificates[1:], private_key=key)


def node_pin(config: ProxyConfig, environ: Mapping[str, str] = os.environ) -> bytes:
    """What an invite must pin, as a command knows it. Raises `ConfigError`.

    systemd shows its credentials to the node only, therefore the node notes the pin of theirs. The
    operator's own private key is not read: the command may run as somebody who may not.
    """
    if config.control.certificate:
        path = Path(config.control.certificate)
        return pin_of(_certificates(path, read_text(path))[0])
    pem = _find(config, environ)
    if pem is None:
        last = _last(state_dir(config, environ))
        if last is not None and last[0] == "credentials":
            return last[1]
        pem = _own(config, environ)
    return pin_of(_certificates(pem.certificate_path, pem.certificate)[0])


def problems_of_identity(config: ProxyConfig, environ: Mapping[str, str], warn: Warn) -> list[str]:
    """What would keep a node from having an identity, in words; makes nothing."""
    try:
        pem = _find(config, environ) or _own_if_there(state_dir(config, environ))
        if pem is not None:
            check_pem(pem, warn)
    except ConfigError as exc:
        return [one_line(exc)]
    return []


def pin_of(certificate: Certificate) -> bytes:
    """SHA-256 of the certificate's public key, so that a renewed certificate keeps it."""
    return hashlib.sha256(_public(certificate)).digest()


def _public(owner: Certificate | PrivateKey) -> bytes:
    """The public key of either, in one spelling (SubjectPublicKeyInfo)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _find(config: ProxyConfig, environ: Mapping[str, str]) -> Pem | None:
    """What the operator gave; None if nothing."""
    if config.control.certificate:
        origin: Origin = "settings"
        certificate, key = Path(config.control.certificate), Path(config.control.key)
    else:
        origin = "credentials"
        directory = environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            return None
        certificate = Path(directory, CREDENTIAL_CERTIFICATE)
        key = Path(directory, CREDENTIAL_KEY)
        if not certificate.exists() and not key.exists():
            return None  # credentials for something else
    return Pem(
        origin=origin,
        certificate_path=certificate,
        certificate=read_text(certificate),
        key_path=key,
        key=read_text(key),
    )


def _own(config: ProxyConfig, environ: Mapping[str, str]) -> Pem:
    """The node's own, made now if it never was."""
    directory = state_dir(config, environ)
    make_dir(directory)
    with locked(directory):  # two that start at once must not become two nodes
        found = _own_if_there(directory)
        if found is None:
            write_file(directory / OWN_FILE, make_pem(config.node.node_id, datetime.now(UTC)))
            found = _own_if_there(directory)
    assert found is not None
    return found


def _own_if_there(directory: Path) -> Pem | None:
    path = directory / OWN_FILE
    if not os.path.lexists(path):
        return None
    text = read_text(path)
    return Pem(origin="own", certificate_path=path, certificate=text, key_path=path, key=text)


def make_pem(node_id: str, now: datetime) -> str:
    """A new key and a certificate for it, in one text.

    EC P-256, because browsers take no Ed25519 in certificates. Valid from the day before, for
    players' clocks and this one's.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, node_id)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (secret + certificate.public_bytes(Encoding.PEM)).decode()


def check_pem(pem: Pem, warn: Warn) -> tuple[list[Certificate], PrivateKey]:
    """The certificates, the node's own first, and their key. Raises `ConfigError`."""
    key = _private_key(pem)
    certificates = _certificates(pem.certificate_path, pem.certificate)
    if _public(key) != _public(certificates[0]):
        raise ConfigError(
            str(pem.key_path),
            [
                f"is not the key of the first certificate in {pem.certificate_path}: name the two"
                " that belong together, the node's own certificate first in its chain"
            ],
        )
    readers = readers_besides_owner(pem.key_path)
    if readers is not None and pem.origin != "credentials":  # systemd sees to those itself
        warn(f"{pem.key_path}: {readers} may read the private key; chmod 600 it")
    ends = certificates[0].not_valid_after_utc
    if ends < datetime.now(UTC):
        warn(
            f"{pem.certificate_path}: the certificate ended on {ends:%Y-%m-%d}. Players' clients"
            " look at its key only; browsers refuse it"
        )
    return certificates, key


def _certificates(path: Path, text: str) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ConfigError(
            str(path), [f"holds no certificate in PEM that can be read; {_remedy(path)}"]
        ) from None


def _private_key(pem: Pem) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = str(pem.key_path)
    try:
        key = load_pem_private_key(pem.key.encode(), None)
    except TypeError:
        raise ConfigError(
            path, ["is locked with a password, which nobody could type: store it without one"]
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            path, [f"holds no private key in PEM that can be read; {_remedy(pem.key_path)}"]
        ) from None
    if isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(
        key.curve, ec.SECP256R1 | ec.SECP384R1
    ):
        return key
    raise ConfigError(path, [f"is of a kind that QUIC does not take: use {KEYS}"])


def _remedy(path: Path) -> str:
    if path.name == OWN_FILE:
        return (
            "restore it from a backup. Without one, move it away: the node then makes a new key,"
            " and every invite must be made again"
        )
    return "check what was put there"


def _remember(directory: Path, origin: Origin, pin: bytes, warn: Warn) -> None:
    """Note the pin for `invite`, and say when it is another one than before."""
    try:
        last = _last(directory)
        if last is not None and last[1] != pin:
            warn(
                "the node's key is another one than at its last start: invites made until then"
                " are refused by players' clients. Make new ones, or bring the old key back"
            )
        if last != (origin, pin):
            make_dir(directory)
            write_file(
                directory / LAST_FILE, json.dumps({"origin": origin, "pin": pin.hex()}) + "\n"
            )
    except ConfigError as exc:  # it is only a note
        warn(str(exc))


def _last(directory: Path) -> tuple[str, bytes] | None:
    """Where the key came from when the node last started, and its pin; None if nobody knows."""
    path = directory / LAST_FILE
    if not os.path.exists(path):
        return None
    try:
        fields = json.loads(read_text(path))
        return str(fields["origin"]), bytes.fromhex(fields["pin"])
    except (ValueError, TypeError, KeyError):
        return None
