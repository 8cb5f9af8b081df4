"""Certificates of an authority of one's own, and a TLS handshake in memory that fails by them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(host: str) -> tuple[str, bytes]:
    """An authority as PEM, and as PEM too a key with the certificate that it signed for this host."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    key, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    root = _begin(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    leaf = _begin(subject, name, own).add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    pem = serialization.Encoding.PEM
    secret = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (
        root.sign(key, hashes.SHA256()).public_bytes(pem).decode(),
        secret + leaf.sign(key, hashes.SHA256()).public_bytes(pem),
    )


def _begin(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))


def fail_handshake(client: ssl.SSLContext, certificate: bytes, host: str) -> ssl.SSLError:
    """What a client raises that meets this certificate under this name."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        file = Path(folder, "both.pem")
        file.write_bytes(certificate)
        server.load_cert_chain(file)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks, answers = client.wrap_bio(back, there, server_hostname=host), server.wrap_bio(there, back, server_side=True)
    for side in (asks, answers, asks):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            return error
    raise AssertionError("the handshake succeeded")
