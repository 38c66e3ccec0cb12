"""Plain load without any fault, 20 s here and 60 s in tests/mission: nothing that matched is truncated.

The plain library fails this: it deletes and rewrites matching entries dozens of times a second (hazard H1).
"""

import threading
import time

import pytest

from replcache.client import Client
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until

SECONDS = 20.0
CALLERS = 16


def load(client: Client, number: int, end: float, counts: list[int]) -> None:
    while time.monotonic() < end:
        client.set(f"k{number}/{counts[number] % 500}", b"x" * 300)
        counts[number] += 1


@pytest.mark.timeout(120)
def test_under_plain_load_no_matching_entry_is_ever_deleted(cluster: ProcessCluster) -> None:
    load_without_faults(cluster, SECONDS)


def load_without_faults(cluster: ProcessCluster, seconds: float) -> None:
    cluster.start()
    cluster.wait_ready()
    counts = [0] * CALLERS
    with cluster.client() as client:
        leader = cluster.leader(client)
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=load, args=(client, number, end, counts)) for number in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cluster.leader(client) == leader
        hashes = wait_until(lambda: hashes_at_one_index(client, cluster), 20, "all nodes at one index")
    assert min(counts) > 100, counts
    assert len(hashes) == 1
    for name in cluster.names:
        assert "truncating already-applied" not in cluster.log(name)
        metrics = cluster.metrics(name)
        assert sample(metrics, "entries_deleted_matching") == 0
        assert sample(metrics, "entries_deleted_conflicting") == 0
    print(f"{sum(counts)} writes in {seconds:.0f} s")


def hashes_at_one_index(client: Client, cluster: ProcessCluster) -> set[bytes]:
    """Digests of all nodes; empty while one has not applied yet what another has."""
    seen = [client.hash(name) for name in cluster.names]
    return {one.digest for one in seen} if len({one.applied_index for one in seen}) == 1 else set()


def sample(metrics: dict[str, float], name: str) -> float:
    found = [value for full, value in metrics.items() if name in full]
    assert len(found) == 1, (name, found)
    return found[0]
