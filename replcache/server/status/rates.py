"""From counters to rates: what happened between two looks at all nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replcache.observability.metrics import LATENCY_BUCKETS_S
from replcache.server.status.report import Report


@dataclass(frozen=True, slots=True)
class Rates:
    """Of the whole cluster. Rates are per second, latencies in seconds; None: nothing happened.

    Attributes:
        reads, writes: keys read and written. requests: calls and batches.
        hit_rate: 0..1.
        unavailable: failed requests.
    """

    reads: float = 0.0
    writes: float = 0.0
    requests: float = 0.0
    unavailable: float = 0.0
    hit_rate: float | None = None
    read_p50: float | None = None
    read_p99: float | None = None
    write_p50: float | None = None
    write_p99: float | None = None


def rates_between(
    before: Mapping[str, Report], now: Mapping[str, Report], seconds: float, restarted: Sequence[str] = ()
) -> Rates:
    """Sums over the nodes that both looks saw, without those that were started anew in between."""
    if seconds <= 0:
        return Rates()
    pairs = [
        (before[name], report)
        for name, report in now.items()
        if name in before and name not in restarted and report.uptime_s >= before[name].uptime_s
    ]

    def total(name: str) -> int:
        return sum(max(0, getattr(after, name) - getattr(first, name)) for first, after in pairs)

    hits, misses = total("hits"), total("misses")
    read = _buckets([(first.read_buckets, after.read_buckets) for first, after in pairs])
    write = _buckets([(first.write_buckets, after.write_buckets) for first, after in pairs])
    return Rates(
        reads=total("keys_read") / seconds,
        writes=total("keys_written") / seconds,
        requests=(total("reads") + total("writes")) / seconds,
        unavailable=total("unavailable") / seconds,
        hit_rate=hits / (hits + misses) if hits + misses else None,
        read_p50=quantile(read, 0.5),
        read_p99=quantile(read, 0.99),
        write_p50=quantile(write, 0.5),
        write_p99=quantile(write, 0.99),
    )


def _buckets(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[int]:
    size = len(LATENCY_BUCKETS_S) + 1
    found = [0] * size
    for first, after in pairs:
        # A node of another version may have other buckets.
        if len(first) == len(after) == size:
            for index in range(size):
                found[index] += max(0, after[index] - first[index])
    return found


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """The latency that `share` of the requests stayed below, linear within a bucket (as Prometheus does)."""
    total = sum(buckets)
    if not total:
        return None
    wanted, seen, low = share * total, 0, 0.0
    for number, bound in zip(buckets, LATENCY_BUCKETS_S, strict=False):
        if seen + number >= wanted and number:
            return low + (bound - low) * (wanted - seen) / number
        seen += number
        low = bound
    return LATENCY_BUCKETS_S[-1]
