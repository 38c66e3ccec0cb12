"""Goal: messages between nodes arrive in order and in time, and broken links are found and replaced.

Method: real transports on loopback, under asyncio's loop and under uvloop; where a peer must misbehave, a raw
connection takes its place.
"""

import asyncio
import contextlib
import gc
import os
import random
import resource
import socket
import time
from collections.abc import AsyncIterator

import pytest

from replcache.constants import PEER_FRAME_BYTES_MAX, PEER_RECONNECT_MAX_S
from replcache.errors import ConfigError
from replcache.raft import messages as m
from replcache.raft.peer_codec import encode
from replcache.raft.peer_framing import PING_FRAME
from replcache.raft.peer_listener import parse_address
from replcache.raft.peers import PeerLimits
from tests.helpers.peers import (
    JumpingClock,
    RawPeer,
    RawServer,
    RecordingNode,
    close_all,
    framed,
    hello_of,
    make_node,
    start_pair,
)
from tests.helpers.wait import async_wait_until, scaled

Pair = tuple[RecordingNode, RecordingNode]


@pytest.fixture
async def pair(rng: random.Random) -> AsyncIterator[Pair]:
    """n1 and n2, connected in both directions."""
    first = make_node("n1", rng=rng, fault_injection=True)
    second = make_node("n2", rng=rng, fault_injection=True)
    await start_pair(first, second, ("n1", "n2"))
    yield first, second
    await close_all(first, second)
    assert not first.fatal
    assert not second.fatal


def append_of(size: int, sequence: int = 0) -> m.Append:
    """An Append whose encoded form has exactly `size` bytes."""
    message = m.Append(term=1, sequence=sequence, entries=(m.WireEntry(1, 0, bytes(size)),))
    return m.Append(
        term=1, sequence=sequence, entries=(m.WireEntry(1, 0, bytes(2 * size - len(encode(message)))),)
    )


async def test_connection_shows_each_side_the_other_ones_hello(pair: Pair) -> None:
    first, second = pair
    for node, peer in ((first, "n2"), (second, "n1")):
        kinds = sorted(kind for kind, _, _ in node.happened)
        assert kinds == ["accepted", "connected"]
        for _, name, hello in node.happened:
            assert name == peer
            assert hello is not None
            assert (hello.node, hello.client_address) == (peer, f"client of {peer}")
        state = node.transport.statistics().peers[peer]
        assert state.connected and state.receiving


async def test_messages_arrive_in_order_and_once(pair: Pair, rng: random.Random) -> None:
    first, second = pair
    sent: list[m.Message] = []
    for sequence in range(3000):
        message = append_of(rng.choice([40, 300, 5000, 40_000]), sequence)
        if not first.transport.send("n2", message):
            await async_wait_until(lambda: first.transport.statistics().peers["n2"].outbox_bytes == 0)
            assert first.transport.send("n2", message)
        sent.append(message)
    await async_wait_until(lambda: len(second.received) >= len(sent), timeout_s=20)
    assert second.messages == sent
    assert {(peer, epoch) for peer, _, epoch in second.received} == {("n1", 1)}


async def test_control_messages_overtake_bulk(pair: Pair) -> None:
    """All of this is sent in one turn of the loop; the heartbeat comes last and arrives first."""
    first, second = pair
    for sequence in range(20):
        assert first.transport.send("n2", append_of(1024 * 1024, sequence))
    assert first.transport.send("n2", m.Heartbeat(term=7))
    await async_wait_until(lambda: len(second.received) == 21, timeout_s=20)
    assert second.messages[0] == m.Heartbeat(term=7)
    assert [message.sequence for message in second.messages[1:]] == list(range(20))  # type: ignore[union-attr]


async def test_largest_frame_passes_and_a_larger_message_is_refused_at_once(pair: Pair) -> None:
    first, second = pair
    largest = append_of(PEER_FRAME_BYTES_MAX)
    assert first.transport.send("n2", largest)
    with pytest.raises(ValueError, match=str(PEER_FRAME_BYTES_MAX)):
        first.transport.send("n2", append_of(PEER_FRAME_BYTES_MAX + 1))
    assert first.transport.send("n2", m.Heartbeat(term=1))
    await async_wait_until(lambda: len(second.received) == 2, timeout_s=20)
    assert largest in second.messages
    assert second.transport.statistics().buffered_bytes < 4096


async def test_heartbeats_stay_quick_while_bulk_flows(pair: Pair) -> None:
    """1 MiB appends keep the link full; heartbeats sent meanwhile wait behind a frame or two."""
    first, second = pair
    sent_at: dict[int, float] = {}
    for term in range(1, 101):
        while first.transport.statistics().peers["n2"].outbox_bytes < 8 * 1024 * 1024:
            assert first.transport.send("n2", append_of(1024 * 1024))
        sent_at[term] = time.perf_counter()
        before = len(second.received)
        assert first.transport.send("n2", m.Heartbeat(term=term))
        await async_wait_until(
            lambda term=term, before=before: m.Heartbeat(term=term) in second.messages[before:]
        )
        sent_at[term] = time.perf_counter() - sent_at[term]
        second.received.clear()
    latencies = sorted(sent_at.values())
    # Most of it is the polling of the wait, and other programs of the machine; the link was never idle.
    print(f"heartbeat under bulk: p50 {latencies[50] * 1e3:.1f} ms, max {latencies[-1] * 1e3:.1f} ms")
    assert latencies[50] < scaled(0.2)
    assert latencies[-1] < scaled(2.0)


async def test_peer_that_restarts_is_reached_again_within_a_second(rng: random.Random) -> None:
    first = make_node("n1", rng=rng)
    second = make_node("n2", rng=rng)
    await start_pair(first, second, ("n1", "n2"))
    address = second.address
    await second.transport.close()
    await async_wait_until(lambda: not first.is_sending_to("n2"))
    assert ("disconnected", "n2", None) in first.happened
    assert not first.transport.send("n2", m.Heartbeat())
    assert first.counters["dropped_not_connected"] == 1
    # Long enough for the back-off to reach its maximum.
    await async_wait_until(lambda: first.counters["dials_failed"] >= 7, timeout_s=10)
    again = make_node("n2", rng=rng, listen=address, peers={"n1": first.address})
    await again.transport.start()
    begin = time.perf_counter()
    await async_wait_until(lambda: first.is_sending_to("n2") and again.is_sending_to("n1"))
    took = time.perf_counter() - begin
    print(f"both directions up {took * 1e3:.0f} ms after the restart")
    assert took < scaled(PEER_RECONNECT_MAX_S)
    assert first.transport.send("n2", m.Heartbeat(term=3))
    await async_wait_until(lambda: again.messages == [m.Heartbeat(term=3)])
    await close_all(first, again)


async def test_dialling_backs_off(rng: random.Random) -> None:
    """Nobody listens: six attempts take at least half of 50 + 100 + 200 + 400 + 800 ms."""
    async with RawServer(lambda peer: asyncio.sleep(0)) as server:
        address = server.address
    node = make_node("n1", rng=rng, peers={"n2": address})
    begin = time.perf_counter()
    await node.transport.start()
    await async_wait_until(lambda: node.counters["dials_failed"] >= 6, timeout_s=10)
    assert time.perf_counter() - begin > 0.75
    await node.transport.close()


async def test_new_connection_replaces_the_old_one_and_its_unread_data(rng: random.Random) -> None:
    """The handler takes a millisecond per message, so most of the old connection's data waits when the new
    one comes up; from on_accepted of the new one on, nothing old may be delivered."""
    seen: list[tuple[str, int]] = []

    def slow(peer: str, message: m.Message, epoch: int) -> None:
        seen.append(("message", epoch))
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass

    node = make_node("n2", rng=rng, on_message=slow)
    await node.transport.start()
    old = await RawPeer.connect_as(node.address, hello_of("n1", "n2"))
    old.send(*[m.Heartbeat(term=term) for term in range(5000)])
    await async_wait_until(lambda: len(seen) > 10)
    new = await RawPeer.connect_as(node.address, hello_of("n1", "n2"))
    taken_over = len(seen)
    assert taken_over < 4000
    new.send(m.Heartbeat(term=1))
    await async_wait_until(lambda: ("message", 2) in seen)
    await old.wait_closed()
    assert seen[taken_over:] == [("message", 2)]
    assert node.counters["connections_replaced"] == 1
    assert [kind for kind, _, _ in node.happened] == ["accepted", "accepted"]
    new.close()
    await node.transport.close()


async def test_handler_that_raises_is_fatal_and_ends_delivery(rng: random.Random) -> None:
    calls: list[m.Message] = []

    def broken(peer: str, message: m.Message, epoch: int) -> None:
        calls.append(message)
        raise LookupError("broken on purpose")

    node = make_node("n2", rng=rng, on_message=broken)
    await node.transport.start()
    peer = await RawPeer.connect_as(node.address, hello_of("n1", "n2"))
    peer.send(m.Heartbeat(term=1), m.Heartbeat(term=2))
    await peer.wait_closed()
    assert calls == [m.Heartbeat(term=1)]
    assert [type(error) for error in node.fatal] == [LookupError]
    await node.transport.close()


async def test_membership_question_that_raises_is_fatal(rng: random.Random) -> None:
    def broken(name: str, incarnation: int) -> bool:
        raise LookupError("broken on purpose")

    node = make_node("n2", rng=rng, members=broken)
    await node.transport.start()
    peer = await RawPeer.connect(node.address)
    peer.send(hello_of("n1", "n2"))
    assert await peer.wait_closed() == b""
    assert [type(error) for error in node.fatal] == [LookupError]
    await node.transport.close()


async def silent_after_hello(peer: RawPeer) -> None:
    """Says Hello as n2 and then neither reads nor answers."""
    await peer.receive()
    peer.send(hello_of("n2", "n1"))
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]


async def test_outbox_is_bounded_and_full_bulk_leaves_room_for_heartbeats(rng: random.Random) -> None:
    limit = 4 * 1024 * 1024
    async with RawServer(silent_after_hello) as server:
        node = make_node(
            "n1", rng=rng, peers={"n2": server.address}, limits=PeerLimits(outbox_bytes_max=limit)
        )
        await node.transport.start()
        await async_wait_until(lambda: node.is_sending_to("n2"))
        refused = 0
        for _ in range(64):
            for _ in range(4):
                refused += not node.transport.send("n2", append_of(256 * 1024))
            await asyncio.sleep(0)
        state = node.transport.statistics()
        assert refused > 0
        assert node.counters["dropped_outbox_full"] == refused
        assert limit - 256 * 1024 < state.peers["n2"].outbox_bytes <= limit
        assert state.buffered_bytes < limit + 2 * 1024 * 1024
        assert node.transport.send("n2", m.Heartbeat())
        await node.transport.close()
        assert node.counters["dropped_with_connection"] > 0


async def test_connection_reset_while_sending_is_only_a_lost_link(rng: random.Random) -> None:
    """The peer resets again and again in the middle of our writes: each time reconnected, nothing fatal."""

    async def reset_soon(peer: RawPeer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await peer.receive()
            peer.send(hello_of("n2", "n1"))
            await peer.reader.readexactly(100_000)
        # Close without reading the rest: the kernel answers our writes with a reset.
        peer.close()

    async with RawServer(reset_soon) as server:
        node = make_node("n1", rng=rng, peers={"n2": server.address})
        await node.transport.start()
        for _ in range(2_000_000):
            if node.counters["connections_dialled"] >= 10:
                break
            node.transport.send("n2", append_of(20_000))
            await asyncio.sleep(0)
        assert node.counters["connections_dialled"] >= 10
        await node.transport.close()
    assert not node.fatal


async def test_half_open_link_is_found_by_its_pings(rng: random.Random) -> None:
    """The peer's kernel takes everything, the peer itself answers nothing."""
    limits = PeerLimits(ping_interval_s=0.1, pong_timeout_s=0.4)
    async with RawServer(silent_after_hello) as server:
        node = make_node("n1", rng=rng, peers={"n2": server.address}, limits=limits)
        await node.transport.start()
        await async_wait_until(lambda: ("disconnected", "n2", None) in node.happened, timeout_s=3)
        assert node.counters["pong_timeouts"] >= 1
        await node.transport.close()


async def test_answered_pings_keep_an_idle_pair_together_and_measure_it(rng: random.Random) -> None:
    limits = PeerLimits(ping_interval_s=0.05, pong_timeout_s=0.5, idle_timeout_s=0.6)
    first, second = (make_node(name, rng=rng, limits=limits) for name in ("n1", "n2"))
    await start_pair(first, second, ("n1", "n2"))
    received = first.counters["bytes_received"]
    # Twenty pings: longer than both timeouts.
    await async_wait_until(
        lambda: first.counters["bytes_received"] >= received + 20 * len(PING_FRAME) * 2, timeout_s=20
    )
    rtt_s = first.transport.statistics().peers["n2"].rtt_s
    assert rtt_s is not None and 0 < rtt_s < scaled(0.2)
    for node in (first, second):
        assert [kind for kind, _, _ in node.happened if kind == "disconnected"] == []
        assert node.counters["connections_replaced"] == 0
    await close_all(first, second)


async def test_own_standstill_is_not_blamed_on_the_peers(rng: random.Random) -> None:
    """The clock jumps by more than all timeouts, as after a pause of the process: nothing ends, neither the
    connection on which the peer's pings wait in the socket, nor the one with an unanswered ping."""
    may_answer = asyncio.Event()

    async def answer_late(peer: RawPeer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await peer.receive()
            peer.send(hello_of("n2", "n1"))
            while await peer.receive() is None:
                await may_answer.wait()
                peer.write(PING_FRAME)

    clock = JumpingClock()
    async with RawServer(answer_late) as server:
        node = make_node("n1", rng=rng, peers={"n2": server.address}, clock=clock)
        await node.transport.start()
        await async_wait_until(lambda: node.is_sending_to("n2"))
        peer = await RawPeer.connect_as(node.address, hello_of("n2", "n1"))
        for _ in range(3):
            clock.jump(60.0)
            # Longer than the interval of the checks.
            peer.write(PING_FRAME)
            for _ in range(3):
                begin = time.perf_counter()
                await async_wait_until(lambda begin=begin: time.perf_counter() > begin + 0.1)
        assert node.is_sending_to("n2")
        may_answer.set()
        peer.send(m.Heartbeat(term=1))
        await async_wait_until(lambda: node.transport.statistics().peers["n2"].rtt_s is not None)
        await async_wait_until(lambda: node.messages == [m.Heartbeat(term=1)])
        assert node.counters["pong_timeouts"] == node.counters["idle_timeouts"] == 0
        peer.close()
        await node.transport.close()


async def test_accepted_connection_without_frames_is_closed(rng: random.Random) -> None:
    node = make_node("n2", rng=rng, limits=PeerLimits(idle_timeout_s=0.3))
    await node.transport.start()
    peer = await RawPeer.connect_as(node.address, hello_of("n1", "n2"))
    # Half of a frame is not a frame.
    peer.write(framed(encode(m.Heartbeat(term=1)))[:9])
    await peer.wait_closed(3.0)
    assert node.counters["idle_timeouts"] == 1
    await node.transport.close()


async def test_blocked_directions_lose_messages_and_keep_the_link(pair: Pair) -> None:
    first, second = pair
    first.transport.block("n2", "out")
    assert first.transport.send("n2", m.Heartbeat(term=1))
    first.transport.unblock("n2")
    second.transport.block("n1", "in")
    assert first.transport.send("n2", m.Heartbeat(term=2))
    await async_wait_until(lambda: second.counters["dropped_by_fault"] == 1)
    second.transport.unblock("n1")
    assert first.transport.send("n2", m.Heartbeat(term=3))
    await async_wait_until(lambda: second.received)
    assert second.messages == [m.Heartbeat(term=3)]
    assert first.counters["dropped_by_fault"] == 1


async def test_block_needs_fault_injection(rng: random.Random) -> None:
    with pytest.raises(RuntimeError, match="fault_injection"):
        make_node("n1", rng=rng).transport.block("n2")


async def test_set_peers_ends_and_begins_connections(pair: Pair, rng: random.Random) -> None:
    first, second = pair
    third = make_node("n3", rng=rng, peers={"n1": first.address})
    await third.transport.start()
    first.transport.set_peers({"n3": third.address, "n1": "127.0.0.1:1"})
    assert not first.is_sending_to("n2")
    assert not first.transport.send("n2", m.Heartbeat())
    await async_wait_until(lambda: first.is_sending_to("n3") and third.is_sending_to("n1"))
    assert ("disconnected", "n2", None) in first.happened
    assert set(first.transport.statistics().peers) == {"n3"}
    with pytest.raises(ConfigError, match="nowhere"):
        first.transport.set_peers({"n2": "nowhere"})
    assert set(first.transport.statistics().peers) == {"n3"}
    first.transport.set_peers({"n3": third.address, "n2": second.address})
    await async_wait_until(lambda: first.is_sending_to("n2") and first.is_sending_to("n3"))
    await third.transport.close()


async def test_new_incarnation_of_a_peer_ends_the_link_to_the_old_one(rng: random.Random) -> None:
    """The old process of n2 seems alive to TCP; the new one's Hello shows that it is not."""
    async with RawServer(silent_after_hello) as server:
        node = make_node("n1", rng=rng, peers={"n2": server.address})
        await node.transport.start()
        await async_wait_until(lambda: node.is_sending_to("n2"))
        peer = await RawPeer.connect_as(node.address, hello_of("n2", "n1", incarnation=2))
        assert ("disconnected", "n2", None) in node.happened
        peer.close()
        await node.transport.close()


async def test_burst_of_small_messages_does_not_hold_the_loop(rng: random.Random) -> None:
    """100,000 heartbeats at once are handled in slices: other work of the loop goes on in between.
    Processor time of this thread is measured: other programs of the machine are not our subject."""
    node = make_node("n2", rng=rng)
    await node.transport.start()
    peer = await RawPeer.connect_as(node.address, hello_of("n1", "n2"))
    count = 100_000
    peer.write(framed(encode(m.Heartbeat(term=1, round=2, commit_index=3))) * count)
    longest, before = 0.0, time.thread_time()
    gc.disable()
    while len(node.received) < count:
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    gc.enable()
    print(f"longest turn of the loop {longest * 1e3:.1f} ms")
    assert longest < scaled(0.05)
    peer.close()
    await node.transport.close()


async def test_listener_survives_the_lack_of_file_descriptors(pair: Pair, rng: random.Random) -> None:
    first, second = pair
    strangers = [await RawPeer.connect(second.address) for _ in range(4)]
    await async_wait_until(lambda: second.transport.statistics().handshaking == 4)
    # The kernel completes these without anybody accepting; their descriptors are taken before there are none.
    waiting = [socket.create_connection(parse_address(second.address)) for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        await async_wait_until(lambda: second.counters["accepts_failed"] >= 2)
        first.transport.send("n2", m.Heartbeat(term=5))
        await async_wait_until(lambda: second.messages == [m.Heartbeat(term=5)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    third = make_node("n3", rng=rng, peers={"n2": second.address})
    await third.transport.start()
    await async_wait_until(lambda: third.is_sending_to("n2"))
    await third.transport.close()
    for stranger in strangers:
        stranger.close()
    for sock in waiting:
        sock.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_close_leaves_nothing_and_may_be_repeated(rng: random.Random) -> None:
    """Two rounds: what the loop itself opens on first use is there after the first one."""
    tasks = len(asyncio.all_tasks())
    unstarted = make_node("n1", rng=rng)
    await close_all(unstarted, unstarted)
    descriptors = 0
    for _ in range(2):
        first, second = make_node("n1", rng=rng), make_node("n2", rng=rng, peers={"n3": "127.0.0.1:1"})
        await start_pair(first, second, ("n1", "n2"))
        stranger = await RawPeer.connect(first.address)
        await async_wait_until(
            lambda first=first: first.transport.statistics().handshaking == 1, what="stranger seen"
        )
        address = first.address
        happened = list(first.happened)
        await close_all(first, second, first)
        await first.transport.close()
        await stranger.wait_closed()
        assert len(asyncio.all_tasks()) == tasks
        assert first.happened == happened
        assert not first.transport.send("n2", m.Heartbeat())
        with pytest.raises(OSError):
            await RawPeer.connect(address)
        if descriptors == 0:
            descriptors = open_descriptors()
    await async_wait_until(lambda: open_descriptors() <= descriptors, what="sockets closed")


async def test_last_message_before_close_leaves(pair: Pair) -> None:
    first, second = pair
    assert first.transport.send("n2", m.TimeoutNow(term=9))
    await first.transport.close()
    await async_wait_until(lambda: m.TimeoutNow(term=9) in second.messages)


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:x", "127.0.0.1:70000", ":1", "::1:80", "host:"])
async def test_bad_address_is_a_configuration_error(address: str, rng: random.Random) -> None:
    for node in (make_node("n1", rng=rng, listen=address), make_node("n1", rng=rng, peers={"n2": address})):
        with pytest.raises(ConfigError, match="host:port"):
            await node.transport.start()
        await node.transport.close()


async def test_address_in_use_is_a_configuration_error(pair: Pair, rng: random.Random) -> None:
    node = make_node("n3", rng=rng, listen=pair[0].address)
    with pytest.raises(ConfigError, match="in use"):
        await node.transport.start()
    await node.transport.close()
