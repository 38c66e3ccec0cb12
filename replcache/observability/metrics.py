"""All metrics of a node, declared once.

One Metrics object a node with its own registry, so that several nodes fit one process. Names follow
https://prometheus.io/docs/practices/naming/: prefix `replcache_`, base units, `_total` for counters; keys,
lock names and addresses are never labels. Children of labelled metrics are looked up once and kept, because
the request path must not pay for the lookup.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

import replcache

if TYPE_CHECKING:
    from replcache.raft.port import RaftPort

Family = CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily

# From a local read (100 µs) to a request that waited out an election.
LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class Metrics:
    """Counters and histograms that the server writes; NodeCollector adds what is read when scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "replcache_requests",
            "Requests by operation, read level (write: none) and outcome (ok or the error's reason).",
            ("operation", "level", "outcome"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "replcache_request_seconds",
            "Time from the first look at a request to its answer.",
            ("operation", "level"),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.hits = Counter("replcache_hits", "Keys that were asked for and found.", registry=self.registry)
        self.misses = Counter(
            "replcache_misses", "Keys that were asked for and missing.", registry=self.registry
        )
        self.keys_written = Counter(
            "replcache_keys_written", "Keys in acknowledged writes.", registry=self.registry
        )
        self.batch_operations = Histogram(
            "replcache_batch_operations",
            "Operations in one batch.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self.pipeline_streams = Gauge(
            "replcache_pipeline_streams", "Open Pipeline streams.", registry=self.registry
        )
        self.proposals_in_flight = Gauge(
            "replcache_proposals_in_flight", "Writes that wait for their result.", registry=self.registry
        )
        self.lock_waits = Gauge(
            "replcache_lock_waits", "Callers that wait for a lock on this node.", registry=self.registry
        )
        self.loop_lag_seconds = Histogram(
            "replcache_loop_lag_seconds",
            "How late a timer of the event loop fired.",
            buckets=LAG_BUCKETS_S,
            registry=self.registry,
        )
        self._outcomes: dict[tuple[str, str, str], Counter] = {}
        self._latencies: dict[tuple[str, str], Histogram] = {}

    def request_done(self, operation: str, level: str, outcome: str, seconds: float) -> None:
        """Counts one request, or one batch of a stream."""
        outcome_key = (operation, level, outcome)
        counter = self._outcomes.get(outcome_key)
        if counter is None:
            counter = self._outcomes[outcome_key] = self.requests.labels(*outcome_key)
        counter.inc()
        latency_key = (operation, level)
        histogram = self._latencies.get(latency_key)
        if histogram is None:
            histogram = self._latencies[latency_key] = self.request_seconds.labels(*latency_key)
        histogram.observe(seconds)

    def observe_node(self, port: "RaftPort", uptime_s: Callable[[], float]) -> None:
        """Adds what is read from the node at each scrape."""
        self.registry.register(NodeCollector(port, uptime_s))

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


class NodeCollector(Collector):
    """Reads the node's state when Prometheus asks, so that nothing is paid between scrapes."""

    def __init__(self, port: "RaftPort", uptime_s: Callable[[], float]) -> None:
        self._port = port
        self._uptime_s = uptime_s

    def describe(self) -> list[Family]:
        """Nothing ahead of the first scrape: the port may not be started when this is registered."""
        return []

    def collect(self) -> Iterator[Family]:
        status = self._port.status()
        yield InfoMetricFamily(
            "replcache_build", "Version.", value={"version": replcache.__version__, "node": status.node}
        )
        yield gauge("uptime_seconds", "Since this node started.", self._uptime_s())
        yield gauge("raft_term", "Current term.", status.term)
        yield gauge("raft_commit_index", "Highest log index known to be committed.", status.commit_index)
        yield gauge("raft_applied_index", "Highest log index applied.", status.applied_index)
        yield gauge("raft_last_log_index", "Last index in the log.", status.last_log_index)
        yield gauge("raft_snapshot_index", "Index of the newest snapshot.", status.snapshot_index)
        yield gauge("raft_is_leader", "1 on the leader.", int(status.leader == status.node != ""))
        yield gauge("raft_has_leader", "1 while a leader is known.", int(bool(status.leader)))
        yield gauge("raft_has_quorum", "1 while a majority is in reach.", int(status.has_quorum))
        yield gauge("raft_halted", "1 when the node stopped itself.", int(bool(status.halted)))
        staleness_s = self._port.staleness_s()
        if staleness_s is not None:
            yield gauge("raft_staleness_seconds", "How far behind a local read can be.", staleness_s)
        match = GaugeMetricFamily(
            "replcache_raft_peer_match_index", "What the leader knows of each peer.", labels=("peer",)
        )
        connected = GaugeMetricFamily("replcache_raft_peer_connected", "1 while connected.", labels=("peer",))
        for peer in status.peers:
            connected.add_metric((peer.name,), int(peer.connected))
            if peer.match_index is not None:
                match.add_metric((peer.name,), peer.match_index)
        yield match
        yield connected
        for name, number in self._port.counters().items():
            base, _, unit = name.rpartition("_")
            if unit == "microseconds":
                yield counter(f"raft_{base}_seconds", f"Raft: {base}, in seconds.", number / 1e6)
            else:
                yield counter(f"raft_{name}", f"Raft: {name.replace('_', ' ')}.", number)
        yield from self._machine()

    def _machine(self) -> Iterator[Family]:
        machine = self._port.machine
        statistics = machine.statistics()
        yield gauge("keys", "Keys stored.", statistics.keys)
        yield gauge("value_bytes", "Bytes of all values.", statistics.value_bytes)
        yield gauge("locks", "Locks held or waited for.", statistics.locks)
        yield gauge("sessions", "Open sessions.", statistics.sessions)
        yield gauge("revision", "Newest revision of the local state.", machine.revision)
        yield gauge("cluster_clock_seconds", "Cluster time.", machine.clock_ms / 1000)
        yield counter("keys_expired", "Keys that expired, since this start.", statistics.expired_total)


def gauge(name: str, text: str, number: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"replcache_{name}", text, value=number)


def counter(name: str, text: str, number: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"replcache_{name}", text, value=number)
