"""The console's certificate: self-signed, because a car has no name that anybody could vouch for."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from drivers.disk import write_atomically

log = logging.getLogger(__name__)

FILE: Final = "certificate.pem"
LIFE: Final = timedelta(days=825)
"""Apple's devices take no longer one."""
REMAINDER: Final = timedelta(days=30)
"""Before its end a certificate is made anew."""
SLACK: Final = timedelta(days=1)
"""By so much a visitor's clock may be behind the car's."""
LONGEST_COMMON_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Certificate:
    """One PEM file with the key and the certificate, so that no power cut parts them; and the SHA-256 by which browsers
    show it."""

    path: Path
    fingerprint: str


def ensure(folder: Path, names: Iterable[str], addresses: Iterable[str], now: datetime.datetime) -> Certificate:
    """The certificate in `folder`, which exists; made anew when it cannot serve for these names and IP addresses at
    `now`, a time with its zone.

    A sound key stays: by it, whoever is careful knows the car again after it has moved to another network. Raises
    OSError.
    """
    path, wanted = folder / FILE, _alternatives(names, addresses)
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        return _make(path, None, wanted, now)
    key = _key(pem)
    try:
        found = x509.load_pem_x509_certificate(pem)
        flaw = _flaw(found, key, wanted, now)
    except (ValueError, InvalidSignature, x509.ExtensionNotFound):
        flaw = "it is damaged"
    else:
        if flaw is None:
            return Certificate(path, _fingerprint(found))
    log.warning("The console's certificate is made anew, so browsers will ask about it again: %s.", flaw)
    return _make(path, key, wanted, now)


def renew(folder: Path, names: Iterable[str], addresses: Iterable[str], now: datetime.datetime) -> Certificate:
    """A new key and a new certificate in `folder`, which exists, in place of whatever is there. Raises OSError."""
    return _make(folder / FILE, None, _alternatives(names, addresses), now)


def context(certificate: Certificate) -> ssl.SSLContext:
    """For a server, TLS 1.2 and up. Raises OSError."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(certificate.path)
    return tls


def _alternatives(names: Iterable[str], addresses: Iterable[str]) -> list[x509.GeneralName]:
    hosts = dict.fromkeys([*(name.lower() for name in names), "localhost"])
    numbers = dict.fromkeys(
        # A zone, as in fe80::1%eth0, means something on this machine only.
        ipaddress.ip_address(address.partition("%")[0])
        for address in (*addresses, "127.0.0.1", "::1")
    )
    return [*map(x509.DNSName, hosts), *map(x509.IPAddress, numbers)]


def _key(pem: bytes) -> EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1) else None


def _flaw(
    found: x509.Certificate,
    key: EllipticCurvePrivateKey | None,
    wanted: list[x509.GeneralName],
    now: datetime.datetime,
) -> str | None:
    """Why this certificate cannot serve. Raises much when it is damaged."""
    if key is None or key.public_key() != found.public_key():
        return "its key is damaged or another's"
    found.verify_directly_issued_by(found)
    held = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    missing = [str(name.value) for name in wanted if name not in held]
    if missing:
        return f"it does not hold {', '.join(missing)}"
    if now < found.not_valid_before_utc:
        return "it is not valid yet"
    if now >= found.not_valid_after_utc - REMAINDER:
        return f"it ends on {found.not_valid_after_utc:%Y-%m-%d}"
    return None


def _make(
    path: Path, key: EllipticCurvePrivateKey | None, wanted: list[x509.GeneralName], now: datetime.datetime
) -> Certificate:
    key = key or generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(wanted[0].value)[:LONGEST_COMMON_NAME])])
    start = now - SLACK
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFE)
        .add_extension(x509.SubjectAlternativeName(wanted), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_atomically(path, secret + made.public_bytes(Encoding.PEM), 0o600)
    return Certificate(path, _fingerprint(made))


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA256()).hex(":").upper()
