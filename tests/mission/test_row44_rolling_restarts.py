"""Rolling restarts under load: nothing acknowledged is lost, and the default client sees no error.

Also a dead node that is replaced by name while writers go on.
"""

import shutil
import signal
import statistics
import threading
import time

import pytest

from replcache.client import Client
from replcache.errors import ReplcacheError
from tests.fault.test_plain_load import hashes_at_one_index
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until

ROUNDS = 8
WRITERS = 4


class Load(threading.Thread):
    """A writer and reader with the default client, which remembers its errors and its longest wait."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._number = number
        self._stop_asked = threading.Event()
        self.acknowledged: dict[str, int] = {}
        self.errors: list[str] = []
        self.gap_s = 0.0
        self.calls = 0

    def run(self) -> None:
        with Client(self._url) as client:
            last = time.monotonic()
            while not self._stop_asked.is_set():
                key = f"w{self._number}/{self.calls % 500}"
                try:
                    client.set(key, self.calls)
                    self.acknowledged[key] = self.calls
                    found = client.get_value(key)
                    if found != self.calls:
                        self.errors.append(f"{key}: wrote {self.calls}, read {found}")
                except ReplcacheError as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                self.calls += 1
                now = time.monotonic()
                self.gap_s = max(self.gap_s, now - last)
                last = now
                self._stop_asked.wait(0.005)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join(timeout=30)
        assert not self.is_alive(), "the writer hangs"


def restart(cluster: ProcessCluster, name: str) -> None:
    """As an operator or systemd does: SIGTERM, wait for the end, start, wait until ready."""
    cluster.local.kill(name, signal.SIGTERM)
    wait_until(lambda: not cluster.is_running(name), 30, f"{name} has stopped", cluster.dump)
    cluster.start(name)
    cluster.wait_ready(name)


@pytest.mark.timeout(900)
def test_eight_rolling_restarts_of_all_nodes_under_load(cluster: ProcessCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    load = [Load(cluster.url, number) for number in range(WRITERS)]
    for writer in load:
        writer.start()
    gaps = []
    for _ in range(ROUNDS):
        for name in cluster.names:
            for writer in load:
                writer.gap_s = 0.0
            restart(cluster, name)
            gaps.append(max(writer.gap_s for writer in load))
    for writer in load:
        writer.stop()
    print(
        f"{len(gaps)} restarts, {sum(writer.calls for writer in load)} writes; longest wait for one in each: "
        f"median {statistics.median(gaps) * 1000:.0f} ms, most {max(gaps) * 1000:.0f} ms"
    )
    errors = [error for writer in load for error in writer.errors]
    assert not errors, f"{errors[:5]}; waits {[round(gap, 2) for gap in gaps]}"
    assert lost_writes(cluster, load) == []


@pytest.mark.timeout(240)
def test_dead_nodes_are_replaced_by_name_under_load(cluster: ProcessCluster) -> None:
    """Each node in turn loses its process and its disk, and comes back empty under its name."""
    cluster.start()
    cluster.wait_ready()
    load = [Load(cluster.url, number) for number in range(WRITERS)]
    for writer in load:
        writer.start()
    with cluster.client("20s") as client:
        before = {member.name: member.incarnation for member in client.members()}
        for name in cluster.names:
            cluster.kill(name)
            shutil.rmtree(cluster.local.layout(name).data)
            started = time.monotonic()
            cluster.start(name)
            wait_until(lambda name=name: votes_anew(client, name, before[name]), 60, f"{name} votes again")
            print(f"{name}: a voter again after {time.monotonic() - started:.1f} s")
            cluster.wait_ready(name)
        for writer in load:
            writer.stop()
        hashes = wait_until(lambda: hashes_at_one_index(client, cluster), 20, "all nodes at one index")
    assert isinstance(hashes, set)
    assert len(hashes) == 1
    errors = [error for writer in load for error in writer.errors]
    assert not errors, errors[:5]
    assert lost_writes(cluster, load) == []
    longest = max(writer.gap_s for writer in load)
    print(f"{sum(writer.calls for writer in load)} writes, longest wait {longest * 1000:.0f} ms")


def votes_anew(client: Client, name: str, incarnation: int) -> bool:
    member = next(one for one in client.members() if one.name == name)
    return member.voter and member.incarnation != incarnation


def lost_writes(cluster: ProcessCluster, load: list[Load]) -> list[str]:
    """Keys, at most five, that do not have the value of their last acknowledged write."""
    with cluster.client("20s") as reader:
        lost = [
            key
            for writer in load
            for key, value in writer.acknowledged.items()
            if reader.get_value(key) != value
        ]
    return lost[:5]
