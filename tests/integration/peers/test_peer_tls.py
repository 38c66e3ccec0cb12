"""Goal: with TLS, only holders of a certificate of the cluster's CA that carries their node name take part.

Method: real certificates made for each test; bad ones are refused while a good pair goes on undisturbed.
"""

import datetime
import random
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replcache.errors import ConfigError
from replcache.raft import messages as m
from replcache.raft.peers import PeerLimits, TlsConfig
from tests.helpers.peers import (
    Certificates,
    RawPeer,
    RecordingNode,
    close_all,
    hello_of,
    make_node,
    start_pair,
)
from tests.helpers.wait import async_wait_until

LIMITS = PeerLimits(handshake_timeout_s=0.5)
NOW = datetime.datetime.now(datetime.UTC)
YESTERDAY = NOW - datetime.timedelta(days=1)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "ours")


@pytest.fixture
def strangers(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "theirs")


@pytest.fixture
async def pair(
    rng: random.Random, certificates: Certificates
) -> AsyncIterator[tuple[RecordingNode, RecordingNode]]:
    """n1 and n2 with good certificates; at the end still connected as in the beginning."""
    first, second = (
        make_node(name, rng=rng, tls=certificates.issue(name), limits=LIMITS) for name in ("n1", "n2")
    )
    await start_pair(first, second, ("n1", "n2"))
    yield first, second
    assert first.transport.send("n2", m.Heartbeat(term=77))
    await async_wait_until(lambda: m.Heartbeat(term=77) in second.messages)
    assert {epoch for _, _, epoch in second.received} == {second.transport.statistics().peers["n1"].epoch}
    assert second.counters["connections_replaced"] == 0
    await close_all(first, second)
    assert not first.fatal
    assert not second.fatal


def client_context(config: TlsConfig, cafile: Path | None = None) -> ssl.SSLContext:
    """A stranger's context: shows `config`'s certificate and believes anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(config.cert_file, config.key_file)
    return context


async def speak_as_n1(address: str, context: ssl.SSLContext | None) -> bytes:
    """Tries to pass as n1; what came back before the connection ended."""
    try:
        stranger = await RawPeer.connect(address, context)
    except (ssl.SSLError, ConnectionError):
        return b""
    stranger.send(hello_of("n1", "n2"), m.Heartbeat(term=1000))
    return await stranger.wait_closed()


async def test_messages_pass_between_nodes_with_certificates(
    pair: tuple[RecordingNode, RecordingNode],
) -> None:
    first, second = pair
    big = m.Append(term=1, entries=(m.WireEntry(1, 0, bytes(4 * 1024 * 1024)),))
    for sequence in range(50):
        assert second.transport.send("n1", m.AppendReply(term=1, sequence=sequence))
    assert second.transport.send("n1", big)
    await async_wait_until(lambda: len(first.received) == 51, timeout_s=20)
    assert [m.AppendReply(term=1, sequence=sequence) for sequence in range(50)] + [big] == first.messages


async def test_other_authority_is_refused(
    pair: tuple[RecordingNode, RecordingNode], strangers: Certificates
) -> None:
    context = client_context(strangers.issue("n1"))
    assert await speak_as_n1(pair[1].address, context) == b""
    await async_wait_until(lambda: pair[1].counters["refused_tls"] == 1)


async def test_expired_certificate_is_refused(
    pair: tuple[RecordingNode, RecordingNode], certificates: Certificates
) -> None:
    expired = certificates.issue("n1", not_before=YESTERDAY - datetime.timedelta(days=1), not_after=YESTERDAY)
    assert await speak_as_n1(pair[1].address, client_context(expired)) == b""
    await async_wait_until(lambda: pair[1].counters["refused_tls"] == 1)


async def test_certificate_of_another_node_is_refused(
    pair: tuple[RecordingNode, RecordingNode], certificates: Certificates
) -> None:
    """Right authority, but n3 (or a name around n1) may not speak as n1."""
    for count, name in enumerate(["n3", "n1.example.org", "xn1", "*.n1"], 1):
        context = client_context(certificates.issue(name))
        assert await speak_as_n1(pair[1].address, context) == b""
        await async_wait_until(lambda count=count: pair[1].counters["refused_certificate"] == count)


async def test_no_certificate_is_refused(pair: tuple[RecordingNode, RecordingNode]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    assert await speak_as_n1(pair[1].address, context) == b""
    await async_wait_until(lambda: pair[1].counters["refused_tls"] == 1)


async def test_plaintext_to_the_tls_port_is_refused(pair: tuple[RecordingNode, RecordingNode]) -> None:
    await speak_as_n1(pair[1].address, None)
    await async_wait_until(lambda: pair[1].counters["refused_tls"] == 1)


async def test_tls_to_a_plain_port_is_refused(rng: random.Random, certificates: Certificates) -> None:
    plain = make_node("n2", rng=rng)
    await plain.transport.start()
    node = make_node("n1", rng=rng, peers={"n2": plain.address}, tls=certificates.issue("n1"), limits=LIMITS)
    await node.transport.start()
    await async_wait_until(lambda: plain.counters["refused_too_long"] and node.counters["dials_failed"])
    await close_all(node, plain)


@pytest.mark.parametrize(
    ("version", "passes"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_only_tls_1_2_and_newer_is_spoken(
    pair: tuple[RecordingNode, RecordingNode],
    certificates: Certificates,
    version: ssl.TLSVersion,
    passes: bool,
) -> None:
    context = client_context(certificates.issue("n3"))
    # OpenSSL's default security level alone would refuse 1.1 on our side.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    if passes:
        (await RawPeer.connect_as(pair[1].address, hello_of("n3", "n2"), context)).close()
        return
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await RawPeer.connect(pair[1].address, context)
    await async_wait_until(lambda: pair[1].counters["refused_tls"] == 1)


async def test_silent_tcp_connections_to_the_tls_port_end_in_time(
    pair: tuple[RecordingNode, RecordingNode],
) -> None:
    silent = [await RawPeer.connect(pair[1].address) for _ in range(100)]
    for stranger in silent:
        assert await stranger.wait_closed(3.0) == b""
    assert pair[1].counters["refused_crowded"] + pair[1].counters["refused_timeout"] == 100


async def test_close_ends_unfinished_tls_handshakes(rng: random.Random, certificates: Certificates) -> None:
    node = make_node("n2", rng=rng, tls=certificates.issue("n2"))
    await node.transport.start()
    silent = [await RawPeer.connect(node.address) for _ in range(5)]
    await async_wait_until(lambda: node.transport.statistics().handshaking == 5)
    # One more whose handshake has not even begun when close() comes.
    silent.append(await RawPeer.connect(node.address))
    await node.transport.close()
    for stranger in silent:
        assert await stranger.wait_closed() == b""
    assert node.transport.statistics().connections == 0


async def test_certificate_with_only_a_common_name_is_enough(
    pair: tuple[RecordingNode, RecordingNode], certificates: Certificates
) -> None:
    context = client_context(certificates.issue("somewhere.example.org", common_name="n3"))
    (await RawPeer.connect_as(pair[1].address, hello_of("n3", "n2"), context)).close()


async def test_dialled_node_must_carry_the_name_that_was_meant(
    rng: random.Random, certificates: Certificates
) -> None:
    """A node of ours with another name listens at the address of n2: it does not even get our Hello."""
    imposter = make_node("n2", rng=rng, tls=certificates.issue("n3"))
    await imposter.transport.start()
    node = make_node("n1", rng=rng, peers={"n2": imposter.address}, tls=certificates.issue("n1"))
    await node.transport.start()
    await async_wait_until(lambda: node.counters["refused_certificate"] >= 1)
    assert imposter.counters["bytes_received"] == 0
    assert not node.happened
    await close_all(node, imposter)


async def test_changed_files_are_used_for_new_connections(rng: random.Random, tmp_path: Path) -> None:
    """Both nodes move to a new authority one after the other, without a restart."""
    old, new = Certificates(tmp_path / "old"), Certificates(tmp_path / "new")
    first_files, second_files = old.issue("n1"), old.issue("n2")
    first = make_node("n1", rng=rng, tls=first_files, limits=LIMITS)
    second = make_node("n2", rng=rng, tls=second_files, limits=LIMITS)
    await start_pair(first, second, ("n1", "n2"))
    new.write(second_files, "n2")
    third_files = new.issue("n3")
    third = make_node("n3", rng=rng, peers={"n2": second.address}, tls=third_files, limits=LIMITS)
    await third.transport.start()
    await async_wait_until(lambda: third.is_sending_to("n2"))
    assert second.counters["tls_reloads"] >= 1
    # What was connected stays connected; certificates count at the handshake.
    assert first.is_sending_to("n2") and second.is_sending_to("n1")
    first.transport.set_peers({})
    first.transport.set_peers({"n2": second.address})
    await async_wait_until(lambda: first.counters["dials_failed"] >= 1)
    assert not first.is_sending_to("n2")
    new.write(first_files, "n1")
    await async_wait_until(lambda: first.is_sending_to("n2"))
    await close_all(first, second, third)


async def test_broken_files_keep_the_last_good_ones_in_use(
    rng: random.Random, certificates: Certificates
) -> None:
    files = certificates.issue("n2")
    node = make_node("n2", rng=rng, tls=files, limits=LIMITS)
    await node.transport.start()
    context = client_context(certificates.issue("n1"))
    good_key = files.key_file.read_bytes()
    # A key of another certificate, garbage, and no file at all.
    for broken in (certificates.issue("n1").key_file.read_bytes(), b"garbage", None):
        failed = node.counters["tls_reloads_failed"]
        if broken is None:
            files.key_file.unlink()
        else:
            files.key_file.write_bytes(broken)
        (await RawPeer.connect_as(node.address, hello_of("n1", "n2"), context)).close()
        assert node.counters["tls_reloads_failed"] > failed
    files.key_file.write_bytes(good_key)
    (await RawPeer.connect_as(node.address, hello_of("n1", "n2"), context)).close()
    assert node.counters["tls_reloads"] >= 1
    await node.transport.close()


@pytest.fixture(params=["ca_file", "cert_file", "key_file"])
def damaged_file(request: pytest.FixtureRequest, certificates: Certificates) -> tuple[TlsConfig, Path]:
    """Good files, and the one of them that a test damages."""
    files = certificates.issue("n1")
    return files, getattr(files, request.param)


@pytest.fixture(params=[None, b"", b"garbage"], ids=["missing", "empty", "garbage"])
def useless_files(request: pytest.FixtureRequest, damaged_file: tuple[TlsConfig, Path]) -> TlsConfig:
    files, file = damaged_file
    file.unlink()
    if request.param is not None:
        file.write_bytes(request.param)
    return files


async def test_missing_or_useless_files_are_a_configuration_error(
    rng: random.Random, useless_files: TlsConfig
) -> None:
    node = make_node("n1", rng=rng, tls=useless_files)
    with pytest.raises(ConfigError, match="TLS"):
        await node.transport.start()
    await node.transport.close()


async def test_burst_over_tls_is_handled_in_slices_and_in_order(
    rng: random.Random, certificates: Certificates
) -> None:
    """Reading pauses and goes on many times; each handled message takes 100 microseconds."""
    terms: list[int] = []

    def slow(peer: str, message: m.Message, epoch: int) -> None:
        assert isinstance(message, m.Heartbeat)
        terms.append(message.term)
        until = time.perf_counter() + 0.0001
        while time.perf_counter() < until:
            pass

    node = make_node("n2", rng=rng, tls=certificates.issue("n2"), on_message=slow)
    await node.transport.start()
    peer = await RawPeer.connect_as(
        node.address, hello_of("n1", "n2"), client_context(certificates.issue("n1"))
    )
    peer.send(*[m.Heartbeat(term=term) for term in range(5000)])
    await async_wait_until(lambda: len(terms) == 5000, timeout_s=20)
    assert terms == list(range(5000))
    assert not node.fatal
    peer.close()
    await node.transport.close()
