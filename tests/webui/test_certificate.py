"""The certificate serves as long as it can, is made anew when it cannot, and its key is nobody else's to read."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from webui.certificate import Certificate, context, ensure, renew

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NAMES = ("hotlap-k2x9.local", "amss-k2x9.local")
ADDRESSES = ("192.0.2.2", "fd00::2", "fe80::1%eth0")


@pytest.fixture
def first(tmp_path: Path) -> Certificate:
    return ensure(tmp_path, NAMES, ADDRESSES, NOW)


def read(certificate: Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificate.path.read_bytes())


def key_of(certificate: Certificate) -> object:
    return read(certificate).public_key()


def test_the_first_one_holds_all_names_and_addresses(first: Certificate, caplog: pytest.LogCaptureFixture) -> None:
    made = read(first)
    held = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert held.get_values_for_type(x509.DNSName) == [*NAMES, "localhost"]
    addresses = [str(address) for address in held.get_values_for_type(x509.IPAddress)]
    assert addresses == ["192.0.2.2", "fd00::2", "fe80::1", "127.0.0.1", "::1"]
    key = made.public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    assert isinstance(key.curve, SECP256R1)
    assert made.not_valid_before_utc <= NOW < made.not_valid_after_utc
    assert made.not_valid_after_utc - made.not_valid_before_utc <= timedelta(days=825)
    assert not caplog.records


def test_the_fingerprint_is_the_one_that_browsers_show(first: Certificate) -> None:
    assert first.fingerprint == read(first).fingerprint(SHA256()).hex(":").upper()
    assert len(first.fingerprint.split(":")) == 32


def test_the_key_is_readable_by_this_user_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        for make in (ensure, renew):
            assert stat.S_IMODE(make(tmp_path, NAMES, ADDRESSES, NOW).path.stat().st_mode) == 0o600
    finally:
        os.umask(mask)


def test_a_second_start_changes_nothing(tmp_path: Path, first: Certificate, caplog: pytest.LogCaptureFixture) -> None:
    before = first.path.read_bytes()
    for names, addresses in ((NAMES, ADDRESSES), (NAMES[:1], ()), ((NAMES[1].upper(),), ("FD00:0::2",))):
        assert ensure(tmp_path, names, addresses, NOW + timedelta(days=700)) == first
    assert first.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [first.path.name]
    assert not caplog.records


@pytest.mark.parametrize(
    ("names", "addresses", "later", "reason"),
    [
        ((*NAMES, "other.local"), ADDRESSES, timedelta(), "does not hold other.local"),
        (NAMES, ("192.0.2.3", "2001:db8::1"), timedelta(), "does not hold 192.0.2.3, 2001:db8::1"),
        (NAMES, ADDRESSES, timedelta(days=794, seconds=1), "ends on 2029-02-26"),
        (NAMES, ADDRESSES, timedelta(days=9000), "ends on 2029-02-26"),
        (NAMES, ADDRESSES, timedelta(days=-2), "not valid yet"),
    ],
)
def test_one_that_cannot_serve_is_made_anew_with_the_same_key(
    tmp_path: Path,
    first: Certificate,
    caplog: pytest.LogCaptureFixture,
    names: tuple[str, ...],
    addresses: tuple[str, ...],
    later: timedelta,
    reason: str,
) -> None:
    key = key_of(first)
    second = ensure(tmp_path, names, addresses, NOW + later)
    assert second.fingerprint != first.fingerprint
    assert key_of(second) == key
    assert reason in caplog.text
    assert ensure(tmp_path, names, addresses, NOW + later) == second


def blocks(certificate: Certificate) -> tuple[bytes, bytes]:
    """The key and the certificate in the file."""
    pem = certificate.path.read_bytes()
    cut = pem.index(b"-----BEGIN CERTIFICATE")
    return pem[:cut], pem[cut:]


def test_a_damaged_certificate_is_made_anew_with_the_same_key(
    tmp_path: Path, first: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    key, made = blocks(first)
    old = key_of(first)
    for damaged in (b"", made[:300], made.replace(made[300:310], b"AAAAAAAAAA")):
        first.path.write_bytes(key + damaged)
        second = ensure(tmp_path, NAMES, ADDRESSES, NOW)
        assert key_of(second) == old
        assert "it is damaged" in caplog.text
        caplog.clear()


def test_a_damaged_key_is_made_anew_with_its_certificate(
    tmp_path: Path, first: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    key, made = blocks(first)
    old = key_of(first)
    for damaged in (b"", key[:100], key.replace(key[100:110], b"AAAAAAAAAA")):
        first.path.write_bytes(damaged + made)
        second = ensure(tmp_path, NAMES, ADDRESSES, NOW)
        assert key_of(second) != old
        assert "is made anew" in caplog.text
        context(second)
        caplog.clear()


def test_a_pair_that_does_not_match_is_made_anew(tmp_path: Path, first: Certificate) -> None:
    (tmp_path / "other").mkdir()
    other = renew(tmp_path / "other", NAMES, ADDRESSES, NOW)
    first.path.write_bytes(blocks(first)[0] + blocks(other)[1])
    context(ensure(tmp_path, NAMES, ADDRESSES, NOW))


@pytest.mark.parametrize("junk", [b"", b"junk", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_that_is_none_is_made_anew(tmp_path: Path, first: Certificate, junk: bytes) -> None:
    first.path.write_bytes(junk)
    context(ensure(tmp_path, NAMES, ADDRESSES, NOW))


def test_to_renew_makes_both_anew(tmp_path: Path, first: Certificate) -> None:
    key = key_of(first)
    second = renew(tmp_path, NAMES, ADDRESSES, NOW)
    assert key_of(second) != key
    assert ensure(tmp_path, NAMES, ADDRESSES, NOW) == second


def test_a_long_name_fits(tmp_path: Path) -> None:
    name = f"{'a' * 63}.local"
    held = read(ensure(tmp_path, [name], [], NOW)).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert name in held.value.get_values_for_type(x509.DNSName)


def test_the_key_is_in_no_log_and_no_repr(tmp_path: Path, first: Certificate, caplog: pytest.LogCaptureFixture) -> None:
    key, _ = blocks(first)
    first.path.write_bytes(key)
    second = ensure(tmp_path, NAMES, ADDRESSES, NOW)
    assert "PRIVATE" not in f"{caplog.text}{second!r}"
    assert not [line for line in key.decode().splitlines() if line in caplog.text]


async def greet(certificate: Certificate, client: ssl.SSLContext) -> str | None:
    """Connect to a server of that certificate, by the name of this machine; the version of TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context(certificate))
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
        version: str | None = writer.get_extra_info("ssl_object").version()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        return version


async def test_who_trusts_it_connects(tmp_path: Path) -> None:
    today = ensure(tmp_path, NAMES, ADDRESSES, datetime.now(UTC))
    client = ssl.create_default_context(cadata=blocks(today)[1].decode())
    assert await greet(today, client) == "TLSv1.3"
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await greet(today, client) == "TLSv1.2"


async def test_who_does_not_trust_it_does_not(first: Certificate) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await greet(first, ssl.create_default_context())


def test_nothing_older_than_tls_1_2_is_spoken(first: Certificate) -> None:
    assert context(first).minimum_version == ssl.TLSVersion.TLSv1_2
