"""What counting uses costs a batch: CPU of the server's code for one batch, with and without it.

The batches run in this process over the tests' in-memory port: all the code of a node between gRPC and Raft,
codec and state machine included, but no gRPC, no disk and no network, so the share shown is higher than that
of a whole request. With and without alternate, and the median of the rounds counts. Usage:

    python -m benchmarks.activity [--rounds 9]
"""

import argparse
import asyncio
import random
import statistics
import time

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
# Keys between two flushes: what a busy node counts in 0.1 s.
FLUSH_EVERY = 20_000


class Nothing(Activity):
    """Counts nothing."""

    def read(self, *_: object) -> None:
        pass

    def wrote(self, *_: object) -> None:
        pass

    def flush(self) -> None:
        pass


def requests(kind: str, size: int, rng: random.Random) -> "Work":
    """Zipf-like: the square of a uniform number prefers low ones."""
    made = []
    for _ in range(max(1, 40_000 // size)):
        keys = [b"key:%d" % int(rng.random() ** 2 * KEYS) for _ in range(size)]
        if kind == "set":
            request = cache_pb2.BatchRequest(set_columns={"keys": keys, "values": [VALUE] * size})
        else:
            request = cache_pb2.BatchRequest(get_columns={"keys": keys})
        made.append((request, request.ByteSize()))
    return made


Work = list[tuple[cache_pb2.BatchRequest, int]]


async def measure(backend: Backend, batches: Batches, work: Work) -> float:
    """Microseconds of CPU a key."""
    deadline = Deadline(1e12, 1e12)
    started = time.process_time()
    keys = flushed = 0
    for request, size in work:
        await batches.execute(request, size, deadline)
        keys += len(request.get_columns.keys) or len(request.set_columns.keys)
        if keys - flushed >= FLUSH_EVERY:
            backend.activity.flush()
            flushed = keys
    backend.activity.flush()
    return (time.process_time() - started) / keys * 1e6


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    raft = FakeRaft()
    backend = Backend(raft, SystemClock(), Metrics())
    batches = Batches(backend, Reader(backend, Accesses(backend)))
    counting, nothing = backend.activity, Nothing(raft)
    rng = random.Random(1)
    for namespaces in (0, 2):
        if namespaces:
            ops = (NamespaceSet("key", b"key:", 0), NamespaceSet("other", b"other:", 0))
            await raft.propose(Command(ops=ops), raft.clock.now() + 5)
        for kind in ("set", "get"):
            for size in (1, 10, 100, 1000, 4000):
                work = requests(kind, size, rng)
                without, counted = [], []
                for _ in range(args.rounds):
                    raft.proposed.clear()
                    backend.activity = nothing
                    without.append(await measure(backend, batches, work))
                    backend.activity = counting
                    counted.append(await measure(backend, batches, work))
                base, full = statistics.median(without), statistics.median(counted)
                print(
                    f"{namespaces} namespaces  {kind} {size:5} keys a batch  {base:6.2f} us/key without, "
                    f"{full:6.2f} with: {(full / base - 1) * 100:+5.1f} %",
                    flush=True,
                )


if __name__ == "__main__":
    asyncio.run(main())
