from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from lightspeed_protocol.errors import ConfigError
from lightspeed_proxy.config import ProxyConfig, Source
from lightspeed_proxy.identity import (
    CREDENTIAL_CERTIFICATE,
    CREDENTIAL_KEY,
    OWN_FILE,
    Pem,
    check_pem,
    load_identity,
    make_pem,
    node_pin,
    pin_of,
    problems_of_identity,
)

NOW = datetime.now(UTC)
NOBODY: dict[str, str] = {}


def never(text: str) -> None:
    raise AssertionError(f"warned: {text}")


def split(pem: str) -> tuple[str, str]:
    """The key and the certificates of a text that holds both."""
    at = pem.index("-----BEGIN CERTIFICATE")
    return pem[:at], pem[at:]


def settings(state: Path, certificate: Path | None = None, key: Path | None = None) -> ProxyConfig:
    config = Source(state=str(state)).read()
    if certificate is None or key is None:
        return config
    control = attrs.evolve(config.control, certificate=str(certificate), key=str(key))
    return attrs.evolve(config, control=control)


@pytest.fixture
def own(tmp_path: Path) -> ProxyConfig:
    return settings(tmp_path / "state")


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., ProxyConfig]:
    """Settings that name these texts as the operator's certificate and key."""

    def write(certificate: str, key: str) -> ProxyConfig:
        (tmp_path / "cert.pem").write_text(certificate)
        (tmp_path / "key.pem").write_text(key)
        (tmp_path / "key.pem").chmod(0o600)
        return settings(tmp_path / "state", tmp_path / "cert.pem", tmp_path / "key.pem")

    return write


def test_a_node_makes_its_identity_once_and_keeps_it(own: ProxyConfig) -> None:
    first = load_identity(own, NOBODY, warn=never)
    again = load_identity(own, NOBODY, warn=never)
    assert first.spki_pin == again.spki_pin == node_pin(own, NOBODY)
    assert first.certificate == again.certificate
    assert first.chain == []
    path = Path(own.node.state_dir, OWN_FILE)
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_directories_are_two_nodes(tmp_path: Path) -> None:
    pins = {node_pin(settings(tmp_path / name), NOBODY) for name in ("a", "b")}
    assert len(pins) == 2


def test_the_command_may_come_first(own: ProxyConfig) -> None:
    pin = node_pin(own, NOBODY)
    assert load_identity(own, NOBODY, warn=never).spki_pin == pin


def test_the_certificate_is_one_that_browsers_and_bad_clocks_can_live_with() -> None:
    certificate = x509.load_pem_x509_certificate(split(make_pem("kitchen", NOW))[1].encode())
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert certificate.subject.rfc4514_string() == "CN=kitchen"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["lightspeed-proxy"]
    assert certificate.not_valid_before_utc <= NOW - timedelta(hours=23)
    assert certificate.not_valid_after_utc >= NOW + timedelta(days=19 * 365)


def test_the_longest_node_id_fits_into_the_certificate(tmp_path: Path) -> None:
    config = settings(tmp_path)
    config = attrs.evolve(config, node=attrs.evolve(config.node, node_id="\u00e4" * 32))
    load_identity(config, NOBODY, warn=never)


def test_a_renewed_certificate_for_the_same_key_keeps_the_pin(
    put: Callable[..., ProxyConfig],
) -> None:
    key, certificate = split(make_pem("node", NOW))
    before = load_identity(put(certificate, key), NOBODY, warn=never)
    renewed = renew(key)
    assert renewed != certificate
    after = load_identity(put(renewed, key), NOBODY, warn=never)
    assert after.certificate != before.certificate
    assert after.spki_pin == before.spki_pin


def renew(key: str) -> str:
    """Another certificate for the same key."""
    private = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return certify(private)


def certify(
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    ended: bool = False,
) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=2))
        .not_valid_after(NOW + timedelta(days=-1 if ended else 1))
        .sign(private, None if isinstance(private, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def in_pem(key: PrivateKeyTypes, password: bytes | None = None) -> str:
    """Any private key as PEM."""
    lock = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    raw = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    assert isinstance(raw, bytes)
    return raw.decode()


@pytest.mark.parametrize(
    "private",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-384", "RSA", "Ed25519"],
)
def test_an_operators_own_certificate_and_chain_are_used(
    put: Callable[..., ProxyConfig],
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    leaf, issuer = certify(private), split(make_pem("issuer", NOW))[1]
    config = put(leaf + issuer, in_pem(private))
    identity = load_identity(config, NOBODY, warn=never)
    assert identity.certificate == x509.load_pem_x509_certificate(leaf.encode())
    assert identity.chain == [x509.load_pem_x509_certificate(issuer.encode())]
    assert identity.spki_pin == node_pin(config, NOBODY) == pin_of(identity.certificate)
    assert not Path(config.node.state_dir, OWN_FILE).exists()


def test_the_command_does_not_read_the_operators_key(put: Callable[..., ProxyConfig]) -> None:
    key, certificate = split(make_pem("node", NOW))
    config = put(certificate, key)
    Path(config.control.key).unlink()
    assert len(node_pin(config, NOBODY)) == 32


def test_what_does_not_belong_together_or_cannot_be_used_is_refused(
    put: Callable[..., ProxyConfig],
) -> None:
    key, certificate = split(make_pem("node", NOW))
    other, _ = split(make_pem("node", NOW))
    private = serialization.load_pem_private_key(key.encode(), None)
    curve = ec.generate_private_key(ec.SECP521R1())
    for cert_text, key_text, problem in [
        (certificate, other, "is not the key of the first certificate in"),
        ("", key, "holds no certificate in PEM that can be read"),
        (certificate.replace("M", "!"), key, "holds no certificate in PEM that can be read"),
        (certificate, "", "holds no private key in PEM that can be read"),
        (certificate, certificate, "holds no private key in PEM that can be read"),
        (certificate, in_pem(private, b"secret"), "is locked with a password"),
        (certify(curve), in_pem(curve), "use an EC P-256, EC P-384, RSA"),
        (certificate, in_pem(dsa.generate_private_key(1024)), "use an EC P-256, EC P-384, RSA"),
    ]:
        with pytest.raises(ConfigError, match=problem):
            load_identity(put(cert_text, key_text), NOBODY, warn=never)
        (told,) = problems_of_identity(put(cert_text, key_text), NOBODY, never)
        assert problem in told
        assert "\n" not in told


def test_a_missing_file_of_the_operator_is_named(tmp_path: Path) -> None:
    config = settings(tmp_path, tmp_path / "cert.pem", tmp_path / "key.pem")
    with pytest.raises(ConfigError, match=r"cert.pem:\n  no such file"):
        load_identity(config, NOBODY, warn=never)


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\n"])
def test_a_broken_identity_is_never_replaced(own: ProxyConfig, text: str) -> None:
    path = Path(own.node.state_dir, OWN_FILE)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigError, match="restore it from a backup"):
        load_identity(own, NOBODY, warn=never)
    with pytest.raises(ConfigError, match="restore it from a backup"):
        node_pin(own, NOBODY)
    assert path.read_text() == text


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_key_that_others_may_read_is_warned_about(put: Callable[..., ProxyConfig]) -> None:
    key, certificate = split(make_pem("node", NOW))
    config = put(certificate, key)
    Path(config.control.key).chmod(0o644)
    warnings: list[str] = []
    load_identity(config, NOBODY, warn=warnings.append)
    (warning,) = warnings
    assert "everybody may read the private key" in warning


def test_an_ended_certificate_still_works_and_is_warned_about(
    put: Callable[..., ProxyConfig],
) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    warnings: list[str] = []
    load_identity(put(certify(private, ended=True), in_pem(private)), NOBODY, warn=warnings.append)
    (warning,) = warnings
    assert "the certificate ended on" in warning


def test_another_key_than_last_time_is_told_once(put: Callable[..., ProxyConfig]) -> None:
    warnings: list[str] = []
    for text in (make_pem("node", NOW), make_pem("node", NOW)):
        key, certificate = split(text)
        config = put(certificate, key)
        load_identity(config, NOBODY, warn=warnings.append)
        load_identity(config, NOBODY, warn=warnings.append)
    (warning,) = warnings
    assert "invites made until then are refused" in warning


def credentials(directory: Path) -> dict[str, str]:
    directory.mkdir(exist_ok=True)
    key, certificate = split(make_pem("node", NOW))
    (directory / CREDENTIAL_KEY).write_text(key)
    (directory / CREDENTIAL_CERTIFICATE).write_text(certificate)
    return {"CREDENTIALS_DIRECTORY": str(directory)}


def test_systemds_credentials_are_used_and_their_pin_noted_for_the_command(
    own: ProxyConfig, tmp_path: Path
) -> None:
    identity = load_identity(own, credentials(tmp_path / "given"), warn=never)
    assert node_pin(own, NOBODY) == identity.spki_pin, "the command does not see them"
    assert not Path(own.node.state_dir, OWN_FILE).exists()


def test_a_node_without_its_credentials_again_is_noted_too(
    own: ProxyConfig, tmp_path: Path
) -> None:
    load_identity(own, credentials(tmp_path / "given"), warn=never)
    warnings: list[str] = []
    identity = load_identity(own, NOBODY, warn=warnings.append)
    assert len(warnings) == 1
    assert node_pin(own, NOBODY) == identity.spki_pin


def test_credentials_for_something_else_are_left_alone(own: ProxyConfig, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("secret")
    load_identity(own, {"CREDENTIALS_DIRECTORY": str(tmp_path)}, warn=never)
    assert Path(own.node.state_dir, OWN_FILE).exists()


def test_half_of_the_credentials_is_a_mistake(own: ProxyConfig, tmp_path: Path) -> None:
    environ = credentials(tmp_path / "given")
    (tmp_path / "given" / CREDENTIAL_KEY).unlink()
    with pytest.raises(ConfigError, match=r"lightspeed-key.pem:\n  no such file"):
        load_identity(own, environ, warn=never)


def test_a_damaged_note_is_written_anew(own: ProxyConfig) -> None:
    load_identity(own, NOBODY, warn=never)
    note = Path(own.node.state_dir, "identity.json")
    good = note.read_text()
    for text in ("", "[]", "{}", '{"origin": "own", "pin": 5}'):
        note.write_text(text)
        load_identity(own, NOBODY, warn=never)
        assert note.read_text() == good


def test_checking_makes_nothing(own: ProxyConfig) -> None:
    assert problems_of_identity(own, NOBODY, never) == []
    assert not Path(own.node.state_dir).exists()


def test_no_text_shows_the_key(tmp_path: Path) -> None:
    text = make_pem("node", NOW)
    pem = Pem(
        origin="own", certificate_path=tmp_path, certificate=text, key_path=tmp_path, key=text
    )
    assert "PRIVATE KEY" not in repr(attrs.evolve(pem, certificate=""))
    assert len(check_pem(pem, lambda text: None)[0]) == 1
