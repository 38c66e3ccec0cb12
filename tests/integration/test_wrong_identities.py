"""The table of wrong identities: clients' port and peers' port refuse each one, and log it once.

What TLS itself refuses on the clients' port is logged by the gRPC library, a line for each handshake on the
process's stderr; everything else by the node. Good callers go on before and after.
"""

import asyncio
import datetime
import os
import random
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme
from structlog.testing import capture_logs

from replcache.config import ServerConfig, is_loopback
from replcache.pb.v1 import cache_pb2 as pb
from replcache.raft import messages as m
from replcache.raft.peers import PeerLimits
from tests.helpers.auth import AuthFile, with_token
from tests.helpers.peers import (
    Certificates,
    RawPeer,
    RecordingNode,
    close_all,
    hello_of,
    make_node,
    start_pair,
)
from tests.helpers.serving import Serving, serving, stubs
from tests.helpers.wait import async_wait_until, scaled

S = grpc.StatusCode
# Set in the process that tests what gRPC itself refuses and logs.
FRESH = "REPLCACHE_TEST_FRESH_GRPC"
NOW = datetime.datetime.now(datetime.UTC)
YESTERDAY = NOW - datetime.timedelta(days=1)
GET = pb.GetRequest(key=b"shop:1")


@dataclass(frozen=True)
class World:
    """A node with mutual TLS and an auth file, and the authorities around it."""

    one: Serving
    file: AuthFile
    ca: trustme.CA
    strangers: trustme.CA

    @property
    def port(self) -> int:
        return int(self.one.server.grpc_address.rpartition(":")[2])

    def leaf(self, name: str, ca: trustme.CA | None = None, **options: object) -> trustme.LeafCert:
        return (ca or self.ca).issue_cert(name, common_name=name, **options)  # type: ignore[arg-type]

    def channel(self, leaf: trustme.LeafCert) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(
            self.ca.cert_pem.bytes(), leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes()
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(f"localhost:{self.port}", credentials, options)

    async def code(self, leaf: trustme.LeafCert, token: str = "") -> grpc.StatusCode:
        """How a read ends for who has this certificate and, if given, this token."""
        async with self.channel(leaf) as channel:
            calls = with_token(channel, token) if token else channel
            code: grpc.StatusCode = await stubs(calls)[0].Get(GET, timeout=scaled(5)).code()
            return code

    def handshake(self, leaf: trustme.LeafCert | None) -> bytes:
        """One TLS connection and what it is answered with, without a library that tries again."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        self.ca.configure_trust(context)
        if leaf is not None:
            leaf.configure_cert(context)
        with socket.create_connection(("127.0.0.1", self.port), timeout=scaled(5)) as raw:
            try:
                with context.wrap_socket(raw, server_hostname="localhost") as secured:
                    # With TLS 1.3 the server refuses after the client has finished.
                    return secured.recv(100)
            except (ssl.SSLError, ConnectionError):
                return b""


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("replcache.constants.AUTH_RELOAD_INTERVAL_S", 0.02)
    ca = trustme.CA()
    leaf = ca.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    file = AuthFile(tmp_path)
    file.token("shop")
    async with serving(
        tls_cert=tmp_path / "cert.pem",
        tls_key=tmp_path / "key.pem",
        tls_client_ca=tmp_path / "ca.pem",
        client_auth="require",
        auth_file=file.path,
    ) as one:
        yield World(one, file, ca, trustme.CA())


async def test_certificate_of_a_user_and_token_over_tls_get_in(world: World) -> None:
    """The control for all that follows."""
    assert await world.code(world.leaf("shop")) is S.OK
    assert await world.code(world.leaf("somebody"), world.file.token("shop")) is S.OK


def plaintext(world: World) -> None:
    with socket.create_connection(("127.0.0.1", world.port), timeout=scaled(5)) as raw:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100))
        while raw.recv(1000):
            pass


def replay(world: World) -> None:
    """All that a good client sent, once more."""
    said = record_handshake(world)
    with socket.create_connection(("127.0.0.1", world.port), timeout=scaled(5)) as raw:
        raw.sendall(said)
        answer = b""
        try:
            while data := raw.recv(65536):
                answer += data
        except ConnectionError:
            pass
    # A ServerHello and an alert; never HTTP/2 in a readable form, nor a connection that stays.
    assert b"HTTP" not in answer


def record_handshake(world: World) -> bytes:
    """The bytes of a good client's handshake, made without a socket in between."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    world.ca.configure_trust(context)
    world.leaf("shop").configure_cert(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    said = b""
    with socket.create_connection(("127.0.0.1", world.port), timeout=scaled(5)) as raw:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                said += (part := outgoing.read())
                raw.sendall(part)
                incoming.write(raw.recv(65536))
        tls.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        said += (part := outgoing.read())
        raw.sendall(part)
        # It was a good handshake: the server talks HTTP/2 now.
        incoming.write(raw.recv(65536))
        assert tls.read(9)
    return said


def test_grpc_refuses_and_logs_handshakes_in_a_process_of_its_own() -> None:
    """gRPC reads once how much it shall say, and the client, which other tests load, makes it say less."""
    environment = {**os.environ, FRESH: "1"}
    environment.pop("GRPC_VERBOSITY", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        [*command, "-k", "test_tls_of_the_clients_port_refuses"],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=scaled(100),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout, done.stdout


@pytest.mark.skipif(FRESH not in os.environ, reason="runs in a process of its own, see the test above")
@pytest.mark.parametrize(
    ("who", "attempt", "says"),
    [
        ("no certificate", lambda w: w.handshake(None), "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        ("wrong CA", lambda w: w.handshake(w.leaf("shop", w.strangers)), "CERTIFICATE_VERIFY_FAILED"),
        (
            "expired",
            lambda w: w.handshake(
                w.leaf("shop", not_before=YESTERDAY.replace(year=2020), not_after=YESTERDAY)
            ),
            "CERTIFICATE_VERIFY_FAILED",
        ),
        ("plaintext", plaintext, "WRONG_VERSION_NUMBER"),
        ("replayed handshake", replay, "Handshake failed"),
    ],
)
async def test_tls_of_the_clients_port_refuses(
    world: World, capfd: pytest.CaptureFixture[str], who: str, attempt: Callable[[World], object], says: str
) -> None:
    capfd.readouterr()
    assert not await asyncio.to_thread(attempt, world), f"{who} was answered"
    seen = ""

    def is_logged() -> bool:
        nonlocal seen
        seen += capfd.readouterr().err
        return "Handshake failed" in seen

    await async_wait_until(is_logged, what=f"{who} is logged")
    assert await world.code(world.leaf("shop")) is S.OK
    seen += capfd.readouterr().err
    lines = [line for line in seen.splitlines() if "Handshake failed" in line]
    assert len(lines) == 1, lines
    assert says in lines[0]


@pytest.mark.parametrize(
    ("name", "user", "code", "cause"),
    [
        pytest.param("billing", "", S.UNAUTHENTICATED, "UNAUTHENTICATED", id="a name that no user has"),
        pytest.param("n1", "", S.UNAUTHENTICATED, "UNAUTHENTICATED", id="a peer's certificate"),
        pytest.param("shop.example.org", "", S.UNAUTHENTICATED, "UNAUTHENTICATED", id="a name around it"),
        pytest.param("any", "nobody", S.PERMISSION_DENIED, "PERMISSION_DENIED", id="a user without a role"),
        pytest.param(
            "shop", "?", S.UNAUTHENTICATED, "UNAUTHENTICATED", id="a wrong token, right certificate"
        ),
    ],
)
async def test_good_certificates_of_wrong_callers_are_refused_and_logged_once(
    world: World, name: str, user: str, code: grpc.StatusCode, cause: str
) -> None:
    token = world.file.token(user) if user not in ("", "?") else "aaaaaaaaaaaa." + "x" * 43 if user else ""
    with capture_logs() as lines:
        if user == "nobody":
            await async_wait_until(lambda: any(line["event"] == "auth_file_loaded" for line in lines))
        for _ in range(3):
            assert await world.code(world.leaf(name), token) is code
    refused = [line["cause"].split()[0] for line in lines if line["event"] == "refused"]
    assert refused == [cause]


@pytest.mark.parametrize("what", ["role", "certificate", "token", "user"])
async def test_what_is_revoked_is_refused_and_logged_once(world: World, what: str) -> None:
    token = world.file.token("shop") if what in ("token", "user") else ""
    assert await world.code(world.leaf("shop"), token) is S.OK
    expected = S.UNAUTHENTICATED
    with capture_logs() as lines:
        if what == "role":
            expected = S.PERMISSION_DENIED
            world.file.change('[users.shop]\nroles = ["shop"]', "[users.shop]\nroles = []")
        elif what == "user":
            world.file.change('[users.shop]\nroles = ["shop"]\ncertificates = ["shop"]', "")
        elif what == "certificate":
            world.file.change('certificates = ["shop"]', "certificates = []")
        else:
            token_id = token.partition(".")[0]
            world.file.change(f'id = "{token_id}"', f'id = "{token_id}"\nrevoked = 2020-01-01T00:00:00Z')
        await async_wait_until(lambda: any(line["event"] == "auth_file_loaded" for line in lines))
        for _ in range(3):
            assert await world.code(world.leaf("shop"), token) is expected
    assert len([line for line in lines if line["event"] == "refused"]) == 1


async def test_new_authority_of_clients_counts_without_a_restart(world: World, tmp_path: Path) -> None:
    assert await world.code(world.leaf("shop", world.strangers)) is S.UNAVAILABLE
    world.strangers.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert await world.code(world.leaf("shop", world.strangers)) is S.OK
    assert await world.code(world.leaf("shop")) is S.UNAVAILABLE


# --- the peers' port ---

LIMITS = PeerLimits(handshake_timeout_s=0.5)
Pair = tuple[RecordingNode, RecordingNode]


@pytest.fixture
def authority(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "ours")


@pytest.fixture
async def pair(authority: Certificates) -> AsyncIterator[Pair]:
    """n1 and n2, connected before and after."""
    rng = random.Random(5)
    first, second = (
        make_node(name, rng=rng, tls=authority.issue(name), limits=LIMITS) for name in ("n1", "n2")
    )
    await start_pair(first, second, ("n1", "n2"))
    yield first, second
    assert first.transport.send("n2", m.Heartbeat(term=77))
    await async_wait_until(lambda: m.Heartbeat(term=77) in second.messages)
    assert [message for message in second.messages if message != m.Heartbeat(term=77)] == []
    await close_all(first, second)


def showing(certificates: Certificates, name: str, **options: object) -> ssl.SSLContext:
    context = blank()
    config = certificates.issue(name, **options)
    context.load_cert_chain(config.cert_file, config.key_file)
    return context


def blank() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def speak(address: str, context: ssl.SSLContext | None, name: str = "n1") -> None:
    try:
        stranger = await RawPeer.connect(address, context)
    except (ssl.SSLError, ConnectionError):
        return
    stranger.send(hello_of(name, "n2"), m.Heartbeat(term=1000))
    assert await stranger.wait_closed() == b""


async def replay_peer(address: str, context: ssl.SSLContext) -> None:
    """A good node's handshake and Hello, byte for byte once more."""
    host, _, port = address.rpartition(":")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    reader, writer = await asyncio.open_connection(host, int(port))
    said = b""
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            said += (part := outgoing.read())
            writer.write(part)
            incoming.write(await reader.read(65536))
    # The end of the handshake, without a Hello: the original must not replace n1's own connection.
    said += outgoing.read()
    writer.close()
    again = RawPeer(*await asyncio.open_connection(host, int(port)))
    again.write(said + bytes(64))
    await again.wait_closed()


Attempt = Callable[[str, Certificates, Certificates], Awaitable[None]]
PEER_CASES: dict[str, tuple[Attempt, str]] = {
    "no certificate": (lambda address, ours, theirs: speak(address, blank()), "tls"),
    "wrong CA": (lambda address, ours, theirs: speak(address, showing(theirs, "n1")), "tls"),
    "expired": (
        lambda address, ours, theirs: speak(
            address, showing(ours, "n1", not_before=YESTERDAY.replace(year=2020), not_after=YESTERDAY)
        ),
        "tls",
    ),
    "another node's certificate": (
        lambda address, ours, theirs: speak(address, showing(ours, "n3")),
        "certificate",
    ),
    "a client's certificate in a node's name": (
        lambda address, ours, theirs: speak(address, showing(ours, "shop")),
        "certificate",
    ),
    "a client's certificate in its own name": (
        lambda address, ours, theirs: speak(address, showing(ours, "shop"), "shop"),
        "unknown_node",
    ),
    "plaintext": (lambda address, ours, theirs: speak(address, None), "tls"),
    "replayed handshake": (lambda address, ours, theirs: replay_peer(address, showing(ours, "n1")), "tls"),
}


@pytest.mark.parametrize("case", PEER_CASES)
async def test_peers_port_refuses_and_logs_once(
    pair: Pair, authority: Certificates, tmp_path: Path, case: str
) -> None:
    attempt, cause = PEER_CASES[case]
    target = pair[1]
    with capture_logs() as lines:
        await attempt(target.address, authority, Certificates(tmp_path / "theirs"))
        await async_wait_until(lambda: any(line["event"] == "peer_refused" for line in lines))
    refused = [line for line in lines if line["event"] == "peer_refused" and line["direction"] == "accepted"]
    assert [line["cause"] for line in refused] == [cause]


def test_every_port_is_on_loopback_until_somebody_says_otherwise() -> None:
    config = ServerConfig()
    assert config.http_listen is not None
    for address in (config.peer_listen, config.grpc_listen, config.http_listen):
        assert is_loopback(address)
