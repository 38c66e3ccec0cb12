"""The certificate helper: TLS accepts what it makes, secrets stay secret, nothing is overwritten."""

import ipaddress
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509

from replcache.cli import certs
from replcache.cli.certs import Subject
from replcache.errors import ConfigError

NODE = Subject("n1", ("127.0.0.1", "localhost"))
CLIENT = Subject("app", is_node=False)


def make(directory: Path, *subjects: Subject, renew: bool = False) -> list[tuple[Path, str]]:
    return certs.make(directory, list(subjects), days=30, ca_days=60, renew=renew)


def mutual_handshake(directory: Path, server: str, client: str, server_name: str) -> None:
    """One TLS connection where both sides show a certificate; raises when either refuses."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory / "ca.pem"))
    serving.load_cert_chain(directory / f"{server}.pem", directory / f"{server}.key")
    serving.verify_mode = ssl.CERT_REQUIRED
    asking = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    asking.load_cert_chain(directory / f"{client}.pem", directory / f"{client}.key")
    left, right = socket.socketpair()
    problems: list[Exception] = []

    def serve() -> None:
        try:
            with serving.wrap_socket(left, server_side=True) as accepted:
                accepted.sendall(b"x")
        except (ssl.SSLError, OSError) as error:
            problems.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with asking.wrap_socket(right, server_hostname=server_name) as connected:
            assert connected.recv(1) == b"x"
    finally:
        thread.join(timeout=10)
    if problems:
        raise problems[0]


@pytest.mark.parametrize("server_name", ["n1", "localhost", "127.0.0.1"])
def test_node_and_client_accept_each_other(tmp_path: Path, server_name: str) -> None:
    make(tmp_path, NODE, CLIENT)
    mutual_handshake(tmp_path, "n1", "app", server_name)


def test_nodes_accept_each_other_in_both_directions(tmp_path: Path) -> None:
    make(tmp_path, NODE, Subject("n2", ("10.0.0.2",)))
    mutual_handshake(tmp_path, "n1", "n2", "n1")
    mutual_handshake(tmp_path, "n2", "n1", "10.0.0.2")


def test_client_certificate_can_not_serve(tmp_path: Path) -> None:
    make(tmp_path, NODE, CLIENT)
    with pytest.raises(ssl.SSLError):
        mutual_handshake(tmp_path, "app", "n1", "app")


def test_other_name_is_refused(tmp_path: Path) -> None:
    make(tmp_path, NODE, CLIENT)
    with pytest.raises(ssl.SSLError):
        mutual_handshake(tmp_path, "n1", "app", "n2")


def test_other_authority_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a", NODE, CLIENT)
    make(tmp_path / "b", Subject("stranger", is_node=False))
    for suffix in ("pem", "key"):
        (tmp_path / "b" / f"stranger.{suffix}").rename(tmp_path / "a" / f"stranger.{suffix}")
    with pytest.raises((ssl.SSLError, OSError)):
        mutual_handshake(tmp_path / "a", "n1", "stranger", "n1")


def test_private_keys_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    make(tmp_path, NODE, CLIENT)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {modes[name] for name in ("ca.key", "n1.key", "app.key")} == {0o600}
    assert not [name for name in modes if name.endswith(".tmp")]


def test_existing_files_are_kept_until_asked_otherwise(tmp_path: Path) -> None:
    make(tmp_path, NODE)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = {path.name: state for path, state in make(tmp_path, NODE, CLIENT)}
    assert done == {"ca.pem": "kept", "n1.pem": "kept", "app.pem": "made"}
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    done = {path.name: state for path, state in make(tmp_path, NODE, renew=True)}
    assert done == {"ca.pem": "kept", "n1.pem": "renewed"}
    assert (tmp_path / "ca.pem").read_bytes() == before["ca.pem"]
    assert (tmp_path / "n1.pem").read_bytes() != before["n1.pem"]
    mutual_handshake(tmp_path, "n1", "app", "n1")


def test_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a", NODE)
    make(tmp_path / "b")
    (tmp_path / "b" / "ca.key").replace(tmp_path / "a" / "ca.key")
    with pytest.raises(ConfigError, match="is not the key of"):
        make(tmp_path / "a", CLIENT)


def test_addresses_and_names_are_told_apart(tmp_path: Path) -> None:
    make(tmp_path, certs.parse_node("n1=cache1.example.com, 10.0.0.1,::1"))
    certificate = x509.load_pem_x509_certificate((tmp_path / "n1.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1", "cache1.example.com"]
    addresses = [ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("::1")]
    assert names.get_values_for_type(x509.IPAddress) == addresses


@pytest.mark.parametrize("text", ["", "=host", "n1=a b", "n1=-x", "../n1", "n1=host:7401"])
def test_unusable_node_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        certs.parse_node(text)


@pytest.mark.parametrize("text", ["", "a/b", "../x", "a b"])
def test_unusable_client_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        certs.parse_client(text)


@pytest.mark.parametrize("names", [("n1", "n1"), ("ca",)])
def test_names_that_would_share_a_file_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="its own"):
        make(tmp_path, *(Subject(name) for name in names))
