"""What a view between the cache and a database was asked for, checked; and what it counts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from replcache.client.durations import Duration, parse_seconds, parse_ttl_ms
from replcache.client.types import Consistency
from replcache.errors import InvalidRequest
from replcache.patterns.drainer import DrainOptions
from replcache.patterns.source import Loader, Writer


class Mode(StrEnum):
    """Who writes the database, and when."""

    CACHE_ASIDE = "cache_aside"
    READ_THROUGH = "read_through"
    WRITE_THROUGH = "write_through"
    WRITE_BEHIND = "write_behind"
    WRITE_AROUND = "write_around"


Ttl = Duration | None
TtlRule = Ttl | Callable[[str, Any], Ttl]
TagRule = Iterable[str] | Callable[[str, Any], Iterable[str]]


@dataclass(frozen=True, slots=True)
class ThroughOptions:
    """See AsyncThroughCalls.through."""

    name: str
    prefix: str
    mode: Mode
    loader: Loader | None
    writer: Writer | None
    ttl: TtlRule
    negative_ttl: Ttl
    tags: TagRule
    read: Consistency | str | None
    max_staleness: Duration | None
    lease_s: float
    wait: Duration
    shards: int
    drain: bool
    draining: DrainOptions
    max_rows: int
    max_lag_s: float

    @classmethod
    def checked(
        cls,
        *,
        name: str,
        prefix: str,
        mode: str,
        loader: Loader | None,
        writer: Writer | None,
        ttl: TtlRule,
        negative_ttl: Ttl,
        tags: TagRule,
        read: Consistency | str | None,
        max_staleness: Duration | None,
        lease: Duration,
        wait: Duration,
        flush_every: Duration,
        max_batch: int,
        shards: int,
        drain: bool,
        drain_ttl: Duration,
        max_rows: int,
        max_lag: Duration,
    ) -> "ThroughOptions":
        try:
            known = Mode(mode)
        except ValueError:
            raise InvalidRequest(f"mode={mode!r}: one of {', '.join(Mode)}", field="mode") from None
        if not isinstance(prefix, str):
            raise InvalidRequest(f"prefix={prefix!r}: str", field="prefix")
        if known in (Mode.WRITE_THROUGH, Mode.WRITE_AROUND) and writer is None:
            raise InvalidRequest(f"mode {known} needs a writer", field="writer")
        if known is Mode.WRITE_BEHIND and drain and writer is None:
            raise InvalidRequest("mode write_behind needs a writer, or drain=False", field="writer")
        if loader is None and writer is None and known is not Mode.WRITE_BEHIND:
            raise InvalidRequest(f"mode {known} needs a loader", field="loader")
        if not 1 <= max_batch <= 4000:
            raise InvalidRequest(f"max_batch={max_batch}: 1 to 4000", field="max_batch")
        if max_rows < 1:
            raise InvalidRequest(f"max_rows={max_rows} must be above 0", field="max_rows")
        if not callable(ttl):
            parse_ttl_ms(ttl, "ttl")
        parse_ttl_ms(negative_ttl, "negative_ttl")
        draining = DrainOptions(
            parse_seconds(flush_every, "flush_every"),
            max_batch,
            parse_ttl_ms(drain_ttl, "drain_ttl") / 1000,
            max_rows + 1,
        )
        return cls(
            name or prefix.rstrip(":/") or "default",
            prefix,
            known,
            loader,
            writer,
            ttl,
            negative_ttl,
            tags if callable(tags) else tuple(tags),
            read,
            max_staleness,
            parse_ttl_ms(lease, "lease") / 1000,
            wait,
            shards,
            drain,
            draining,
            max_rows,
            parse_seconds(max_lag, "max_lag"),
        )

    def ttl_of(self, key: str, value: Any) -> Ttl:
        return self.ttl(key, value) if callable(self.ttl) else self.ttl

    def tags_of(self, key: str, value: Any) -> tuple[str, ...]:
        return tuple(self.tags(key, value) if callable(self.tags) else self.tags)

    @property
    def fixed_tags(self) -> tuple[str, ...]:
        """Those that are known before the value is."""
        return () if callable(self.tags) else tuple(self.tags)


@dataclass(slots=True)
class ThroughStatistics:
    """Counted by one view object since it was made.

    refused_fills: loaded values that were not stored, because the key was invalidated or written meanwhile;
    failed_fills: because the cluster did not answer.
    rows_written, batches, drain_failures: by this process as the drainer; is_drainer: of some shard, now.
    lag_rows, lag_s: as seen by the last write, flush() or lag() of this object.
    """

    hits: int = 0
    misses: int = 0
    loads: int = 0
    load_failures: int = 0
    absent: int = 0
    refused_fills: int = 0
    failed_fills: int = 0
    writes: int = 0
    write_failures: int = 0
    refused_writes: int = 0
    rows_written: int = 0
    batches: int = 0
    drain_failures: int = 0
    is_drainer: bool = False
    lag_rows: int = 0
    lag_s: float = 0.0

    @property
    def hit_rate(self) -> float:
        """hits / (hits + misses); 0 before the first read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0
