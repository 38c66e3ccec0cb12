"""Watches deliver every change once and in order, over leader kills and node stops, or say RESYNC (P7)."""

import threading

import pytest

from replcache import Client
from replcache.client.watch import WatchEvent, WatchKind
from replcache.errors import Compacted
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.wait import wait_until


class Collector(threading.Thread):
    """Reads a watch until an event of the key "end" comes."""

    def __init__(self, url: str, **options: object) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._options = options
        self.events: list[WatchEvent] = []
        self.is_ready = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with Client(self._url, timeout="20s") as client, client.watch(**self._options) as watch:  # type: ignore[arg-type]
                watch.ready()
                self.is_ready.set()
                for event in watch:
                    self.events.append(event)
                    if event.key == b"w/end":
                        return
        except BaseException as error:
            self.error = error
            raise

    def result(self) -> list[WatchEvent]:
        self.join(60)
        assert self.error is None, self.error
        assert not self.is_alive(), f"no end after {len(self.events)} events"
        return self.events


@pytest.mark.timeout(150)
def test_no_event_is_lost_or_doubled_over_three_leader_kills(cluster: ProcessCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    with cluster.client("20s") as client:
        client.set("w/first", 0)
        collectors = [Collector(cluster.url, prefix="w/", start="now") for _ in range(3)]
        collectors.append(Collector(cluster.url, prefix="w/", start=1))
        for collector in collectors:
            collector.start()
        for collector in collectors:
            assert collector.is_ready.wait(20)
        revisions: list[int] = []
        written = 0
        for _ in range(3):
            for _ in range(150):
                revisions.append(client.set(f"w/{written % 20}", written).revision)
                written += 1
            leader = cluster.leader(client)
            cluster.kill(leader)
            for _ in range(50):
                revisions.append(client.set(f"w/{written % 20}", written).revision)
                written += 1
            cluster.start(leader)
            cluster.wait_ready(leader)
        client.delete("w/0")
        client.set("w/end", b"")
        for collector in collectors:
            events = collector.result()
            numbers = [e.entry.value for e in events if e.kind is WatchKind.PUT and e.entry.value != b""]
            assert [n for n in numbers if n][-written + 1 :] == list(range(1, written))
            seen = [event.revision for event in events]
            assert seen == sorted(set(seen)), "each revision once, in order"
            assert set(revisions) <= set(seen)
            assert WatchKind.DELETE in {event.kind for event in events}


def test_a_snapshot_then_stream_ends_in_the_state_of_the_cluster(cluster: ProcessCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    with cluster.client() as client:
        client.set_many({f"w/{number:04d}": number for number in range(3000)})
        collector = Collector(cluster.url, prefix="w/", start="snapshot")
        collector.start()
        for number in range(300):
            client.set(f"w/{number * 7 % 3000:04d}", -number)
            if number % 10 == 0:
                client.delete(f"w/{number:04d}")
        client.set("w/end", b"")
        state: dict[bytes, object] = {}
        kinds = []
        for event in collector.result():
            kinds.append(event.kind)
            if event.entry is not None:
                state[event.key] = event.entry.value
            elif event.kind is WatchKind.DELETE:
                state.pop(event.key, None)
        assert kinds.count(WatchKind.SYNCED) == 1
        assert state == {entry.key: entry.value for entry in client.scan("w/")}


def test_a_start_that_is_no_longer_kept_is_an_error_and_no_silence(cluster: ProcessCluster) -> None:
    """After a restart from a snapshot the nodes keep no events from before it."""
    small = {"REPLCACHE_SNAPSHOT_AFTER_ENTRIES": "30", "REPLCACHE_LOG_KEPT_ENTRIES": "5"}
    cluster.start(**small)
    cluster.wait_ready()
    with cluster.client() as client:
        for number in range(100):
            client.set(f"w/{number}", number)
        wait_until(
            lambda: all(client.status(name).snapshot_index > 60 for name in cluster.names), 20, "snapshots"
        )
        for name in cluster.names:
            cluster.kill(name)
        cluster.start(**small)
        cluster.wait_ready()
        with client.watch(prefix="w/", start=2) as watch, pytest.raises(Compacted):
            watch.next("20s")


def test_a_key_that_expires_is_an_event_on_every_node(cluster: ProcessCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    with cluster.client() as client:
        watches = [Collector(cluster.local.layout(name).grpc_address, prefix="w/") for name in cluster.names]
        for watch in watches:
            watch.start()
            assert watch.is_ready.wait(20)
        client.set("w/short", 1, ttl="0.3s")
        wait_until(lambda: all(len(w.events) == 2 for w in watches), 10, "put and expire everywhere")
        client.set("w/end", b"")
        for watch in watches:
            assert [event.kind for event in watch.result()] == [
                WatchKind.PUT,
                WatchKind.EXPIRE,
                WatchKind.PUT,
            ]
