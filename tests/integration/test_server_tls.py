"""TLS on the client and HTTP ports: who gets in, and certificates that change while the node runs."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
import grpc
import pytest
import trustme
import uvloop

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


async def http_status(one: Serving, roots: Path, leaf: trustme.LeafCert | None = None) -> int:
    port = one.server.http_address.rpartition(":")[2]
    context = ssl.create_default_context(cafile=roots)
    if leaf is not None:
        leaf.configure_cert(context)
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


async def test_http_port_forgets_an_authority_of_clients_that_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replcache.constants.TLS_RELOAD_INTERVAL_S", 0.05)
    authority, first, second = Authority(tmp_path), trustme.CA(), trustme.CA()
    clients = tmp_path / "clients.pem"
    first.cert_pem.write_to_path(clients)
    async with serving(**authority.settings, tls_client_ca=clients, client_auth="require") as one:

        async def gets_in(ca: trustme.CA) -> bool:
            try:
                return await http_status(one, authority.roots, ca.issue_cert("client@example.org")) == 200
            except aiohttp.ClientError:
                return False

        assert await gets_in(first)
        assert not await gets_in(second)
        second.cert_pem.write_to_path(clients)
        await async_wait_until(lambda: gets_in(second), what="the new authority is trusted")
        assert not await gets_in(first)


async def test_grpc_port_forgets_an_authority_of_clients_that_was_replaced(tmp_path: Path) -> None:
    authority, first, second = Authority(tmp_path), trustme.CA(), trustme.CA()
    roots, clients = authority.ca.cert_pem.bytes(), tmp_path / "clients.pem"
    first.cert_pem.write_to_path(clients)
    settings = {**authority.settings, "tls_client_ca": clients}
    async with serving(**settings, client_auth="require", http_tls=False) as one:

        async def gets_in(ca: trustme.CA) -> bool:
            return await can_write(secure(one, roots, ca.issue_cert("client@example.org")))

        assert await gets_in(first)
        assert not await gets_in(second)
        second.cert_pem.write_to_path(clients)
        await async_wait_until(lambda: gets_in(second), what="the new authority is trusted")
        assert not await gets_in(first)


def is_session_resumed(
    address: tuple[str, int], context: ssl.SSLContext, sessions: list[ssl.SSLSession]
) -> bool:
    """Connects with the last of the sessions and adds the new one. Raises ssl.SSLError: refused."""
    with socket.create_connection(address, timeout=5) as plain:
        last = sessions[-1] if sessions else None
        with context.wrap_socket(plain, server_hostname="localhost", session=last) as secured:
            assert secured.recv(1) == b"x"
            assert secured.session is not None
            sessions.append(secured.session)
            return bool(secured.session_reused)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("options", [ssl.Options(0), ssl.OP_NO_TICKET])
def test_session_of_a_client_ends_with_the_trust_in_its_authority(
    tmp_path: Path, new_loop: Callable[[], asyncio.AbstractEventLoop], options: ssl.Options
) -> None:
    """Resuming one shows no certificate."""
    authority = Authority(tmp_path)
    certificates = tls.HttpCertificates(tls.TlsFiles(authority.cert, authority.key, authority.roots))
    context = ssl.create_default_context(cafile=authority.roots)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= options
    authority.client().configure_cert(context)
    sessions: list[ssl.SSLSession] = []

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=certificates.context) as server:
            address = server.sockets[0].getsockname()
            for resumes in (False, True):
                assert await asyncio.to_thread(is_session_resumed, address, context, sessions) is resumes
            trustme.CA().cert_pem.write_to_path(authority.roots)
            certificates.reload_when_changed()
            with pytest.raises(ssl.SSLError):
                await asyncio.to_thread(is_session_resumed, address, context, sessions)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


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
    assert certificates.context.newest.verify_mode is ssl.CERT_NONE
