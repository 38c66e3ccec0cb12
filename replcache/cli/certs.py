"""`replcache certs`: a certificate authority for one cluster, with certificates for its nodes and clients.

Meant for clusters that have no authority of their own. Everything is ECDSA P-256. A node's certificate names
the node (peers check that name) and the hosts under which clients reach it; it serves both directions, since
every node dials every other. Nothing that exists is overwritten unless it is asked for.
"""

import datetime
import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from replcache.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

CA_NAME = "ca"
NAME_PATTERN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
# A clock that is a little behind must not refuse a fresh certificate.
BACKDATED = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a certificate is for; `hosts` are DNS names and IP addresses beside the name itself."""

    name: str
    hosts: tuple[str, ...] = ()
    is_node: bool = True


def parse_node(text: str) -> Subject:
    """Subject of "n1" or "n1=cache1.example.com,10.0.0.1".

    Raises:
        ConfigError: the name or a host is not usable in a certificate.
    """
    name, _, hosts = text.partition("=")
    subject = Subject(name.strip(), tuple(host.strip() for host in hosts.split(",") if host.strip()))
    for part in (subject.name, *subject.hosts):
        if not NAME_PATTERN.fullmatch(part) and not _is_address(part):
            raise ConfigError(f"--node {text!r}: {part!r} is neither a DNS name nor an IP address")
    return subject


def parse_client(text: str) -> Subject:
    if not NAME_PATTERN.fullmatch(text):
        raise ConfigError(f"--client {text!r}: use letters, digits, '.', '_' and '-', at most 63")
    return Subject(text, is_node=False)


def make(
    directory: Path, subjects: list[Subject], days: int, ca_days: int, renew: bool
) -> list[tuple[Path, str]]:
    """Makes what is missing (with `renew` also what exists, but never a new authority).

    Returns:
        (certificate file, what was done with it) for the authority and each subject.
    Raises:
        ConfigError: two subjects share a name, or the authority has a certificate but no readable key.
    """
    names = [subject.name for subject in subjects]
    if doubled := sorted({name for name in names if names.count(name) > 1 or name == CA_NAME}):
        raise ConfigError(f"each name needs to be its own: {', '.join(doubled)}")
    directory.mkdir(parents=True, exist_ok=True)
    done = []
    ca_file = directory / f"{CA_NAME}.pem"
    ca_existed = ca_file.exists()
    authority, authority_key = (
        _load_authority(directory) if ca_existed else _make_authority(directory, ca_days)
    )
    done.append((ca_file, "kept" if ca_existed else "made"))
    for subject in subjects:
        certificate_file = directory / f"{subject.name}.pem"
        existed = certificate_file.exists()
        if existed and not renew:
            done.append((certificate_file, "kept"))
            continue
        _make_leaf(directory, subject, authority, authority_key, days)
        done.append((certificate_file, "renewed" if existed else "made"))
    return done


def _make_authority(directory: Path, days: int) -> tuple["x509.Certificate", "ec.EllipticCurvePrivateKey"]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _distinguished_name(f"replcache authority {os.urandom(4).hex()}")
    usage = _key_usage(key_cert_sign=True, crl_sign=True, digital_signature=False)
    certificate = (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_pair(directory, CA_NAME, certificate, key)
    return certificate, key


def _load_authority(directory: Path) -> tuple["x509.Certificate", "ec.EllipticCurvePrivateKey"]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key_file = directory / f"{CA_NAME}.key"
    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{CA_NAME}.pem").read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the authority in {directory} can't be used: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{key_file} is not the key of {directory / CA_NAME}.pem")
    return certificate, key


def _make_leaf(
    directory: Path,
    subject: Subject,
    authority: "x509.Certificate",
    authority_key: "ec.EllipticCurvePrivateKey",
    days: int,
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if subject.is_node:
        purposes.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    usage = _key_usage(key_cert_sign=False, crl_sign=False, digital_signature=True)
    builder = (
        _builder(_distinguished_name(subject.name), authority.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(_alternative_names(subject)), critical=False)
    )
    _write_pair(directory, subject.name, builder.sign(authority_key, hashes.SHA256()), key)


def _alternative_names(subject: Subject) -> "list[x509.GeneralName]":
    from cryptography import x509

    return [
        x509.IPAddress(ipaddress.ip_address(host)) if _is_address(host) else x509.DNSName(host)
        for host in dict.fromkeys((subject.name, *subject.hosts))
    ]


def _builder(
    subject: "x509.Name", issuer: "x509.Name", key: "ec.EllipticCurvePrivateKey", days: int
) -> "x509.CertificateBuilder":
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _distinguished_name(common_name: str) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "replcache"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(*, key_cert_sign: bool, crl_sign: bool, digital_signature: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _write_pair(
    directory: Path, name: str, certificate: "x509.Certificate", key: "ec.EllipticCurvePrivateKey"
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    # Key first: a certificate without its key would be kept for ever, a key without one is replaced.
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(directory / f"{name}.key", secret, 0o600)
    _write(directory / f"{name}.pem", certificate.public_bytes(Encoding.PEM), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Writes with these rights from the first byte on, and replaces at once."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as output:
        output.write(data)
        output.flush()
        os.fsync(output.fileno())
    temporary.replace(path)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
