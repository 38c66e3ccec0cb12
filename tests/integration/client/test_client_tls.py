"""TLS from the client's side: right certificates work, wrong ones give a typed error in time."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import trustme

from replcache import Client, errors
from tests.helpers.client_driver import ClusterThread


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_cluster(authority: trustme.CA, seed: int) -> Iterator[ClusterThread]:
    server = authority.issue_cert("127.0.0.1", "cache.example")
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    thread = ClusterThread(1, seed, credentials)
    yield thread
    thread.close()


def write_files(folder: Path, authority: trustme.CA, client: trustme.CA) -> dict[str, str]:
    certificate = client.issue_cert("client")
    files = {"ca": folder / "ca.pem", "cert": folder / "cert.pem", "key": folder / "key.pem"}
    authority.cert_pem.write_to_path(files["ca"])
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    return {name: str(path) for name, path in files.items()}


def test_mutual_tls(tls_cluster: ClusterThread, authority: trustme.CA, tmp_path: Path) -> None:
    files = write_files(tmp_path, authority, authority)
    address = tls_cluster.cluster.nodes[0].address
    with Client(address, tls=True, **files) as client:
        client.set("key", 1)
        assert client.get_value("key") == 1
    query = "&".join(f"{name}={path}" for name, path in files.items())
    with Client(f"replcaches://{address}/?{query}&server_name=cache.example") as client:
        assert client.get_value("key") == 1


def test_wrong_authority_wrong_certificate_and_no_tls_are_unavailable(
    tls_cluster: ClusterThread, authority: trustme.CA, tmp_path: Path
) -> None:
    stranger = trustme.CA()
    address = tls_cluster.cluster.nodes[0].address
    for number, (trusted, issuer) in enumerate([(stranger, authority), (authority, stranger)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Client(address, tls=True, timeout=0.5, **write_files(folder, trusted, issuer)) as client:
            with pytest.raises(errors.NotApplied):
                client.set("key", 1)
    with Client(address, timeout=0.5) as client, pytest.raises(errors.NotApplied):
        client.set("key", 1)
    assert tls_cluster.state.entries == {}


def test_missing_file_is_named(tmp_path: Path) -> None:
    client = Client("127.0.0.1:1", tls=True, ca=str(tmp_path / "nothing.pem"))
    with pytest.raises(errors.InvalidRequest, match=r"nothing\.pem") as caught:
        client.get("key")
    assert caught.value.field == "ca"
    client.close()
