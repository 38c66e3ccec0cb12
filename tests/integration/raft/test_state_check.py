"""The replicas of a busy cluster are compared at one index: no false alarm, and no difference overlooked."""

import asyncio
import itertools
from pathlib import Path

from replcache.observability.metrics import Metrics
from replcache.server import state_hash
from replcache.server.state_hash import StateCheck, StateHasher
from replcache.statemachine.commands import Command, Set
from replcache.statemachine.entries import VALUE
from tests.helpers.raft_cluster import RaftCluster
from tests.helpers.wait import async_wait_until, scaled


async def test_replicas_are_compared_under_load(tmp_path: Path) -> None:
    cluster = RaftCluster(tmp_path)
    await cluster.start()
    try:
        leader = await cluster.wait_leader()
        await async_wait_until(lambda: len(leader.engine.connected) == 2, what="all are connected")
        clock, metrics = cluster.clock, Metrics()
        hashers = {name: StateHasher(node, clock) for name, node in cluster.nodes.items()}
        for name, node in cluster.nodes.items():
            node.answer(state_hash.QUESTION, hashers[name].answer)
        check = StateCheck(leader, hashers[leader.config.name], metrics, clock, 0.0)
        done = asyncio.Event()

        async def write(writer: int) -> None:
            for number in itertools.count():
                if done.is_set():
                    return
                op = Set(b"%d/%d" % (writer, number % 100), b"value %d" % number)
                await leader.propose(Command(ops=(op,)), clock.now() + scaled(20))

        async with asyncio.TaskGroup() as group:
            for writer in range(8):
                group.create_task(write(writer))
            await async_wait_until(lambda: leader.machine.revision > 50, 20, "the load runs")
            for _ in range(5):
                before = leader.machine.revision
                found = await check.compare()
                assert found is not None
                assert (found.diverged, len(found.equal)) == ((), 3)
                await async_wait_until(
                    lambda before=before: leader.machine.revision > before + 20, 20, "writes go on"
                )
            done.set()
        victim = next(name for name in cluster.nodes if name != leader.config.name)
        await leader.propose(Command(ops=(Set(b"planted", b"good"),)), clock.now() + scaled(20))
        rows = cluster.nodes[victim].machine.store.rows
        await async_wait_until(lambda: b"planted" in rows, what="the victim has it")
        row = rows[b"planted"]
        rows[b"planted"] = (bytes([row[VALUE][0] ^ 1]) + row[VALUE][1:], *row[1:])
        found = await check.compare()
        assert found is not None
        assert found.diverged == (victim,)
        assert (metrics.state_checks, metrics.state_divergences, metrics.state_diverged_nodes) == (6, 1, 1)
    finally:
        await cluster.stop()
