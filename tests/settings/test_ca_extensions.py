"""CA certificates that Python 3.13 rejects, on every Python."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from poller.advice import missing_extensions

COMPLETE = {"key usage", "critical", "identifier"}
KEY = generate_private_key(SECP256R1())
SERVER_KEY = generate_private_key(SECP256R1())
CERT_SIGN = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def named(text: str) -> x509.Name:
    """Return the name of a subject."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def builder(subject: str, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """Return a certificate of the CA that is not signed yet."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(named("Corp CA"), named(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )


def write_ca(path: Path, extensions: set[str]) -> Path:
    """Write the certificate of a CA that has only some of the extensions it should have."""
    ca = builder("Corp CA", KEY).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical="critical" in extensions
    )
    if "key usage" in extensions:
        ca = ca.add_extension(CERT_SIGN, critical=True)
    if "identifier" in extensions:
        identifier = x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
        ca = ca.add_extension(identifier, critical=False)
    path.write_bytes(ca.sign(KEY, SHA256()).public_bytes(Encoding.PEM))
    return path


def write_server(path: Path) -> Path:
    """Write a complete certificate of a server, with its key."""
    server = (
        builder("127.0.0.1", SERVER_KEY)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(KEY.public_key()), False)
        .sign(KEY, SHA256())
    )
    key = SERVER_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(server.public_bytes(Encoding.PEM) + key)
    return path


def is_trusted(ca: Path, server: Path) -> bool:
    """Return whether a TLS client of Python 3.13 accepts the server with this CA."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(server)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        context.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        serving.wrap_bio(to_server, to_client, server_side=True),
    ]
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


@pytest.mark.parametrize(
    ("extensions", "missing"),
    [
        (COMPLETE, []),
        (COMPLETE - {"key usage"}, ["a key usage"]),
        (COMPLETE - {"critical"}, ["critical basic constraints"]),
        (COMPLETE - {"identifier"}, ["a subject key identifier"]),
        (set(), ["a key usage", "critical basic constraints", "a subject key identifier"]),
    ],
)
def test_missing_extensions_are_those_that_a_strict_client_requires(
    tmp_path: Path, extensions: set[str], missing: list[str]
):
    """A CA lacks nothing exactly if a strict TLS client accepts its servers."""
    ca, server = write_ca(tmp_path / "ca.pem", extensions), write_server(tmp_path / "server.pem")

    assert missing_extensions(ca) == missing
    assert is_trusted(ca, server) == (not missing)
