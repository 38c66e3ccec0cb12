"""Goal: strangers on the peer port get nothing, cost little and disturb nobody.

Method: while a good pair of nodes exchanges heartbeats, raw connections misbehave in many ways; afterwards
the pair still has its first connections, nothing of theirs was delivered, and nothing stays buffered.
"""

import asyncio
import random
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replcache import constants
from replcache.raft import messages as m
from replcache.raft.peer_codec import encode
from replcache.raft.peer_framing import PING_FRAME
from replcache.raft.peers import PeerLimits
from tests.helpers.peers import RawPeer, RecordingNode, close_all, framed, hello_of, make_node, start_pair
from tests.helpers.wait import async_wait_until, scaled

HANDSHAKE_TIMEOUT_S = 0.5
LIMITS = PeerLimits(handshake_timeout_s=HANDSHAKE_TIMEOUT_S)


class GoodPair:
    """n1 and n2, which must not notice anything; strangers attack n2."""

    def __init__(self, first: RecordingNode, second: RecordingNode) -> None:
        self.first = first
        self.second = second
        self._term = 0

    @property
    def victim(self) -> str:
        return self.second.address

    async def heartbeat(self) -> float:
        """One heartbeat from n1 to n2; how long it took, in seconds."""
        self._term += 1
        beat = m.Heartbeat(term=self._term)
        begin = time.perf_counter()
        assert self.first.transport.send("n2", beat)
        for _ in range(1_000_000):
            if self.second.received and self.second.received[-1][1] == beat:
                return time.perf_counter() - begin
            await asyncio.sleep(0)
        raise AssertionError(f"{beat} did not arrive")

    def refused(self, cause: str) -> int:
        return self.second.counters[f"refused_{cause}"]

    async def check(self) -> None:
        """Still the same connections, only our heartbeats delivered, nothing held."""
        await self.heartbeat()
        assert {(peer, epoch) for peer, _, epoch in self.second.received} == {("n1", self.epoch)}
        assert len(self.second.received) == self._term
        for node in (self.first, self.second):
            assert not node.fatal
            assert [kind for kind, _, _ in node.happened] in (
                ["accepted", "connected"],
                ["connected", "accepted"],
            )
        state = self.second.transport.statistics()
        assert state.buffered_bytes < 4096
        assert state.handshaking == 0

    @property
    def epoch(self) -> int:
        return self.second.transport.statistics().peers["n1"].epoch


@pytest.fixture
async def pair(rng: random.Random) -> AsyncIterator[GoodPair]:
    first, second = (make_node(name, rng=rng, limits=LIMITS) for name in ("n1", "n2"))
    await start_pair(first, second, ("n1", "n2"))
    good = GoodPair(first, second)
    yield good
    await good.check()
    await close_all(first, second)


async def test_random_bytes_are_cut_off(pair: GoodPair, rng: random.Random) -> None:
    for _ in range(100):
        stranger = await RawPeer.connect(pair.victim)
        stranger.write(rng.randbytes(rng.choice([8, 100, 5000])))
        assert await stranger.wait_closed() == b""
        await pair.heartbeat()
    refused = sum(pair.refused(cause) for cause in ("malformed", "too_long", "checksum", "timeout"))
    assert refused == 100


async def test_pickle_is_not_executed(pair: GoodPair, tmp_path: Path) -> None:
    """Bare, with the length of the plain library, and in a well-formed frame; before and after Hello."""
    marker = tmp_path / "executed"
    bomb = f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()
    for data in (bomb, struct.pack("<i", len(bomb)) + bomb, framed(bomb)):
        stranger = await RawPeer.connect(pair.victim)
        stranger.write(data)
        assert await stranger.wait_closed() == b""
    member = await RawPeer.connect_as(pair.victim, hello_of("n3", "n2"))
    member.write(framed(bomb))
    await member.wait_closed()
    assert not marker.exists()
    assert pair.refused("malformed") == 2
    pair.second.happened.remove(("accepted", "n3", hello_of("n3", "n2")))


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, constants.PEER_HANDSHAKE_FRAME_BYTES_MAX + 1])
async def test_announced_length_is_refused_at_once(pair: GoodPair, length: int) -> None:
    """Four bytes are enough for the refusal: nothing waits for the rest."""
    stranger = await RawPeer.connect(pair.victim)
    begin = time.perf_counter()
    stranger.write(struct.pack("<I", length))
    assert await stranger.wait_closed() == b""
    assert time.perf_counter() - begin < scaled(HANDSHAKE_TIMEOUT_S / 2)
    assert pair.refused("too_long") == 1


async def test_megabytes_behind_a_huge_length_are_not_kept(pair: GoodPair) -> None:
    """24 MiB of an announced 2 GiB, the attack that stalls the plain library for seconds."""
    stranger = await RawPeer.connect(pair.victim)
    stranger.write(struct.pack("<II", 2**31, 0))
    slowest = 0.0
    for _ in range(24):
        if not stranger.writer.transport.is_closing():
            stranger.write(bytes(1024 * 1024))
        slowest = max(slowest, await pair.heartbeat())
        assert pair.second.transport.statistics().buffered_bytes < 1024 * 1024
    await stranger.wait_closed()
    print(f"slowest heartbeat meanwhile {slowest * 1e3:.1f} ms")
    assert slowest < scaled(0.25)


async def test_handshake_at_its_size_limit_is_kept_and_above_refused(pair: GoodPair) -> None:
    limit = constants.PEER_HANDSHAKE_FRAME_BYTES_MAX
    hello = hello_of("n3", "n2")
    room = limit - len(encode(hello_of("n3", "n2", client_address="x" * 60_000))) + 60_000
    at_limit = hello_of("n3", "n2", client_address="x" * room)
    assert len(encode(at_limit)) == limit
    good = await RawPeer.connect_as(pair.victim, at_limit)
    good.close()
    stranger = await RawPeer.connect(pair.victim)
    stranger.write(framed(bytes(limit + 1)))
    await stranger.wait_closed()
    assert pair.refused("too_long") == 1
    assert hello.node == "n3"
    pair.second.happened.remove(("accepted", "n3", at_limit))


async def test_slow_handshakes_end_in_time(pair: GoodPair) -> None:
    """One byte at a time does not buy more time than silence."""
    data = framed(encode(hello_of("n3", "n2")))
    stranger = await RawPeer.connect(pair.victim)
    closed = asyncio.ensure_future(stranger.wait_closed(3 * HANDSHAKE_TIMEOUT_S))
    begin = time.perf_counter()
    for byte in data[:-1]:
        if closed.done():
            break
        stranger.write(bytes([byte]))
        await pair.heartbeat()
    assert await closed == b""
    assert HANDSHAKE_TIMEOUT_S * 0.9 < time.perf_counter() - begin < scaled(HANDSHAKE_TIMEOUT_S * 3)
    assert pair.refused("timeout") == 1


async def test_200_silent_connections_leave_room_for_a_good_peer(pair: GoodPair, rng: random.Random) -> None:
    """They keep coming while the good peer shakes hands: whoever waits longest has to go."""
    strangers = [await RawPeer.connect(pair.victim) for _ in range(150)]
    third = make_node("n3", rng=rng, peers={"n2": pair.victim}, limits=LIMITS)
    begin = time.perf_counter()
    await third.transport.start()
    while len(strangers) < 200 or not third.is_sending_to("n2"):
        strangers.append(await RawPeer.connect(pair.victim))
        assert len(strangers) < 2000
    print(f"good peer connected among the silent ones in {(time.perf_counter() - begin) * 1e3:.0f} ms")
    state = pair.second.transport.statistics()
    assert state.connections <= constants.PEER_CONNECTIONS_MAX + 1
    await asyncio.gather(*(stranger.wait_closed(3.0) for stranger in strangers))
    assert pair.refused("crowded") + pair.refused("timeout") == len(strangers)
    # On a slow machine more of them run out of their handshake's time before room is needed.
    assert pair.refused("crowded") > 0
    await third.transport.close()
    await async_wait_until(lambda: not pair.second.transport.statistics().handshaking)
    pair.second.happened[:] = [entry for entry in pair.second.happened if entry[1] != "n3"]


@pytest.mark.parametrize(
    ("cause", "changes"),
    [
        ("cluster", {"cluster_id": b"another"}),
        ("cluster", {"cluster_id": b""}),
        ("protocol", {"protocol": 0}),
        ("protocol", {"protocol": m.PEER_PROTOCOL_VERSION + 1}),
        ("to_node", {"to_node": "n1"}),
        ("to_node", {"to_node": ""}),
        ("own_name", {"node": "n2"}),
        ("unknown_node", {"node": "n9"}),
        ("unknown_node", {"node": ""}),
        ("unknown_node", {"node": "n" * 5000}),
    ],
)
async def test_wrong_hello_gets_no_answer(pair: GoodPair, cause: str, changes: dict[str, object]) -> None:
    stranger = await RawPeer.connect(pair.victim)
    stranger.send(hello_of("n1", "n2", **changes), m.Heartbeat(term=1000))
    assert await stranger.wait_closed() == b""
    assert pair.refused(cause) == 1


async def test_unknown_incarnation_is_the_callbacks_decision(rng: random.Random) -> None:
    node = make_node("n2", rng=rng, members=lambda name, incarnation: (name, incarnation) == ("n1", 7))
    await node.transport.start()
    stranger = await RawPeer.connect(node.address)
    stranger.send(hello_of("n1", "n2", incarnation=8))
    assert await stranger.wait_closed() == b""
    (await RawPeer.connect_as(node.address, hello_of("n1", "n2", incarnation=7))).close()
    await node.transport.close()


@pytest.mark.parametrize("message", [m.Heartbeat(term=1000), m.RequestVote(term=1000)])
async def test_message_before_hello_is_refused(pair: GoodPair, message: m.Message) -> None:
    stranger = await RawPeer.connect(pair.victim)
    stranger.send(message)
    assert await stranger.wait_closed() == b""
    assert pair.refused("unexpected") == 1


async def test_ping_before_hello_is_refused(pair: GoodPair) -> None:
    stranger = await RawPeer.connect(pair.victim)
    stranger.write(PING_FRAME)
    assert await stranger.wait_closed() == b""
    assert pair.refused("malformed") == 1


@pytest.mark.parametrize(
    ("cause", "data"),
    [
        ("unexpected", framed(encode(hello_of("n3", "n2")))),
        ("checksum", struct.pack("<II", 2, 12345) + b"ab"),
        ("malformed", framed(b"\xff\xff")),
        ("too_long", struct.pack("<I", constants.PEER_FRAME_BYTES_MAX + 1)),
    ],
    ids=["second hello", "checksum", "malformed", "too long"],
)
async def test_member_that_breaks_the_protocol_is_cut_off(pair: GoodPair, cause: str, data: bytes) -> None:
    member = await RawPeer.connect_as(pair.victim, hello_of("n3", "n2"))
    member.write(data)
    member.send(m.Heartbeat(term=1000))
    assert await member.wait_closed() == b""
    assert pair.refused(cause) == 1
    pair.second.happened[:] = [entry for entry in pair.second.happened if entry[1] != "n3"]


async def test_pings_whose_answers_nobody_reads_are_cut_off(pair: GoodPair) -> None:
    """Answers must not pile up in this process."""
    member = await RawPeer.connect_as(pair.victim, hello_of("n3", "n2"))
    member.writer.transport.pause_reading()  # type: ignore[attr-defined]
    highest = 0
    async with asyncio.timeout(scaled(30)):
        while pair.refused("unexpected") == 0:
            member.write(PING_FRAME * 10_000)
            await pair.heartbeat()
            highest = max(highest, pair.second.transport.statistics().buffered_bytes)
    assert highest < 2 * 1024 * 1024
    member.close()
    pair.second.happened[:] = [entry for entry in pair.second.happened if entry[1] != "n3"]


async def test_refusals_are_counted_but_logged_rarely(
    pair: GoodPair, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for _ in range(50):
        stranger = await RawPeer.connect(pair.victim)
        stranger.send(m.Heartbeat())
        await stranger.wait_closed()
    assert pair.refused("unexpected") == 50
    output = capsys.readouterr()
    assert (output.out + output.err).count("peer_refused") == 1


async def test_dialled_stranger_is_refused(rng: random.Random) -> None:
    """The address of n2 leads to a node of another cluster, and to another node of ours."""
    other = make_node("n2", rng=rng, cluster_id=b"another")
    wrong = make_node("n3", rng=rng)
    await other.transport.start()
    await wrong.transport.start()
    for listener, cause in ((other, "cluster"), (wrong, "to_node")):
        node = make_node("n1", rng=rng, peers={"n2": listener.address})
        await node.transport.start()
        await async_wait_until(lambda listener=listener, cause=cause: listener.counters[f"refused_{cause}"])
        assert not node.is_sending_to("n2")
        assert node.happened == []
        await node.transport.close()
    await close_all(other, wrong)
