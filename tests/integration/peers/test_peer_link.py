"""Goal: messages between nodes arrive in order and in time, and broken links are found and replaced.

Method: real transports on loopback, under asyncio's loop and under uvloop; where a peer must misbehave, a raw
connection takes its place.
"""

import asyncio
import contextlib
import gc
import random
import time

import pytest

from replcache.constants import PEER_FRAME_BYTES_MAX
from replcache.raft import messages as m
from replcache.raft.peer_codec import encode
from replcache.raft.peer_framing import PING_FRAME
from replcache.raft.peers import PeerLimits
from tests.helpers.peers import (
    JumpingClock,
    Pair,
    RawPeer,
    RawServer,
    append_of,
    close_all,
    framed,
    hello_of,
    make_node,
    silent_after_hello,
    start_pair,
)
from tests.helpers.wait import async_wait_until, scaled


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


async def test_new_connection_replaces_the_old_one_and_its_unread_data(rng: random.Random) -> None:
    """The handler takes a millisecond per message, so most of the old connection's data waits when the new
    one comes up; from on_accepted of the new one on, nothing old may be delivered."""
    # Of each message: its epoch, and how many connections had been accepted by then.
    seen: list[tuple[int, int]] = []

    def slow(peer: str, message: m.Message, epoch: int) -> None:
        seen.append((epoch, len(node.happened)))
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass

    node = make_node("n2", rng=rng, on_message=slow)
    await node.transport.start()
    old = await RawPeer.connect_as(node.address, hello_of("n1", "n2"))
    old.send(*[m.Heartbeat(term=term) for term in range(5000)])
    await async_wait_until(lambda: len(seen) > 10)
    new = await RawPeer.connect_as(node.address, hello_of("n1", "n2"))
    new.send(m.Heartbeat(term=1))
    await async_wait_until(lambda: (2, 2) in seen)
    await old.wait_closed()
    assert len(seen) < 4000
    assert set(seen) == {(1, 1), (2, 2)}
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


async def test_full_link_goes_on_when_the_peer_reads_again(rng: random.Random) -> None:
    """All is queued before the peer reads; no later message and no ping has to push it."""
    may_read = asyncio.Event()
    arrived: list[m.Message | None] = []

    async def read_late(peer: RawPeer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await silent_after_hello(peer)
            await may_read.wait()
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
            while True:
                arrived.append(await peer.receive())

    limits = PeerLimits(ping_interval_s=60.0, pong_timeout_s=60.0)
    async with RawServer(read_late) as server:
        node = make_node("n1", rng=rng, peers={"n2": server.address}, limits=limits)
        await node.transport.start()
        await async_wait_until(lambda: node.is_sending_to("n2"))
        for sequence in range(64):
            assert node.transport.send("n2", append_of(512 * 1024, sequence))
        before = -1

        def stopped() -> bool:
            nonlocal before
            before, last = node.transport.statistics().peers["n2"].outbox_bytes, before
            return before == last

        await async_wait_until(stopped, what="the link is full")
        assert before > 0
        may_read.set()
        await async_wait_until(lambda: len(arrived) == 65, timeout_s=20)
        assert [message.sequence for message in arrived if message is not None] == list(range(64))  # type: ignore[union-attr]
        await node.transport.close()


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
            begin = time.perf_counter()
            await async_wait_until(lambda begin=begin: time.perf_counter() > begin + 0.3)
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
