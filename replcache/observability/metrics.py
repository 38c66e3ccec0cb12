"""All metrics of a node, declared once.

One Metrics object a node with its own registry, so that several nodes fit one process. Names follow
https://prometheus.io/docs/practices/naming/: prefix `replcache_`, base units, `_total` for counters; keys,
lock names and addresses are never labels. The request path pays for additions to plain numbers only; what
Prometheus wants is made of them when it asks.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

import replcache

if TYPE_CHECKING:
    from replcache.raft.port import RaftPort

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily

# From a local read (100 µs) to a request that waited out an election.
LATENCY_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


class LoopHistogram:
    """A histogram for one thread: a bisect and two additions, where prometheus_client's takes a lock, walks
    over its buckets and costs ten times as much. On the loop nothing else runs meanwhile."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def counts(self) -> Sequence[int]:
        """Observations by bucket, not cumulated; the last one has no bound."""
        return self._counts

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> None:
        """Adds the cumulated buckets as Prometheus wants them."""
        buckets, seen = [], 0
        for bound, number in zip((*self._bounds, inf), self._counts, strict=True):
            seen += number
            buckets.append((floatToGoString(bound), seen))  # type: ignore[no-untyped-call]
        family.add_metric(labels, buckets, self._sum)


# Outcomes that say something about the cluster, not about the request.
UNAVAILABLE_OUTCOMES = frozenset(
    {
        "DEADLINE_EXCEEDED", "INTERNAL", "NODE_HALTED", "NOT_APPLIED", "NO_LEADER", "OUTCOME_UNKNOWN",
        "OVERLOADED", "STALENESS_UNAVAILABLE", "UNAVAILABLE",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Totals:
    """Requests to the Cache service so far: those that named a read level, the others, and how they fared."""

    reads: int
    writes: int
    unavailable: int
    read_buckets: list[int]
    write_buckets: list[int]


class Metrics:
    """What the server counts, as plain numbers that only the event loop touches; read at each scrape.

    Attributes:
        hits, misses: keys that were asked for and found, or not.
        keys_written: keys in acknowledged writes.
        proposals_in_flight: writes that wait for their result.
        lock_waits: Acquire calls under way on this node.
        pipeline_streams: open streams.
        state_checks, state_divergences: comparisons of the replicas' states, and those that found a
            difference. state_diverged_nodes: how many differed in the newest one.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.hits = 0
        self.misses = 0
        self.keys_written = 0
        self.proposals_in_flight = 0
        self.lock_waits = 0
        self.pipeline_streams = 0
        self.state_checks = 0
        self.state_divergences = 0
        self.state_diverged_nodes = 0
        self.batch_operations = LoopHistogram(BATCH_BUCKETS)
        self.loop_lag_seconds = LoopHistogram(LAG_BUCKETS_S)
        # By (operation, level, outcome), and by (operation, level).
        self._outcomes: dict[tuple[str, str, str], int] = {}
        self._latencies: dict[tuple[str, str], LoopHistogram] = {}
        self.registry.register(ServerCollector(self))

    def request_done(self, operation: str, level: str, outcome: str, seconds: float) -> None:
        """Counts one request, or one batch of a stream."""
        key = (operation, level, outcome)
        self._outcomes[key] = self._outcomes.get(key, 0) + 1
        histogram = self._latencies.get((operation, level))
        if histogram is None:
            histogram = self._latencies[operation, level] = LoopHistogram(LATENCY_BUCKETS_S)
        histogram.observe(seconds)

    def totals(self) -> Totals:
        """Reads are the requests that were served at a read level."""
        buckets = {True: [0] * (len(LATENCY_BUCKETS_S) + 1), False: [0] * (len(LATENCY_BUCKETS_S) + 1)}
        for (operation, level), histogram in self._latencies.items():
            if operation.startswith("Cache."):
                target = buckets[level != "none"]
                for index, number in enumerate(histogram.counts):
                    target[index] += number
        unavailable = sum(
            number
            for (operation, _, outcome), number in self._outcomes.items()
            if outcome in UNAVAILABLE_OUTCOMES and operation.startswith("Cache.")
        )
        return Totals(sum(buckets[True]), sum(buckets[False]), unavailable, buckets[True], buckets[False])

    def collect(self) -> Iterator[Family]:
        """What prometheus_client asks for at a scrape."""
        requests = CounterMetricFamily(
            "replcache_requests",
            "Requests by operation, read level (write: none) and outcome (ok or the error's reason).",
            labels=("operation", "level", "outcome"),
        )
        for labels, number in self._outcomes.items():
            requests.add_metric(labels, number)
        yield requests
        latency = HistogramMetricFamily(
            "replcache_request_seconds",
            "Time from the first look at a request to its answer.",
            labels=("operation", "level"),
        )
        for names, histogram in self._latencies.items():
            histogram.add_to(latency, names)
        yield latency
        yield counter("hits", "Keys that were asked for and found.", self.hits)
        yield counter("misses", "Keys that were asked for and missing.", self.misses)
        yield counter("keys_written", "Keys in acknowledged writes.", self.keys_written)
        yield gauge("proposals_in_flight", "Writes that wait for their result.", self.proposals_in_flight)
        yield gauge("lock_waits", "Callers that wait for a lock on this node.", self.lock_waits)
        yield counter(
            "state_checks", "Comparisons of all replicas' states that this node made.", self.state_checks
        )
        yield counter(
            "state_divergences", "Comparisons that found replicas to differ.", self.state_divergences
        )
        yield gauge(
            "state_diverged_nodes", "Nodes that differed in the newest one.", self.state_diverged_nodes
        )
        yield gauge("pipeline_streams", "Open Pipeline streams.", self.pipeline_streams)
        for name, text, one in (
            ("batch_operations", "Operations in one batch.", self.batch_operations),
            ("loop_lag_seconds", "How late a timer of the event loop fired.", self.loop_lag_seconds),
        ):
            family = HistogramMetricFamily(f"replcache_{name}", text)
            one.add_to(family)
            yield family

    def observe_node(self, port: "RaftPort", uptime_s: Callable[[], float]) -> None:
        """Adds what is read from the node at each scrape."""
        self.registry.register(NodeCollector(port, uptime_s))

    def observe_activity(self, counts: Mapping[str, "ActivityCounts"]) -> None:
        """Adds what is counted by namespace."""
        self.registry.register(ActivityCollector(counts))

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)


class ServerCollector(Collector):
    """The server's own numbers."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        return self._metrics.collect()


class ActivityCounts(Protocol):
    """What is known of one namespace."""

    hits: int
    misses: int
    writes: int
    expired: int
    evicted: int


class ActivityCollector(Collector):
    """Figures by namespace; "" are the keys of none. Names of namespaces are settings, and at most 1,000."""

    def __init__(self, counts: Mapping[str, ActivityCounts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Family]:
        for name, text in (
            ("hits", "Keys of the namespace that were asked for here and found."),
            ("misses", "Keys of the namespace that were asked for here and missing."),
            ("writes", "Keys of the namespace in writes acknowledged here."),
            ("expired", "Keys of the namespace that expired."),
            ("evicted", "Keys of the namespace that were evicted."),
        ):
            family = CounterMetricFamily(f"replcache_namespace_{name}", text, labels=("namespace",))
            for namespace, counts in self._counts.items():
                family.add_metric((namespace,), getattr(counts, name))
            yield family


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
        evicted = CounterMetricFamily(
            "replcache_keys_evicted", "Keys that were evicted, since this start.", labels=("reason",)
        )
        for reason, number in {"lru": 0, "lfu": 0, **dict(statistics.evicted_totals)}.items():
            evicted.add_metric((reason,), number)
        yield evicted


def gauge(name: str, text: str, number: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"replcache_{name}", text, value=number)


def counter(name: str, text: str, number: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"replcache_{name}", text, value=number)
