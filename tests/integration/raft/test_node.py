"""Whole Raft nodes over real sockets and a real disk: first start, failover, snapshots, members."""

import asyncio
import threading

import pytest

from replcache.errors import (
    CorruptLog,
    CorruptSnapshot,
    InvalidRequest,
    NodeHalted,
    NoLeader,
    NotApplied,
    OutcomeUnknown,
    StorageError,
)
from replcache.raft.port import Member, Role
from replcache.raft.snapshots import SnapshotWriter
from replcache.statemachine.results import IncrementResult
from tests.helpers.peers import RawPeer, hello_of
from tests.helpers.raft_cluster import RaftCluster, free_port
from tests.helpers.wait import async_wait_until, scaled


@pytest.fixture
async def cluster(tmp_path):
    made = RaftCluster(tmp_path)
    yield made
    await made.stop()


async def test_the_first_start_waits_for_all_members(cluster):
    await cluster.start("n1", "n2")
    with pytest.raises(NoLeader):
        await cluster.set(cluster.nodes["n1"], b"k", b"v", timeout_s=1.5)
    assert cluster.nodes["n1"].status().role is Role.JOINING
    await cluster.start("n3")
    await cluster.wait_leader()
    await cluster.set(cluster.nodes["n1"], b"k", b"v")


async def test_every_node_takes_writes_and_linearizable_reads(cluster):
    await cluster.start()
    await cluster.wait_leader()
    for number, node in enumerate(cluster.nodes.values()):
        key = b"k%d" % number
        await cluster.set(node, key, b"v")
        for other in cluster.nodes.values():
            await other.read_index(cluster.clock.now() + 2)
            assert other.machine.peek(key).value == b"v"


async def test_what_was_acknowledged_is_there_after_all_nodes_restart(cluster):
    await cluster.start()
    leader = await cluster.wait_leader()
    for number in range(50):
        await cluster.set(leader, b"k%d" % number, b"v%d" % number)
    await cluster.stop()
    await cluster.start()
    leader = await cluster.wait_leader()
    await leader.read_index(cluster.clock.now() + 5)
    assert all(leader.machine.peek(b"k%d" % i).value == b"v%d" % i for i in range(50))
    await cluster.wait_equal()


async def test_a_snapshot_that_became_due_during_another_one_is_taken_without_more_writes(
    tmp_path, monkeypatch
):
    cluster = RaftCluster(tmp_path, names=("n1",), snapshot_after_entries=20)
    try:
        await cluster.start()
        leader = await cluster.wait_leader()
        may_run = threading.Event()
        run = SnapshotWriter.run

        def run_when_told(writer):
            assert may_run.wait(scaled(20))
            return run(writer)

        monkeypatch.setattr(SnapshotWriter, "run", run_when_told)
        for number in range(60):
            await cluster.set(leader, b"k", b"%d" % number)
        assert leader.snapshot_index < 40
        may_run.set()
        await async_wait_until(lambda: leader.snapshot_index >= 60, 10, "a snapshot of all of it")
    finally:
        may_run.set()
        await cluster.stop()


async def test_a_follower_that_was_away_longer_than_the_log_comes_back_by_snapshot(tmp_path):
    cluster = RaftCluster(tmp_path, snapshot_after_entries=50, log_kept_entries=10, snapshot_chunk_bytes=4096)
    try:
        await cluster.start()
        leader = await cluster.wait_leader()
        await cluster.set(leader, b"first", b"x" * 20_000)
        away = next(name for name in cluster.nodes if name != leader.config.name)
        await cluster.stop(away)
        for number in range(200):
            await cluster.set(leader, b"k%d" % (number % 40), b"%d" % number)
        await async_wait_until(lambda: leader.engine.wal.base_index > 60, 10, "the log is compacted")
        await cluster.start(away)
        back = cluster.nodes[away]
        await async_wait_until(
            lambda: back.engine.applied_index == leader.engine.applied_index,
            10,
            "caught up",
            cluster.describe,
        )
        assert back.engine.snapshots_in.installed_count == 1
        await cluster.wait_equal()
        await cluster.set(back, b"after", b"y")
        taken = leader.snapshots_taken
        for number in range(60):
            await cluster.set(leader, b"k", b"%d" % number)
        await async_wait_until(lambda: leader.snapshots_taken > taken, 10, "another snapshot")
        assert leader._snapshots._serving is None, (
            "an open file keeps its room on the disk when it is deleted"
        )
        await cluster.stop()
        await cluster.start()
        await cluster.wait_leader()
        await cluster.wait_equal()
        assert cluster.nodes[away].machine.peek(b"first").value == b"x" * 20_000
    finally:
        await cluster.stop()


async def test_a_node_that_lost_its_disk_never_votes_from_nothing_and_is_taken_in_again(cluster):
    """Hazard H8: the wiped node could otherwise elect a leader that lacks what it had acknowledged."""
    await cluster.start()
    leader = await cluster.wait_leader()
    await cluster.set(leader, b"k", b"v")
    victim = next(name for name in cluster.nodes if name != leader.config.name)
    third = next(name for name in cluster.nodes if name not in (victim, leader.config.name))
    await cluster.stop(victim, third)
    cluster.wipe(victim)
    await cluster.start(victim)
    assert cluster.nodes[victim].status().role is Role.JOINING
    with pytest.raises((NotApplied, OutcomeUnknown)):
        await cluster.set(leader, b"k", b"lost?", timeout_s=2.5)
    assert cluster.nodes[victim].status().role is Role.JOINING
    await cluster.start(third)
    await async_wait_until(
        lambda: (
            victim in (cluster.leader or leader).engine.configurations.voters
            and cluster.nodes[victim].engine.is_recognised
            and cluster.nodes[victim].status().role is not Role.JOINING
        ),
        15,
        "the wiped node is a voter again",
        cluster.describe,
    )
    await cluster.wait_leader()
    await cluster.wait_equal()
    assert cluster.nodes[victim].machine.peek(b"k").value in (b"v", b"lost?")
    # The directory is not a fresh one any more: it starts as a member.
    await cluster.stop(victim)
    await cluster.start(victim)
    await cluster.wait_leader()
    assert cluster.nodes[victim].status().role is not Role.JOINING


async def test_leadership_moves_to_the_asked_node_under_load(cluster):
    await cluster.start()
    leader = await cluster.wait_leader()
    target = next(name for name in cluster.nodes if name != leader.config.name)
    total = 0

    async def load():
        nonlocal total
        while total < 300:
            assert isinstance(await cluster.increment(leader, b"n"), IncrementResult)
            total += 1

    task = asyncio.create_task(load())
    await async_wait_until(lambda: total > 50, 5, "load runs")
    assert await leader.transfer_leadership(target, cluster.clock.now() + 5) == target
    await task
    await leader.read_index(cluster.clock.now() + 5)
    assert leader.machine.peek(b"n").value == b"300"


async def test_a_member_is_added_by_name_promoted_and_removed(cluster):
    await cluster.start()
    leader = await cluster.wait_leader()
    await cluster.set(leader, b"k", b"v")
    new = Member("n4", f"127.0.0.1:{free_port()}", "n4:1", promote=True)
    await leader.change_members("add", new, cluster.clock.now() + 5)
    await cluster.start_member(new, join=True)
    await async_wait_until(
        lambda: "n4" in leader.engine.configurations.voters, 10, "n4 votes", cluster.describe
    )
    engine = leader.engine
    await async_wait_until(
        lambda: engine.configurations.current_index <= engine.commit_index, 10, "its promotion is committed"
    )
    await cluster.wait_equal()
    follower = next(n for n in cluster.nodes.values() if n is not leader and n.config.name != "n4")
    members = await follower.change_members("remove", Member("n4", "", ""), cluster.clock.now() + 5)
    assert "n4" not in [m.name for m in members]
    await cluster.set(leader, b"k", b"w")


async def test_reads_that_wait_for_a_leader_end_with_their_node(cluster):
    """At once, not at their deadline: whoever stops the node waits for them."""
    await cluster.start("n1", "n2")
    stopping, halting = cluster.nodes["n1"], cluster.nodes["n2"]
    deadline = cluster.clock.now() + 60
    reads = [asyncio.create_task(node.read_index(deadline)) for node in (stopping, halting)]
    await asyncio.sleep(0)
    halting.fail(StorageError("injected"))
    await cluster.stop("n1")
    async with asyncio.timeout(scaled(5)):
        ended = await asyncio.gather(*reads, return_exceptions=True)
    assert [type(error) for error in ended] == [NotApplied, NodeHalted]


async def test_a_members_useless_address_stops_no_node(cluster):
    """It is in the log for ever: a node that stopped over it could not be started again either."""
    await cluster.start()
    leader = await cluster.wait_leader()
    # What the servers' own check of addresses lets pass, and this layer can't dial.
    for address in ("[]:7401", "n4:\u0667\u0664"):
        with pytest.raises(InvalidRequest):
            await leader.change_members("add", Member("n4", address, "n4:1"), cluster.clock.now() + 5)
    # Well formed, and no name that could be looked up.
    await leader.change_members("add", Member("n4", "n4..example:7401", "n4:1"), cluster.clock.now() + 5)
    await async_wait_until(
        lambda: all(n.transport.counters["dials_failed"] for n in cluster.nodes.values()),
        5,
        "all have dialled",
    )
    await cluster.set(leader, b"k", b"v")
    assert not cluster.halts


async def test_a_useless_address_in_a_greeting_stops_no_node(cluster):
    await cluster.start()
    leader = await cluster.wait_leader()
    hello = hello_of("n9", leader.config.name, cluster_id=b"test", peer_address="nowhere")
    stranger = await RawPeer.connect_as(leader.transport.bound_address, hello)
    await cluster.set(leader, b"k", b"v")
    assert not cluster.halts
    stranger.writer.close()


async def test_a_cut_off_leader_serves_no_linearizable_read_and_the_rest_goes_on(cluster):
    await cluster.start()
    old = await cluster.wait_leader()
    await cluster.set(old, b"k", b"old")
    others = [n for n in cluster.nodes.values() if n is not old]
    for other in others:
        old.transport.block(other.config.name)
    started = cluster.clock.now()
    await async_wait_until(lambda: any(n.engine.is_leader for n in others), 5, "a new leader")
    await cluster.set(others[0], b"k", b"new")
    assert cluster.clock.now() - started < 4
    with pytest.raises(NoLeader):
        await old.read_index(cluster.clock.now() + 1)
    term = max(n.engine.term for n in others)
    for other in others:
        old.transport.unblock(other.config.name)
    await old.read_index(cluster.clock.now() + 5)
    assert old.machine.peek(b"k").value == b"new"
    assert {n.engine.term for n in cluster.nodes.values()} == {term}


async def test_a_damaged_log_stops_the_node_and_names_the_place(cluster):
    await cluster.start()
    leader = await cluster.wait_leader()
    for number in range(20):
        await cluster.set(leader, b"k%d" % number, b"v" * 500)
    victim = next(name for name in cluster.nodes if name != leader.config.name)
    await cluster.stop(victim)
    segment = next((cluster.directory / victim / "wal").iterdir())
    data = bytearray(segment.read_bytes())
    data[6000] ^= 4
    segment.write_bytes(data)
    with pytest.raises(CorruptLog, match=segment.name):
        await cluster.start(victim)
    await cluster.set(leader, b"after", b"v")
    await cluster.nodes.pop(victim).close()


async def test_a_damaged_snapshot_stops_the_node_and_names_the_place(tmp_path):
    cluster = RaftCluster(tmp_path, snapshot_after_entries=20, log_kept_entries=5)
    try:
        await cluster.start()
        leader = await cluster.wait_leader()
        victim = next(n for n in cluster.nodes.values() if n is not leader)
        for number in range(60):
            await cluster.set(leader, b"k%d" % number, b"v" * 100)
        await async_wait_until(lambda: victim.snapshots_taken, 10, "a snapshot")
        name = victim.config.name
        await cluster.stop(name)
        snapshot = max((cluster.directory / name / "snapshots").iterdir())
        data = bytearray(snapshot.read_bytes())
        data[len(data) // 2] ^= 1
        snapshot.write_bytes(data)
        with pytest.raises(CorruptSnapshot, match=snapshot.name):
            await cluster.start(name)
        await cluster.nodes.pop(name).close()
    finally:
        await cluster.stop()


async def test_two_processes_never_share_a_data_directory(cluster):
    await cluster.start()
    again = RaftCluster(cluster.directory)
    with pytest.raises(StorageError, match="another process"):
        await again.start("n1")
    await again.stop()
