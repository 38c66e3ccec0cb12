"""TLS on the client and HTTP ports: who gets in, and certificates that change while the node runs."""

import ssl
from pathlib import Path

import aiohttp
import grpc
import pytest
import trustme

from replcache.errors import ConfigError
from replcache.pb.v1 import cache_pb2 as pb
from replcache.server import tls
from tests.helpers.serving import Serving, serving, stubs
from tests.helpers.wait import async_wait_until

S = grpc.StatusCode
SET = pb.SetRequest(key=b"k", value=b"v")


class Authority:
    """A CA and the files of one server certificate."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.cert, self.key, self.roots = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.roots)
        self.issue()

    def issue(self) -> None:
        leaf = self.ca.issue_cert("localhost")
        leaf.private_key_pem.write_to_path(self.key)
        leaf.cert_chain_pems[0].write_to_path(self.cert)

    def client(self) -> trustme.LeafCert:
        return self.ca.issue_cert("client@example.org")

    @property
    def settings(self) -> dict[str, Path]:
        return {"tls_cert": self.cert, "tls_key": self.key}


def secure(one: Serving, roots: bytes, leaf: trustme.LeafCert | None = None) -> grpc.aio.Channel:
    key, chain = (leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes()) if leaf else (None, None)
    port = one.server.grpc_address.rpartition(":")[2]
    options = [("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(roots, key, chain)
    return grpc.aio.secure_channel(f"localhost:{port}", credentials, options)


async def can_write(channel: grpc.aio.Channel) -> bool:
    async with channel:
        call = stubs(channel)[0].Set(SET, timeout=3)
        code = await call.code()
    assert code in (S.OK, S.UNAVAILABLE, S.DEADLINE_EXCEEDED)
    return bool(code is S.OK)


async def test_client_that_trusts_the_authority_gets_in_and_plaintext_does_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with serving(**authority.settings) as one:
        assert await can_write(secure(one, authority.ca.cert_pem.bytes()))
        assert not await can_write(secure(one, trustme.CA().cert_pem.bytes()))
        assert not await can_write(grpc.aio.insecure_channel(one.server.grpc_address))


async def test_mutual_tls_wants_a_certificate_of_the_clients_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    roots = authority.ca.cert_pem.bytes()
    async with serving(
        **authority.settings, tls_client_ca=authority.roots, client_auth="require", http_tls=False
    ) as one:
        assert await can_write(secure(one, roots, authority.client()))
        assert not await can_write(secure(one, roots))
        assert not await can_write(secure(one, roots, trustme.CA().issue_cert("client@example.org")))


async def test_renewed_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    """The certificate of another authority takes over without a restart; a broken file changes nothing."""
    old_folder = tmp_path / "old"
    old_folder.mkdir()
    old, served = Authority(old_folder), Authority(tmp_path)
    first = served.ca.cert_pem.bytes()
    async with serving(**served.settings) as one:
        assert await can_write(secure(one, first))
        served.key.write_text("half a file")
        assert await can_write(secure(one, first))
        served.cert.write_bytes(old.cert.read_bytes())
        served.key.write_bytes(old.key.read_bytes())

        async def took_over() -> bool:
            return await can_write(secure(one, old.ca.cert_pem.bytes()))

        await async_wait_until(took_over, what="the new certificate is served")
        assert not await can_write(secure(one, first))


async def http_status(one: Serving, roots: Path) -> int:
    port = one.server.http_address.rpartition(":")[2]
    context = ssl.create_default_context(cafile=roots)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"https://localhost:{port}/healthz", ssl=context) as answer:
            return answer.status


async def test_http_port_serves_tls_and_reloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replcache.constants.TLS_RELOAD_INTERVAL_S", 0.05)
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other, served = Authority(other_folder), Authority(tmp_path)
    async with serving(**served.settings) as one:
        assert await http_status(one, served.roots) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http_status(one, other.roots)
        served.cert.write_bytes(other.cert.read_bytes())
        served.key.write_bytes(other.key.read_bytes())

        async def took_over() -> bool:
            try:
                return await http_status(one, other.roots) == 200
            except aiohttp.ClientConnectorCertificateError:
                return False

        await async_wait_until(took_over, what="the new certificate is served")


@pytest.mark.parametrize("broken", ["cert", "key", "mismatch", "missing"])
async def test_files_that_can_not_be_used_stop_the_start(tmp_path: Path, broken: str) -> None:
    authority = Authority(tmp_path)
    if broken == "cert":
        authority.cert.write_text("no certificate")
    elif broken == "key":
        authority.key.write_text("no key")
    elif broken == "mismatch":
        authority.cert.write_bytes(authority.ca.issue_cert("localhost").cert_chain_pems[0].bytes())
    else:
        authority.key.unlink()
    with pytest.raises(ConfigError, match=r"TLS files can't be used \(.*cert\.pem, .*key\.pem\)"):
        async with serving(**authority.settings):
            pass


def test_http_context_follows_its_files_and_survives_a_broken_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificates = tls.HttpCertificates(tls.TlsFiles(authority.cert, authority.key))
    authority.key.write_text("half a file")
    certificates.reload_when_changed()
    authority.issue()
    certificates.reload_when_changed()
    assert certificates.context.verify_mode is ssl.CERT_NONE
