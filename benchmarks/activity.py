"""What counting uses costs: CPU of the request path's counting and of the flushes, and its share of a batch.

The batch is executed in this process over the tests' in-memory port: parsing, all the code of a node between
gRPC and Raft, the state machine, and the answer's bytes, but no gRPC, no disk and no network; so the share is
an upper bound of that of a whole request. Usage:

    python -m benchmarks.activity [--rounds 5]
"""

import argparse
import asyncio
import random
import time
from collections.abc import Callable

from replcache import constants
from replcache.clock import SystemClock
from replcache.observability.metrics import Metrics
from replcache.pb.v1 import cache_pb2
from replcache.server.accesses import Accesses
from replcache.server.activity import Activity
from replcache.server.backend import Backend
from replcache.server.batches import Batches
from replcache.server.deadlines import Deadline
from replcache.server.reads import Reader
from replcache.statemachine.commands import Command, NamespaceSet
from tests.helpers.fake_raft import FakeRaft

KEYS = 100_000
VALUE = b"x" * 100


class Nothing(Activity):
    """Counts nothing."""

    def read(self, *_: object) -> None:
        pass

    def wrote(self, *_: object) -> None:
        pass


def some_keys(size: int, rng: random.Random) -> list[list[bytes]]:
    """The keys of some batches, zipf-like: the cube of a uniform number prefers low ones."""
    number = max(2, min(4000, 60_000 // size))
    return [[b"key:%d" % int(rng.random() ** 3 * KEYS) for _ in range(size)] for _ in range(number)]


async def batch_us(backend: Backend, batches: Batches, kind: str, work: list[list[bytes]]) -> float:
    """Microseconds of CPU a key without counting."""
    deadline = Deadline(1e12, 1e12)
    messages = []
    for keys in work:
        if kind == "set":
            request = cache_pb2.BatchRequest(set_columns={"keys": keys, "values": [VALUE] * len(keys)})
        else:
            request = cache_pb2.BatchRequest(get_columns={"keys": keys})
        messages.append(request.SerializeToString())
    started = time.process_time()
    for message in messages:
        request = cache_pb2.BatchRequest.FromString(message)
        (await batches.execute(request, len(message), deadline)).SerializeToString()
    return (time.process_time() - started) / sum(map(len, work)) * 1e6


def counting_us(
    activity: Activity, count: Callable[[list[bytes]], None], work: list[list[bytes]], base_us: float
) -> float:
    """Microseconds of CPU a key, on a node that does nothing but such batches."""
    every = left = int(constants.ACTIVITY_FLUSH_INTERVAL_S * 1e6 / base_us)
    passes = 2 + 2 * every // sum(map(len, work))
    started, counted = time.process_time(), 0
    for _ in range(passes):
        for keys in work:
            count(keys)
            counted += len(keys)
            left -= len(keys)
            if left <= 0:
                activity.flush()
                left = every
    return (time.process_time() - started) / counted * 1e6


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = range(parser.parse_args().rounds)
    raft = FakeRaft()
    backend = Backend(raft, SystemClock(), Metrics())
    batches = Batches(backend, Reader(backend, Accesses(backend)))
    activity, backend.activity = backend.activity, Nothing(raft)
    rng = random.Random(1)
    for namespaces in (0, 2):
        if namespaces:
            ops = (NamespaceSet("key", b"key:", 0), NamespaceSet("other", b"other:", 0))
            await raft.propose(Command(ops=ops), raft.clock.now() + 5)
        for size in (1, 10, 100, 1000):
            work = some_keys(size, rng)
            entries = [None] * size
            for kind, count in (
                ("set", activity.wrote),
                ("get", lambda keys, entries=entries: activity.read(keys, entries, 0)),
            ):
                base = min([await batch_us(backend, batches, kind, work) for _ in rounds])
                raft.proposed.clear()
                cost = min([counting_us(activity, count, work, base) for _ in rounds])
                print(
                    f"{namespaces} namespaces, {kind}, {size:4} keys a batch: {base:6.2f} us a key, "
                    f"counting {cost:5.3f} us: {cost / base * 100:4.1f} %",
                    flush=True,
                )


if __name__ == "__main__":
    asyncio.run(main())
