"""Writes a sample of today's files for tests/data/formats: `python -m tests.helpers.format_sample`.

A node that runs alone gets commands of every kind, takes a snapshot in the middle, and is stopped. Its whole
data directory becomes tests/data/formats/<name>/data.tar.gz, and what it held then expected.json beside it.
Samples are made once for each format, by the release that wrote it first, and never again.
"""

import argparse
import asyncio
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from replcache.statemachine import commands as c
from tests.helpers.raft_cluster import RaftCluster
from tests.helpers.wait import async_wait_until

FOLDER = Path(__file__).resolve().parents[1] / "data" / "formats"
CLUSTER_ID = b"test"
NODE = "n1"

# Every kind of operation; what an operation can say is said by at least one of them.
FIRST = (
    c.Set(b"plain", b"value"),
    c.Set(b"typed", b'{"a":1}', content_type="application/json", ttl_ms=10**9, tags=("red", "blue")),
    c.Set(b"idle", b"\x00\xff", idle_ttl_ms=10**9, max_reads=3),
    c.Set(b"once", b"1", condition=c.Condition(if_absent=True), want_previous=True),
    c.Update(b"typed", merge_json=b'{"b":[2.5]}'),
    c.Update(b"plain", append=b"!"),
    c.Update(b"once", add_integer=41),
    c.Update(b"once", add_decimal="0.5"),
    c.Touch(b"plain", ttl_ms=10**9),
    c.Increment(b"counter", 7, initial=3, minimum=0, maximum=100),
    c.Get(b"idle"),
    c.Set(b"gone", b"x", tags=("green",)),
    c.InvalidateTags(("green",)),
    c.Set(b"removed", b"x"),
    c.Delete(b"removed", want_previous=True),
    c.NamespaceSet("small", b"small/", 10_000, 1),
    c.Set(b"small/a", b"1"),
    c.Set(b"small/b", b"2"),
    c.Accessed((b"small/a",)),
    c.Evict((b"small/b",), (), "size"),
    c.GuardSet(b"guarded/", "keeper"),
    c.LockAcquire("keeper", b"me", 10**9, note="who I am"),
    c.LockAcquire("keeper", b"you", 10**9, wait_ms=10**9),
    c.LockAcquire("readers", b"r1", 10**9, shared=True),
    c.LockAcquire("semaphore", b"s1", 10**9, permits=3),
    c.LeaseGrant(10**9),
    c.LeaseGrant(10**9),
    c.SessionOpen(10**9),
    c.SessionOpen(10**9),
)


def with_numbers(token: int, leases: list[int], sessions: list[int]) -> tuple[c.Op, ...]:
    """What needs the numbers that the first operations were answered with."""
    fence = c.Fence("keeper", token)
    return (
        c.LockNote("keeper", b"me", token, "new note"),
        c.LockRenew("keeper", b"me", token, 10**9),
        c.Set(b"guarded/a", b"fenced", fence=fence),
        c.Set(b"leased", b"x", lease_id=leases[0]),
        c.LeaseKeep(leases[0]),
        c.SessionKeep(sessions[0]),
        c.Txn(
            compares=(c.Compare(b"plain", c.Condition(if_present=True)),),
            held=(fence,),
            then_ops=(c.Set(b"from txn", b"then"),),
            else_ops=(c.Set(b"from txn", b"else"),),
        ),
    )


def second(token: int, leases: list[int], sessions: list[int]) -> tuple[c.Op, ...]:
    """What stands in the log only, behind the snapshot."""
    return (
        *with_numbers(token, leases, sessions),
        c.Set(b"range/1", b"x"),
        c.Set(b"range/2", b"x"),
        c.DeleteRange(b"range/", b"range0"),
        c.LockRelease("semaphore", b"s1"),
        c.GuardRemove(b"nothing/"),
        c.NamespaceRemove("nothing"),
        c.LeaseRevoke(leases[1]),
        c.SessionClose(sessions[1]),
        c.Set(b"plain", b"again", keep_ttl=True, condition=c.Condition(if_version=3)),
    )


async def run(directory: Path) -> dict[str, object]:
    """Makes the data directory `directory`/n1; returns what it holds."""
    cluster = RaftCluster(directory, (NODE,), snapshot_after_entries=len(FIRST) + 8, log_kept_entries=4)
    await cluster.start()
    try:
        node = await cluster.wait_leader()

        async def propose(command: c.Command) -> Any:
            results: Any = await node.propose(command, cluster.clock.now() + 5)
            return results

        answers = {}
        for number, op in enumerate(FIRST):
            request = b"request %d" % number
            answers[number] = (await propose(c.Command(ops=(op,), request_id=request)))[0]
        leases = [answers[n].lease_id for n, op in enumerate(FIRST) if isinstance(op, c.LeaseGrant)]
        sessions = [answers[n].session_id for n, op in enumerate(FIRST) if isinstance(op, c.SessionOpen)]
        numbers = (node.machine.held_token("keeper", b"me"), leases, sessions)
        for sequence, op in enumerate(with_numbers(*numbers), 1):
            await propose(c.Command(ops=(op,), session_id=sessions[0], session_sequence=sequence))
        columns = c.SetMany([b"many/%d" % i for i in range(20)], [b"v"] * 20, "text/plain", 10**9)
        await propose(c.Command(set_many=columns))
        await async_wait_until(lambda: node.status().snapshot_index > 0, 10, "a snapshot")
        for op in second(*numbers):
            await propose(c.Command(ops=(op,)))
        await propose(c.Command(set_many=columns))
        await propose(c.Command(ops=(c.Set(b"both", b"1"), c.Set(b"of us", b"2")), atomic=True))
        machine = node.machine
        return {
            "applied_index": node.engine.applied_index,
            "snapshot_index": node.status().snapshot_index,
            "revision": machine.revision,
            "digest": machine.digest().hex(),
            "values": {key.decode(): entry.value.hex() for key, entry in machine.scan(b"", b"", 1000)[0]},
        }
    finally:
        await cluster.stop()


def pack(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(directory, NODE)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="folder of tests/data/formats that must not exist yet")
    folder = FOLDER / parser.parse_args().name
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as directory:
        expected = asyncio.run(run(Path(directory)))
        (folder / "data.tar.gz").write_bytes(pack(Path(directory, NODE)))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
