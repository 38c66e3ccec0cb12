"""1,000 increments, replies thrown away at random and asked for again, over 10 leader changes (P3)."""

import random
import threading
import time
from collections import deque

import grpc
import pytest

from replcache.client import Client
from replcache.pb.v1 import cache_pb2, cache_pb2_grpc, common_pb2, session_pb2, session_pb2_grpc
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import scaled, wait_until

INCREMENTS = 1000
LEADER_CHANGES = 10
GIVE_UP_S = 30.0
# While a channel waits before it connects anew, each of its calls fails at once, also when the node is back.
RECONNECT_SOON = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]
RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Retrier:
    """A client in its plainest form: one session, one call at a time, the same sequence until it is done."""

    def __init__(self, endpoints: tuple[str, ...], rng: random.Random) -> None:
        self._rng = rng
        channels = [grpc.insecure_channel(endpoint, RECONNECT_SOON) for endpoint in endpoints]
        self._caches = [cache_pb2_grpc.CacheStub(channel) for channel in channels]
        self._session_id = self._open(session_pb2_grpc.SessionStub(channels[0]))
        self._sequence = 0
        self.sent = 0
        self.dropped = 0
        self.errors: deque[str] = deque(maxlen=12)

    @staticmethod
    def _open(stub: session_pb2_grpc.SessionStub) -> int:
        return int(stub.Open(session_pb2.OpenSessionRequest(), timeout=10, wait_for_ready=True).session_id)

    def increment(self, key: bytes) -> int:
        """Sends until an answer was neither an error nor thrown away; returns the answered value."""
        self._sequence += 1
        answers: set[int] = set()
        end = time.monotonic() + scaled(GIVE_UP_S)
        while time.monotonic() < end:
            value = self._try(key)
            if value is None:
                continue
            answers.add(value)
            assert len(answers) == 1, f"a retry must get the first answer again, got {answers}"
            if self._rng.random() < 0.3:
                self.dropped += 1
                continue
            return value
        raise AssertionError(f"sequence {self._sequence} never came through: {list(self.errors)}")

    def _try(self, key: bytes) -> int | None:
        self.sent += 1
        request = cache_pb2.IncrementRequest(
            key=key,
            delta=1,
            idempotency=common_pb2.Idempotency(
                session_id=self._session_id, sequence=self._sequence, acked_below=self._sequence
            ),
        )
        try:
            # Short now and then: the call is given up while it is being executed.
            timeout = self._rng.choice((0.003, 0.5, 2.0))
            return int(self._rng.choice(self._caches).Increment(request, timeout=timeout).value)
        except grpc.RpcError as error:
            if error.code() not in RETRYABLE:
                raise
            self.errors.append(f"{time.monotonic():.3f} {error.code().name} {error.details()}")
            return None


class LeaderChanger(threading.Thread):
    """Ten times, by turns: kill -9 of the leader and its restart, or a transfer."""

    def __init__(self, cluster: ProcessCluster) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self.changes = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with self._cluster.client("20s") as client:
                for number in range(LEADER_CHANGES):
                    self._change(client, by_kill=number % 2 == 0)
        except BaseException as error:
            self.error = error
            raise

    def _change(self, client: Client, *, by_kill: bool) -> None:
        cluster = self._cluster
        before = cluster.leader(client)
        if by_kill:
            cluster.kill(before)
            wait_until(lambda: client.status().leader not in ("", before), 20, "another leader", cluster.dump)
            cluster.start(before)
            cluster.wait_ready(before)
        else:
            client.transfer_leadership()
            wait_until(lambda: client.status().leader not in ("", before), 20, "another leader", cluster.dump)
        self.changes += 1


@pytest.mark.timeout(180)
def test_a_thousand_retried_increments_give_exactly_a_thousand(cluster: ProcessCluster, seed: int) -> None:
    cluster.start()
    cluster.wait_ready()
    retrier = Retrier(cluster.local.endpoints, random.Random(seed))
    changer = LeaderChanger(cluster)
    changer.start()
    done = 0
    while done < INCREMENTS or changer.is_alive():
        done += 1
        assert retrier.increment(b"counter") == done
    changer.join()
    assert changer.error is None, changer.error
    assert changer.changes == LEADER_CHANGES
    assert retrier.dropped > INCREMENTS // 10
    with cluster.client() as client:
        assert int(client.get_value("counter")) == done
    print(f"{done} increments, {retrier.sent} sent, {retrier.dropped} answers thrown away")
