"""Locks with killed and paused holders: one holder at a time, tokens rise, first come first served (P5)."""

import itertools
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import grpc
import pytest

from replcache.client import Client
from replcache.errors import FenceRejected
from replcache.pb.v1 import lock_pb2, lock_pb2_grpc
from tests.helpers.lock_worker import LOCK
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
PROCESSES, THREADS, SECTIONS = 5, 4, 50
TTL = "1s"
KILLS, PAUSES = 3, 3


class Worker:
    """A lock_worker process; `events` grows while it runs."""

    def __init__(self, url: str, sections: int) -> None:
        command = [sys.executable, "-m", "tests.helpers.lock_worker", url, str(THREADS), str(sections), TTL]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.events: list[list[str]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(line.split())

    @property
    def successes(self) -> int:
        return sum(event[0] == "ok" for event in list(self.events))

    def kill(self) -> None:
        self.process.kill()
        self.wait(10)

    def wait(self, timeout_s: float) -> None:
        self.process.wait(timeout_s)
        self._reader.join(10)


@pytest.mark.timeout(240)
def test_critical_sections_exclude_each_other_while_holders_die_and_sleep(
    cluster: ProcessCluster, seed: int
) -> None:
    rng = random.Random(seed)
    cluster.start()
    cluster.wait_ready()
    with cluster.client() as client:
        client.set("counter", 0)
        client.set("log", b"")
        workers = [Worker(cluster.url, SECTIONS) for _ in range(PROCESSES)]
        killed: list[Worker] = []
        try:
            disturb(cluster, workers, killed, rng)
            for worker in workers:
                worker.wait(150)
        finally:
            for worker in workers:
                worker.kill()
        events = [event for worker in (*workers, *killed) for event in worker.events]
        log = [int(line) for line in client.get_value("log").split()]
        counter = int(client.get_value("counter"))
    judge(events, log, counter)
    assert sum(worker.successes for worker in (*workers, *killed)) >= PROCESSES * THREADS * SECTIONS


def disturb(cluster: ProcessCluster, workers: list[Worker], killed: list[Worker], rng: random.Random) -> None:
    """Kills some workers (another takes over the sections) and pauses others for longer than the ttl."""
    actions = ["kill"] * KILLS + ["pause"] * PAUSES
    rng.shuffle(actions)
    total = PROCESSES * THREADS * SECTIONS
    for number, action in enumerate(actions, 1):
        mark = total * number // (2 * len(actions))
        wait_until(
            lambda mark=mark: sum(w.successes for w in (*workers, *killed)) >= mark,
            60,
            f"{mark} sections",
            lambda: [worker.events[-3:] for worker in workers],
        )
        victim = rng.randrange(len(workers))
        worker = workers[victim]
        if action == "kill":
            worker.kill()
            killed.append(worker)
            done_per_thread = worker.successes // THREADS
            workers[victim] = Worker(cluster.url, SECTIONS - done_per_thread + 1)
        else:
            worker.process.send_signal(signal.SIGSTOP)
            before = sum(w.successes for w in workers if w is not worker)
            wait_until(
                lambda before=before, worker=worker: (
                    sum(w.successes for w in workers if w is not worker) >= before + 5
                ),
                30,
                "others go on while a holder sleeps",
            )
            worker.process.send_signal(signal.SIGCONT)


def judge(events: list[list[str]], log: list[int], counter: int) -> None:
    kinds = Counter(event[0] for event in events)
    tokens = {kind: [int(e[1]) for e in events if e[0] == kind] for kind in ("try", "ok", "refused")}
    print(f"events {dict(kinds)}, log of {len(log)}, counter {counter}")
    assert not kinds["error"], [event for event in events if event[0] == "error"][:3]
    assert counter == len(log), "every counted section is in the log, and none was overwritten"
    assert all(a < b for a, b in itertools.pairwise(log)), "tokens rise in the order of writes"
    assert set(tokens["ok"]) <= set(log), "an acknowledged section is there"
    assert not set(tokens["refused"]) & set(log), "a refused section is not"
    assert set(log) <= set(tokens["try"])
    assert len(tokens["try"]) == len(set(tokens["try"])), "no token is given twice"


@pytest.mark.timeout(120)
def test_a_late_write_of_an_ex_holder_is_refused_every_time(cluster: ProcessCluster) -> None:
    """The holder sleeps over its ttl (it never renews); somebody else holds the lock when it wakes."""
    cluster.start()
    cluster.wait_ready()
    rounds, refused = 100, 0
    with cluster.client() as client, RawLock(cluster.local.endpoints[0]) as raw:
        for number in range(rounds):
            request = lock_pb2.AcquireRequest(name=LOCK, owner=b"sleeper-%d" % number)
            request.ttl.FromMilliseconds(100)
            request.wait.FromMilliseconds(5000)
            old = raw.stub.Acquire(request, timeout=10).token
            with client.lock(LOCK, ttl="5s", wait="5s") as lock:
                assert lock.token > old
                client.set("guarded", number, fence=lock)
                try:
                    client.set("guarded", -1, fence=(LOCK, old))
                except FenceRejected:
                    refused += 1
            assert client.get_value("guarded") == number
    assert refused == rounds


def test_waiters_are_served_first_come_first_served(cluster: ProcessCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    served: list[int] = []
    threads = []
    with cluster.client("30s") as client:
        holder = client.lock(LOCK, ttl="10s", wait="5s")
        holder.acquire()
        for number in range(20):
            thread = threading.Thread(target=queue_up, args=(cluster, number, served))
            thread.start()
            threads.append(thread)
            wait_until(
                lambda number=number: len(client.locks(LOCK)[0].waiters) == number + 1, 10, f"{number} waits"
            )
        holder.release()
        for thread in threads:
            thread.join(30)
    assert served == list(range(20))


def queue_up(cluster: ProcessCluster, number: int, served: list[int]) -> None:
    with (
        Client(cluster.local.endpoints[number % 3], timeout="30s") as client,
        client.lock(LOCK, ttl="10s", wait="25s"),
    ):
        served.append(number)


class RawLock:
    """The Lock service without the client's renewals."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.insecure_channel(endpoint)
        self.stub = lock_pb2_grpc.LockStub(self._channel)

    def __enter__(self) -> "RawLock":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
