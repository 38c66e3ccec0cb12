"""kill -9 of every node in the middle of writes: each acknowledged write is there after the restart (P1).

Rounds alternate between kills from outside at a random moment and kills from inside at a named point of the
storage code (REPLCACHE_FAILPOINTS): during log truncation and compaction, while a snapshot gets its name, and
while term and vote are written. Eight rounds here, twenty in tests/mission.
"""

import random
import threading

import pytest

from replcache.client import Client
from replcache.errors import ReplcacheError
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until

ROUNDS = 8
# Small, so that segments roll, snapshots are taken and the log is compacted within a round.
SMALL = {"REPLCACHE_SNAPSHOT_AFTER_ENTRIES": "60", "REPLCACHE_LOG_KEPT_ENTRIES": "10"}
POINTS = (
    "wal.before_write",
    "wal.before_fsync",
    "wal.after_fsync",
    "wal.truncate_record",
    "wal.hard_state",
    "wal.before_delete",
    "wal.after_delete",
    "snapshot.before_rename",
    "snapshot.before_dir_fsync",
    "snapshot.after_dir_fsync",
    "identity.before_rename",
    "identity.before_dir_fsync",
)


class Writer(threading.Thread):
    """Sets fresh keys as fast as it can and remembers what was acknowledged."""

    def __init__(self, url: str, number: int, acknowledged: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._number = number
        self._acknowledged = acknowledged
        self._stop_asked = threading.Event()

    def run(self) -> None:
        with Client(self._url, timeout="1s") as client:
            count = 0
            while not self._stop_asked.is_set():
                key, value = f"w{self._number}/{count % 200}", f"{count}"
                count += 1
                try:
                    client.set(key, value)
                except ReplcacheError:
                    # Unknown or not applied: either way nothing was promised, and both values may be there.
                    self._acknowledged[key] = f"{self._acknowledged.get(key, '')}|{value}"
                else:
                    self._acknowledged[key] = value

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(timeout=20)


def point_for(name: str, round_number: int, rng: random.Random) -> dict[str, str]:
    """Every second round one or two nodes get a point at which they kill themselves."""
    if round_number % 2 == 0 or rng.random() < 0.4:
        return {}
    point = rng.choice(POINTS)
    first = {"wal.before_write": 60, "wal.before_fsync": 60, "wal.after_fsync": 60}.get(point, 1)
    return {"REPLCACHE_FAILPOINTS": f"{point}=kill:{rng.randint(1, first)}"}


def check(client: Client, acknowledged: dict[str, str]) -> list[str]:
    found = client.get_many(list(acknowledged))
    lost = []
    for key, wanted in acknowledged.items():
        entry = found.get(key)
        value = entry.value if entry is not None else None
        # A write with an unknown end may or may not have taken effect.
        if value not in wanted.split("|") and not (value is None and "" in wanted.split("|")):
            lost.append(f"{key}: wanted {wanted}, found {value}")
    return lost


def revive(cluster: ProcessCluster) -> None:
    """Nodes that killed themselves at a point start again without one; then all must become ready."""

    def all_ready() -> bool:
        dead = [name for name in cluster.names if not cluster.is_running(name)]
        if dead:
            cluster.start(*dead, **SMALL)
        return not dead and all(cluster.is_ready(name) for name in cluster.names)

    wait_until(all_ready, 40, "all nodes are ready", cluster.dump)


@pytest.mark.timeout(200)
def test_every_acknowledged_write_survives_kill_9_of_all_nodes(cluster: ProcessCluster, seed: int) -> None:
    write_and_kill_all(cluster, random.Random(seed), ROUNDS)


def write_and_kill_all(cluster: ProcessCluster, rng: random.Random, rounds: int) -> None:
    acknowledged: dict[str, str] = {}
    rounds_with_writes = 0
    cluster.start(**SMALL)
    with Client(cluster.url, timeout="20s") as reader:
        for round_number in range(rounds + 1):
            revive(cluster)
            lost = check(reader, acknowledged)
            assert not lost, f"round {round_number}: {lost[:5]} of {len(acknowledged)}\n{cluster.dump()}"
            if round_number == rounds:
                break
            before = dict(acknowledged)
            writers = [Writer(cluster.url, number, acknowledged) for number in range(4)]
            for writer in writers:
                writer.start()
            wait_for_writes(cluster, acknowledged, before, rng.randint(50, 800))
            names = list(cluster.names)
            rng.shuffle(names)
            for name in names:
                cluster.kill(name)
            for writer in writers:
                writer.stop()
            rounds_with_writes += acknowledged != before
            for name in cluster.names:
                cluster.start(name, **SMALL, **point_for(name, round_number, rng))
    assert rounds_with_writes >= rounds // 2, "most rounds must have written something"


def wait_for_writes(
    cluster: ProcessCluster, acknowledged: dict[str, str], before: dict[str, str], count: int
) -> None:
    """Until some writes were acknowledged in this round, or so many nodes died that none can be."""

    def enough() -> bool:
        fresh = sum(1 for key, value in acknowledged.items() if before.get(key) != value)
        running = sum(cluster.is_running(name) for name in cluster.names)
        return fresh >= count or running < 2

    wait_until(enough, 20, "writes are acknowledged", cluster.dump)
