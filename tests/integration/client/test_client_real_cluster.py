"""Both clients against three real nodes in processes of their own, which are killed and paused under load."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replcache import Client, errors
from replcache.localcluster import LocalCluster, free_ports
from tests.helpers.client_driver import DRIVERS, Driver
from tests.helpers.wait import scaled, wait_until

pytestmark = pytest.mark.slow
CALL_TIMEOUT_S = 20


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    cluster = LocalCluster(folder, nodes=3, ports=free_ports(3, random.Random()))
    cluster.prepare()
    cluster.start()
    yield cluster
    for name in cluster.running():
        cluster.kill(name, signal.SIGCONT)
    cluster.stop()


@pytest.fixture(params=["async", "blocking"])
def client(request: pytest.FixtureRequest, nodes: LocalCluster) -> Iterator[Driver]:
    driver = DRIVERS[request.param](nodes.url, timeout=scaled(CALL_TIMEOUT_S))
    yield driver
    driver.close()


class Load:
    """Threads that increment one counter; every answer is kept, in order for each thread."""

    def __init__(self, client: Driver, key: str, threads: int = 8) -> None:
        self.answers: list[int] = []
        self.failed: list[BaseException] = []
        self._stop = threading.Event()
        self._client = client
        self._key = key
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                self.answers.append(self._client.incr(self._key))
        except BaseException as err:  # noqa: BLE001  # shown by the assertions
            self.failed.append(err)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(scaled(60))

    def wait_progress(self, count: int = 50) -> None:
        before = len(self.answers)
        wait_until(
            lambda: len(self.answers) > before + count or self.failed,
            timeout_s=60,
            what=f"{count} more increments",
            describe=lambda: (len(self.answers), self.failed),
        )


def leader_of(client: Driver) -> str:
    return str(wait_until(lambda: client.status().leader, timeout_s=30, what="a leader"))


def test_data_calls(client: Driver) -> None:
    prefix = f"{client.colour}:"
    assert client.get(prefix + "missing") is None
    for value in (b"", "", 0, None, False, {"a": [1]}, 1.5, b"\x00"):
        client.set(prefix + "v", value)
        assert client.get_value(prefix + "v") == value
    version = client.set(prefix + "a", 1).version
    assert client.set(prefix + "a", 2, if_version=version).version == version + 1
    with pytest.raises(errors.ConditionFailed):
        client.set(prefix + "a", 3, nx=True)
    assert client.update(prefix + "a", add=40).value == 42
    assert client.update(prefix + "a", fn=lambda n: n + 1).value == 43
    assert client.incr(prefix + "n", 5) == 5
    assert client.get_value(prefix + "n") == 5
    with pytest.raises(errors.WrongType):
        client.incr(prefix + "v")
    with pytest.raises(errors.NotFound):
        client.update(prefix + "missing", 1)
    client.set_many({f"{prefix}m{n}": n for n in range(100)}, ttl="10m")
    found = client.get_many([f"{prefix}m{n}" for n in range(100)])
    assert [entry.value for entry in found.values()] == list(range(100))
    assert all(entry.expires_in_s > 500 for entry in found.values())
    assert len(client.scan_all(prefix + "m", page_size=30)) == 100
    full = client.get(prefix + "m1", full=True)
    assert full.create_revision == full.mod_revision > 0
    assert client.expire(prefix + "m1", "1h")
    assert client.delete(prefix + "m1")
    assert client.get(prefix + "a", read="one").served_as == "one"
    assert client.get(prefix + "a", read="session").value == 43
    assert client.get(prefix + "a", max_staleness="5s").staleness_s is not None


def test_batches(client: Driver) -> None:
    prefix = f"{client.colour}:batch:"

    def fill(batch: Any) -> None:
        batch.set(prefix + "a", "x")
        batch.incr(prefix + "n")
        batch.get(prefix + "n")

    assert client.run_batch(fill).results[1] == 1

    def fail(batch: Any) -> None:
        batch.set(prefix + "undone", 1)
        batch.incr(prefix + "a")

    with pytest.raises(errors.BatchAborted):
        client.run_batch(fail)
    assert client.get(prefix + "undone") is None


def test_locks(client: Driver) -> None:
    name = f"{client.colour}-lock"
    lock = client.lock(name, ttl="2s")
    token = lock.acquire()
    client.set(f"{name}:state", 1, fence=lock)
    with pytest.raises(errors.LockTimeout):
        client.lock(name, wait=None).acquire()
    with pytest.raises(errors.LockTimeout):
        client.lock(name, wait="100ms").acquire()
    lock.release()
    with pytest.raises(errors.FenceRejected):
        client.set(f"{name}:state", 2, fence=(name, token))
    second = client.lock(name)
    assert second.acquire() > token
    second.release()


def test_counters_stay_exact_when_leaders_are_killed(client: Driver, nodes: LocalCluster) -> None:
    """SIGKILL of the leader under load, twice: no call fails, no increment is lost or done twice."""
    client.incr("warm")
    with Load(client, f"killed:{client.colour}") as load:
        for _ in range(2):
            load.wait_progress()
            leader = leader_of(client)
            nodes.kill(leader)
            load.wait_progress()
            nodes.start([leader])
            load.wait_progress()
    assert not load.failed
    assert sorted(load.answers) == list(range(1, len(load.answers) + 1))
    assert client.get_value(f"killed:{client.colour}") == len(load.answers)


def test_counters_stay_exact_when_the_leader_is_paused(client: Driver, nodes: LocalCluster) -> None:
    """SIGSTOP breaks no connection: only silence tells."""
    client.incr("warm")
    with Load(client, f"paused:{client.colour}") as load:
        load.wait_progress()
        leader = leader_of(client)
        nodes.kill(leader, signal.SIGSTOP)
        try:
            load.wait_progress()
        finally:
            nodes.kill(leader, signal.SIGCONT)
        load.wait_progress()
    assert not load.failed
    assert sorted(load.answers) == list(range(1, len(load.answers) + 1))


def test_lock_survives_a_leader_change(client: Driver, nodes: LocalCluster) -> None:
    """The renewals find the next leader within the ttl."""
    name = f"{client.colour}-failover"
    lock = client.lock(name, ttl="10s")
    token = lock.acquire()
    leader = leader_of(client)
    nodes.kill(leader)
    wait_until(lambda: client.status().leader not in ("", leader), timeout_s=30, what="another leader")
    client.set(f"{name}:state", 1, fence=(name, token))
    lock.check()
    nodes.start([leader])
    assert lock.release() is True


def test_transfer_of_leadership_is_invisible(client: Driver, nodes: LocalCluster) -> None:
    client.incr("warm")
    wait_until(
        lambda: all(peer.connected for peer in client.status(leader_of(client)).peers),
        timeout_s=30,
        what="all nodes connected",
    )
    with Load(client, f"transferred:{client.colour}") as load:
        load.wait_progress()
        before = leader_of(client)
        after = client.transfer_leadership()
        load.wait_progress()
    assert after != before
    assert not load.failed
    assert sorted(load.answers) == list(range(1, len(load.answers) + 1))


def test_near_cache_is_never_older_than_its_bound(nodes: LocalCluster) -> None:
    """A writer counts up; a reader looks at its near cache all the time, while each node is paused in turn
    (also the one that serves the watch). Whatever is served holds all that was acknowledged before the
    bound; both sides use the clock of this process."""
    bound_s = 0.3
    acknowledged: list[tuple[float, int]] = [(0.0, 0)]
    stop = threading.Event()
    failed: list[BaseException] = []
    with Client(nodes.url, timeout=scaled(CALL_TIMEOUT_S)) as writer, Client(nodes.url) as reader:
        writer.set("near:n", 0)

        def write() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                writer.set("near:n", number)
                acknowledged.append((time.monotonic(), number))

        def read() -> None:
            try:
                with reader.near("near:", max_staleness=bound_s) as near:
                    while not stop.is_set():
                        before = time.monotonic()
                        known = acknowledged[:]
                        value = near.get_value("near:n", timeout=scaled(CALL_TIMEOUT_S))
                        must = max(number for at, number in known[-2000:] if at < before - bound_s or not at)
                        assert value >= must, (value, must)
                    found.append(near.stats())
            except BaseException as err:  # noqa: BLE001  # shown by the assertion below
                failed.append(err)

        found: list[Any] = []
        threads = [threading.Thread(target=write), threading.Thread(target=read)]
        for thread in threads:
            thread.start()
        for name in nodes.names:
            wait_writes(acknowledged, failed)
            nodes.kill(name, signal.SIGSTOP)
            try:
                wait_writes(acknowledged, failed)
            finally:
                nodes.kill(name, signal.SIGCONT)
        wait_writes(acknowledged, failed)
        stop.set()
        for thread in threads:
            thread.join(scaled(60))
        assert not failed
        assert found[0].hits > 0


def wait_writes(acknowledged: list[tuple[float, int]], failed: list[BaseException]) -> None:
    start = len(acknowledged)
    wait_until(lambda: len(acknowledged) > start + 100 or failed, timeout_s=60, what="100 more writes")
