"""What one node tells the others about itself for the status page: numbers, never values.

Reports are JSON under the peers' question "status". A field that is missing has its default and one that is
not known is ignored, so that nodes of different versions understand each other.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import replcache
from replcache.clock import Clock
from replcache.config import ServerConfig, is_loopback, parse_address
from replcache.observability.metrics import Metrics
from replcache.observability.recent import RecentEvents
from replcache.raft.port import RaftPort
from replcache.server.activity import Activity
from replcache.server.health import can_serve
from replcache.server.state_hash import StateCheck
from replcache.server.watch_hub import WatchHub

QUESTION = "status"
EVENTS_TOLD = 40
HOT_KEYS_TOLD = 20
WATCHES_TOLD = 20
KEY_CHARS_MAX = 80

Rows = list[list[Any]]


@dataclass(frozen=True, slots=True)
class Report:
    """Counters (`reads` to `unavailable`, and the latencies' buckets) count from the start of the process.

    Attributes:
        http_address: where its status page is; "" when nowhere.
        reads, writes: requests to the Cache service; keys_*, hits, misses: keys in them.
        unavailable: requests that failed for want of a leader, time or room.
        read_buckets, write_buckets: requests by LATENCY_BUCKETS_S, the last one without a bound.
        hot_reads, hot_writes: rows of (key, estimate, error).
        spaces: rows of (namespace, hits, misses, writes, expired, evicted).
        watches: rows of (what, number of watches, events waiting).
        checks: the newest comparison of the states: a row of (index, seconds ago, equal, diverged).
        events: rows of (number, time, level, event, text).
    """

    node: str = ""
    role: str = ""
    term: int = 0
    leader: str = ""
    serving: bool = False
    halted: str = ""
    version: str = ""
    uptime_s: float = 0.0
    http_address: str = ""
    commit_index: int = 0
    applied_index: int = 0
    last_log_index: int = 0
    snapshot_index: int = 0
    leader_changes: int = 0
    keys: int = 0
    value_bytes: int = 0
    sessions: int = 0
    streams: int = 0
    watch_count: int = 0
    lock_waits: int = 0
    reads: int = 0
    writes: int = 0
    keys_read: int = 0
    keys_written: int = 0
    hits: int = 0
    misses: int = 0
    unavailable: int = 0
    read_buckets: list[int] = field(default_factory=list)
    write_buckets: list[int] = field(default_factory=list)
    hot_reads: Rows = field(default_factory=list)
    hot_writes: Rows = field(default_factory=list)
    spaces: Rows = field(default_factory=list)
    watches: Rows = field(default_factory=list)
    checks: Rows = field(default_factory=list)
    events: Rows = field(default_factory=list)

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Report | None":
        """None when it makes no sense."""
        try:
            found = json.loads(data)
        except ValueError:
            return None
        if not isinstance(found, dict):
            return None
        known = {}
        for one in fields(cls):
            default = getattr(_EMPTY, one.name)
            value = found.get(one.name, default)
            if isinstance(default, float) and type(value) is int:
                value = float(value)
            if type(value) is not type(default):
                return None
            known[one.name] = value
        return cls(**known)


_EMPTY = Report()


class Reporter:
    """Makes this node's report when somebody asks; between reports it costs nothing."""

    def __init__(
        self,
        config: ServerConfig,
        port: RaftPort,
        metrics: Metrics,
        watches: WatchHub,
        events: RecentEvents,
        clock: Clock,
        check: StateCheck,
    ) -> None:
        self._config = config
        self._port = port
        self._metrics = metrics
        self._watches = watches
        self._events = events
        self._clock = clock
        self._check = check
        # Where hits, hot keys and figures of namespaces come from, once there is one.
        self.activity: Activity | None = None
        self._started_at = clock.now()
        self.shows_keys = shows_keys(config)
        self.http_address = ""

    def listening(self, host: str, port: int) -> None:
        """Where the page is, once that is known."""
        self.http_address = reachable_address(host, port, self._config.grpc_advertised)

    async def answer(self, _: bytes) -> bytes:
        """The peers' question QUESTION."""
        return self.report().encode()

    def report(self) -> Report:
        port, metrics = self._port, self._metrics
        status = port.status()
        numbers = port.machine.statistics()
        totals = metrics.totals()
        return Report(
            node=status.node,
            role=status.role.name.lower(),
            term=status.term,
            leader=status.leader,
            serving=can_serve(port),
            halted=status.halted,
            version=replcache.__version__,
            uptime_s=round(self._clock.now() - self._started_at, 1),
            http_address=self.http_address,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            last_log_index=status.last_log_index,
            snapshot_index=status.snapshot_index,
            leader_changes=status.leader_changes,
            keys=numbers.keys,
            value_bytes=numbers.value_bytes,
            sessions=numbers.sessions,
            streams=metrics.pipeline_streams,
            watch_count=len(self._watches),
            lock_waits=metrics.lock_waits,
            reads=totals.reads,
            writes=totals.writes,
            keys_read=metrics.hits + metrics.misses,
            keys_written=metrics.keys_written,
            hits=metrics.hits,
            misses=metrics.misses,
            unavailable=totals.unavailable,
            read_buckets=totals.read_buckets,
            write_buckets=totals.write_buckets,
            **self._rows(),
        )

    def _rows(self) -> dict[str, Rows]:
        events = [[e.number, e.at, e.level, e.event, e.text] for e in self._events.newest(EVENTS_TOLD)]
        rows: dict[str, Rows] = {"events": events}
        last = self._check.last
        if last is not None:
            ago_s = round(self._clock.now() - last.at)
            rows["checks"] = [[last.index, ago_s, ", ".join(last.equal), ", ".join(last.diverged)]]
        activity = self.activity
        if activity is not None:
            rows["spaces"] = [
                [name, counts.hits, counts.misses, counts.writes, counts.expired, counts.evicted]
                for name, counts in sorted(activity.counts.items())
            ]
        if not self.shows_keys:
            return rows
        rows["watches"] = [[show(what), *more] for what, *more in self._watches.describe(WATCHES_TOLD)]
        if activity is not None:
            for name, hot in (
                ("hot_reads", activity.most_read(HOT_KEYS_TOLD)),
                ("hot_writes", activity.most_written(HOT_KEYS_TOLD)),
            ):
                rows[name] = [[show(key), count, error] for key, count, error in hot]
        return rows


def shows_keys(config: ServerConfig) -> bool:
    """Whether names of keys, locks and their holders may be seen on the page."""
    if config.status_keys == "auto":
        return config.http_listen is not None and is_loopback(config.http_listen)
    return config.status_keys == "show"


def reachable_address(host: str, port: int, advertised: str) -> str:
    """host:port, with the host of `advertised` in place of one that means "every address"."""
    if host in ("0.0.0.0", "::"):
        host, _ = parse_address(advertised)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def show(name: bytes | str) -> str:
    """A key or name for the eye: cut, and bytes that are no text as \\xNN."""
    text = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text if len(text) <= KEY_CHARS_MAX else text[: KEY_CHARS_MAX - 1] + "…"
