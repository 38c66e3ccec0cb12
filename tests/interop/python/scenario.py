"""The scenario that every language runs. Usage: python scenario.py ADDRESS,ADDRESS,... PREFIX [CA_FILE]

The token, if any, is in REPLCACHE_TOKEN. Prints one line a step; after `kill NODE` it waits for a line.
"""

import os
import sys
from collections.abc import Callable, Iterator

import grpc
from cluster import TRY_TIMEOUT_S, Cluster, Node, connect, once, reason
from google.protobuf.duration_pb2 import Duration
from replcache.v1 import cache_pb2, cluster_pb2, common_pb2, lock_pb2, watch_pb2

EVENTS = 20


def main() -> None:
    addresses, prefix, ca_file = sys.argv[1].split(","), sys.argv[2].encode(), (*sys.argv[3:], None)[0]
    token = os.environ.get("REPLCACHE_TOKEN")
    cluster = Cluster([connect(address, ca_file, token) for address in addresses])
    read_and_write(cluster, prefix + b"user")
    refusals(cluster, prefix)
    count(cluster, prefix)
    many_at_once(cluster, prefix)
    transaction(cluster, prefix)
    lock(cluster, prefix)
    if token:
        stranger = connect(addresses[0], ca_file, None)
        get = cache_pb2.GetRequest(key=prefix)
        print("no token:", outcome(lambda: stranger.cache.Get(get, timeout=TRY_TIMEOUT_S)))
        others = cache_pb2.GetRequest(key=b"not/ours")
        print("no right:", outcome(lambda: cluster.nodes[0].cache.Get(others, timeout=TRY_TIMEOUT_S)))
    watch(cluster, prefix + b"watch/")


def read_and_write(cluster: Cluster, key: bytes) -> None:
    one, two, three = (node.cache for node in cluster.nodes)
    ttl = Duration(seconds=600)
    value = b'{"name":"Ada"}'
    written = one.Set(
        cache_pb2.SetRequest(
            key=key, value=value, content_type="application/json", ttl=ttl, idempotency=once()
        ),
        timeout=TRY_TIMEOUT_S,
    )
    print("set: version", written.version)

    entry = two.Get(cache_pb2.GetRequest(key=key), timeout=TRY_TIMEOUT_S).entry
    print("get linearizable:", entry.value.decode(), entry.content_type)

    session = common_pb2.ReadOptions(
        level=common_pb2.READ_LEVEL_SESSION, min_revision=written.header.revision
    )
    answer = three.Get(cache_pb2.GetRequest(key=key, read=session), timeout=TRY_TIMEOUT_S)
    assert answer.header.revision >= written.header.revision
    print("get session:", answer.entry.value.decode())

    bound = Duration(seconds=2)
    local = common_pb2.ReadOptions(level=common_pb2.READ_LEVEL_ONE, max_staleness=bound)
    answer = one.Get(cache_pb2.GetRequest(key=key, read=local), timeout=TRY_TIMEOUT_S)
    assert answer.header.staleness.ToNanoseconds() <= bound.ToNanoseconds()
    print("get one:", answer.entry.value.decode())

    missing = one.Get(cache_pb2.GetRequest(key=key + b"/none"), timeout=TRY_TIMEOUT_S)
    print("get missing:", "present" if missing.HasField("entry") else "absent")

    merged = one.Update(
        cache_pb2.UpdateRequest(key=key, merge_json=b'{"admin":true}', idempotency=once()),
        timeout=TRY_TIMEOUT_S,
    )
    print("update:", merged.entry.value.decode(), "version", merged.entry.version)


def refusals(cluster: Cluster, prefix: bytes) -> None:
    cache = cluster.nodes[1].cache
    update = cache_pb2.UpdateRequest(key=prefix + b"none", append=b"x", idempotency=once())
    print("update missing:", outcome(lambda: cache.Update(update, timeout=TRY_TIMEOUT_S)))
    absent = cache_pb2.Condition(if_absent=True)
    new = cache_pb2.SetRequest(key=prefix + b"user", condition=absent, idempotency=once())
    print("set if absent:", outcome(lambda: cache.Set(new, timeout=TRY_TIMEOUT_S)))
    long = cache_pb2.SetRequest(key=prefix + bytes(1024), idempotency=once())
    print("key too long:", outcome(lambda: cache.Set(long, timeout=TRY_TIMEOUT_S)))


def count(cluster: Cluster, prefix: bytes) -> None:
    """The same request sent twice, to two nodes, counts once."""
    five = cache_pb2.IncrementRequest(key=prefix + b"count", delta=5, idempotency=once())
    values = [node.cache.Increment(five, timeout=TRY_TIMEOUT_S).value for node in cluster.nodes[:2]]
    print("increment twice with one request id:", *values)


def many_at_once(cluster: Cluster, prefix: bytes) -> None:
    cache = cluster.nodes[2].cache
    batch = cache_pb2.BatchRequest(atomic=True, idempotency=once())
    batch.operations.add().set.CopyFrom(cache_pb2.SetRequest(key=prefix + b"a", value=b"1"))
    batch.operations.add().increment.CopyFrom(cache_pb2.IncrementRequest(key=prefix + b"count", delta=1))
    batch.operations.add().get.CopyFrom(cache_pb2.GetRequest(key=prefix + b"a"))
    done = cache.Batch(batch, timeout=TRY_TIMEOUT_S).results
    print("batch:", done[0].set.version, done[1].increment.value, done[2].get.entry.value.decode())

    undone = cache_pb2.BatchRequest(atomic=True, idempotency=once())
    undone.operations.add().delete.key = prefix + b"a"
    undone.operations.add().update.CopyFrom(cache_pb2.UpdateRequest(key=prefix + b"none", append=b"x"))
    print("batch undone:", outcome(lambda: cache.Batch(undone, timeout=TRY_TIMEOUT_S)))


def transaction(cluster: Cluster, prefix: bytes) -> None:
    """Takes 6 from the counter and adds it to another, if nobody was faster; the second time it is not 6."""
    move = cache_pb2.TxnRequest()
    compare = move.compares.add(key=prefix + b"count")
    compare.condition.if_value = b"6"
    move.then.add().increment.CopyFrom(cache_pb2.IncrementRequest(key=prefix + b"count", delta=-6))
    move.then.add().increment.CopyFrom(cache_pb2.IncrementRequest(key=prefix + b"other", delta=6))
    move.otherwise.add().get.key = prefix + b"count"

    def ask() -> str:
        move.idempotency.CopyFrom(once())
        done = cluster.nodes[1].cache.Txn(move, timeout=TRY_TIMEOUT_S)
        if done.succeeded:
            return f"then {done.results[1].increment.value}"
        return f"otherwise {done.results[0].get.entry.value.decode()}"

    print("txn:", outcome(ask))
    print("txn:", outcome(ask))


def lock(cluster: Cluster, prefix: bytes) -> None:
    node = cluster.nodes[0]
    name = (prefix + b"lock").decode()

    def acquire(owner: bytes) -> int:
        wanted = lock_pb2.AcquireRequest(name=name, owner=owner, ttl=Duration(seconds=10))
        return int(node.lock.Acquire(wanted, timeout=TRY_TIMEOUT_S).token)

    def write(token: int) -> cache_pb2.SetResponse:
        fence = common_pb2.Fence(name=name, token=token)
        fenced = cache_pb2.SetRequest(key=prefix + b"guarded", value=b"x", fence=fence, idempotency=once())
        return node.cache.Set(fenced, timeout=TRY_TIMEOUT_S)

    first = acquire(b"first")
    print("fenced write: version", write(first).version)
    print("lock held by another:", outcome(lambda: acquire(b"second")))
    node.lock.Release(lock_pb2.ReleaseRequest(name=name, owner=b"first", token=first), timeout=TRY_TIMEOUT_S)
    second = acquire(b"second")
    print("later token is larger:", str(second > first).lower())
    print("stale fence:", outcome(lambda: write(first)))
    print("fenced write: version", write(second).version)
    node.lock.Release(lock_pb2.ReleaseRequest(name=name, owner=b"second"), timeout=TRY_TIMEOUT_S)


def watch(cluster: Cluster, prefix: bytes) -> None:
    """Half of the writes before the leader is killed, half after; the watch was served by that leader."""
    statuses = [
        node.cluster.Status(cluster_pb2.StatusRequest(), timeout=TRY_TIMEOUT_S) for node in cluster.nodes
    ]
    leader = statuses[0].header.leader
    cluster.first = [status.header.node for status in statuses].index(leader)
    keys = [prefix + b"%02d" % number for number in range(EVENTS)]
    base = put(cluster, prefix + b"before")

    changes = follow(cluster, prefix, base + 1)
    for key in keys[: EVENTS // 2]:
        put(cluster, key)
    seen = [next(changes) for _ in range(EVENTS // 2)]
    print("kill", leader, flush=True)
    sys.stdin.readline()
    for key in keys[EVENTS // 2 :]:
        put(cluster, key)
    seen += [next(changes) for _ in range(EVENTS // 2)]

    assert [event.key for event in seen] == keys, seen
    revisions = [event.revision for event in seen]
    assert revisions == sorted(set(revisions)), revisions
    print("watch:", len(seen), "events in order over a leader kill")


def put(cluster: Cluster, key: bytes) -> int:
    """Writes whatever happens to a node, once; returns the revision."""
    request = cache_pb2.SetRequest(key=key, value=b"x", idempotency=once())
    return int(cluster.call(lambda node: node.cache.Set(request, timeout=TRY_TIMEOUT_S)).header.revision)


def follow(cluster: Cluster, prefix: bytes, start: int) -> Iterator[watch_pb2.WatchEvent]:
    """Every change from revision `start` on; goes on at another node when the one that serves it is gone."""

    def resume(node: Node) -> tuple[grpc.Call, watch_pb2.WatchResponse]:
        responses = node.watch.Watch(watch_pb2.WatchRequest(prefix=prefix, start_revision=start))
        return responses, next(responses)

    while True:
        responses, _created = cluster.call(resume)
        try:
            for response in responses:
                for event in response.events:
                    start = event.revision + 1
                    yield event
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


def outcome(call: Callable[[], object]) -> str:
    """What the call returns, or why it was refused."""
    try:
        return str(call())
    except grpc.RpcError as error:
        return reason(error)


if __name__ == "__main__":
    main()
