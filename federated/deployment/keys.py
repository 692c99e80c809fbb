"""A consortium's certificates and keys: a private authority, the server's certificate, a key pair a site."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.core.errors import UserError
from bench.core.schema import read_bytes

_AUTHORITY_DAYS, _SERVER_DAYS = 3650, 825
_ANOTHER = "ask for this folder again"
_SKEW = timedelta(minutes=10)  # a site whose clock is a little behind must not refuse a new certificate


@dataclass(frozen=True)
class Authority:
    """The consortium's own certificate authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, consortium: str) -> Authority:
        """A new one, good for ten years."""
        key = ec.generate_private_key(ec.SECP384R1())
        name = _name(f"{consortium} authority")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = _builder(name, name, key, _AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA384())
        return cls(certificate, key)

    @classmethod
    def open(cls, folder: Path) -> Authority:
        """Read `ca.crt` and `ca.key`. Raises UserError where they are not, or cannot be read."""
        try:
            certificate = x509.load_pem_x509_certificate(read_bytes(folder / "ca.crt", _ANOTHER))
            key = serialization.load_pem_private_key(read_bytes(folder / "ca.key", _ANOTHER), None)
        except (UserError, ValueError) as error:
            raise UserError(
                f"{folder} does not hold the authority's ca.crt and ca.key ({type(error).__name__}); only with "
                "them, on the machine where they are kept, can a certificate be made"
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise UserError(f"{folder}: ca.key is not the key of ca.crt")
        return cls(certificate, key)

    def server_certificate(self, hosts: list[str]) -> tuple[bytes, bytes]:
        """A certificate for these names and addresses, good for 825 days: (certificate, key) in PEM."""
        key = ec.generate_private_key(ec.SECP384R1())
        builder = _builder(_name(hosts[0]), self.certificate.subject, key, _SERVER_DAYS)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(h) for h in hosts]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH])
        certificate = builder.add_extension(usage, critical=False).sign(self.key, hashes.SHA384())
        return certificate.public_bytes(serialization.Encoding.PEM), _private(key, serialization.PrivateFormat.PKCS8)

    def pem(self) -> tuple[bytes, bytes]:
        """(certificate, key)."""
        certificate = self.certificate.public_bytes(serialization.Encoding.PEM)
        return certificate, _private(self.key, serialization.PrivateFormat.PKCS8)


def site_key() -> tuple[bytes, bytes]:
    """A site's key pair, ECDSA P-384 in OpenSSH's format, which is what Flower reads: (private, public)."""
    key = ec.generate_private_key(ec.SECP384R1())
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return _private(key, serialization.PrivateFormat.OpenSSH), key.public_key().public_bytes(*form) + b"\n"


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read. Raises FileExistsError rather than overwrite a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def days_left(certificate: Path) -> float:
    """Days until a certificate ends; negative when it has. Raises ValueError when it is none."""
    ends = x509.load_pem_x509_certificate(read_bytes(certificate, _ANOTHER)).not_valid_after_utc
    return (ends - datetime.now(UTC)).total_seconds() / 86400


def is_valid_yet(certificate: Path) -> bool:
    """Whether a certificate's first moment has passed by this machine's clock."""
    return x509.load_pem_x509_certificate(read_bytes(certificate, _ANOTHER)).not_valid_before_utc <= datetime.now(UTC)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    begins = datetime.now(UTC) - _SKEW
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins)
    return builder.not_valid_after(begins + timedelta(days=days))


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private(key: ec.EllipticCurvePrivateKey, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
