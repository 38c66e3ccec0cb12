"""A process that uses the storage layer and says what it was promised; its parent kills it or cuts its power.

    python -m tests.helpers.storage_child DIRECTORY [--pause]

Each start goes on with what it finds, checks it, and prints a JSON line with everything that has become
durable (Storage.promise), and before each truncation {"truncating_from": index}. Contents follow from their
place, so any state can be checked: entry i of a term has payload_of(i, term). With --pause the process waits
when it has done its work.
"""

import argparse
import contextlib
import json
import random
import sys

from replcache.raft.disk import OsDisk
from replcache.raft.identity import Identity
from replcache.raft.snapshots import SnapshotStore
from replcache.raft.wal import Wal

CLUSTER = b"storage-child"
SEGMENT_BYTES = 16 * 1024
ROUNDS = 40


def payload_of(index: int, term: int) -> bytes:
    return random.Random(index * 1_000_003 + term).randbytes(1 + index * 37 % 900)


def chunks_of(index: int) -> list[bytes]:
    return [random.Random(index).randbytes(3000), b"%d" % index]


class Storage:
    """The opened data directory, checked."""

    def __init__(self, directory: str, sync: bool = True) -> None:
        disk = OsDisk()
        self.identity = Identity.open(disk, directory, CLUSTER, "n1", random.Random())
        with contextlib.ExitStack() as undo:
            # What can't be opened must not keep its file system busy.
            undo.callback(self.identity.close)
            self._open(disk, directory, sync, undo)
            undo.pop_all()

    def _open(self, disk: OsDisk, directory: str, sync: bool, undo: contextlib.ExitStack) -> None:
        self.snapshots = SnapshotStore.open(disk, f"{directory}/snapshots", CLUSTER)
        self.wal = Wal.open(
            disk,
            f"{directory}/wal",
            owner=self.identity.incarnation,
            segment_bytes=SEGMENT_BYTES,
            sync=sync,
        )
        undo.callback(self.wal.close)
        newest = self.snapshots.latest()
        self.snapshot_index = newest.index if newest else 0
        if newest is not None:
            opened = self.snapshots.load(newest)
            assert list(opened.chunks()) == chunks_of(newest.index)
            opened.close()
        self.wal.align_to_snapshot(self.snapshot_index, newest.term if newest else 0)
        self.wal.sync()
        self.check()

    def check(self) -> None:
        self.wal.check_invariants()
        for index, term, kind, payload in self.wal.entries(self.wal.first_index, 1 << 40, 1 << 40):
            assert kind == index % 3
            assert payload == payload_of(index, term), f"entry {index} of term {term} is wrong"

    def promise(self) -> dict[str, object]:
        wal = self.wal
        first = max(wal.base_index, self.snapshot_index)
        return {
            "boot": self.identity.boot,
            "incarnation": self.identity.incarnation,
            "last_index": wal.last_index,
            "terms": {index: wal.term_at(index) for index in range(first, wal.last_index + 1)},
            "term": wal.term,
            "vote": wal.voted_for,
            "snapshot": self.snapshot_index,
        }

    def append(self, count: int) -> None:
        first = self.wal.last_index + 1
        term = self.wal.term
        self.wal.append([(i, term, i % 3, payload_of(i, term)) for i in range(first, first + count)])

    def take_snapshot(self) -> None:
        index = self.wal.last_index
        term = self.wal.term_at(index)
        assert term is not None
        if self.snapshots.writer(index, term, b"", chunks_of(index)).run() is not None:
            self.snapshot_index = index
        self.wal.compact_to(index - min(5, index - self.wal.base_index))


def work(storage: Storage, rng: random.Random) -> None:
    wal = storage.wal
    wal.set_hard_state(wal.term + 1, rng.choice([None, "n1", "n2"]))
    say(storage)
    for _ in range(ROUNDS):
        action = rng.random()
        if action < 0.6:
            storage.append(rng.randrange(1, 12))
        elif action < 0.75:
            wal.set_hard_state(wal.term + 1, rng.choice([None, "n3"]))
        elif action < 0.9 and wal.last_index > max(wal.base_index, storage.snapshot_index):
            index = rng.randint(max(wal.base_index, storage.snapshot_index) + 1, wal.last_index)
            print(json.dumps({"truncating_from": index}), flush=True)
            wal.truncate_from(index)
            storage.append(2)
        elif wal.last_index > storage.snapshot_index:
            wal.sync()
            storage.take_snapshot()
        say(storage)


def say(storage: Storage) -> None:
    storage.wal.sync()
    print(json.dumps(storage.promise()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", action="store_true")
    parser.add_argument("--no-sync", action="store_true", help="control: leave syncing to the system")
    options = parser.parse_args()
    storage = Storage(options.directory, sync=not options.no_sync)
    work(storage, random.Random(options.seed))
    if options.pause:
        sys.stdin.read()


if __name__ == "__main__":
    main()
