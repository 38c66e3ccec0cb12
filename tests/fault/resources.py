"""What the nodes of a ProcessCluster use: sampled into rows, written as CSV, judged for growth.

Linux only: the figures come from /proc and from the nodes' directories.
"""

import csv
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO

from tests.helpers.process_cluster import ProcessCluster

MB = 1_000_000
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# A process younger than this still imports, recovers and fills its caches.
WARM_UP_S = 15.0
# Slopes of memory are judged only over lives of at least this length after the warm-up: over a minute or two
# the first snapshot or a full cache looks like a leak.
JUDGED_LIFE_S = 900.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One node at one moment. age_s: since its process was first seen."""

    time_s: float
    node: str
    pid: int
    age_s: float
    rss_bytes: int
    fds: int
    threads: int
    wal_bytes: int
    wal_files: int
    snapshot_bytes: int
    snapshots: int
    log_bytes: int


# Growth of the median between the second and the last quarter of a run that is still accepted: a share of
# the first, and an amount. Limits for memory slopes are in LIMIT_RSS_SLOPE.
LIMITS: dict[str, tuple[float, float]] = {
    "rss_bytes": (0.15, 16 * MB),
    "fds": (0.0, 16),
    "threads": (0.0, 6),
    "wal_bytes": (1.0, 16 * MB),
    "wal_files": (1.0, 3),
    "snapshot_bytes": (1.0, 16 * MB),
    "snapshots": (0.0, 2),
}
LIMIT_RSS_SLOPE = 4.0 * MB  # bytes an hour
LIMIT_LOG_SLOPE = 40.0 * MB  # bytes an hour: the nodes' logs, while they are being broken


class Sampler:
    """Looks at all nodes; keeps the samples and writes each at once."""

    def __init__(self, cluster: ProcessCluster, sink: IO[str]) -> None:
        self._cluster = cluster
        self._sink = sink
        self._rows = csv.writer(sink)
        self._rows.writerow([field.name for field in fields(Sample)])
        self._started = time.monotonic()
        self._seen: dict[int, float] = {}
        self.samples: list[Sample] = []

    def look(self) -> None:
        now = time.monotonic() - self._started
        for name in self._cluster.names:
            pid = self._cluster.local.pid(name)
            if pid is None:
                continue
            age_s = now - self._seen.setdefault(pid, now)
            try:
                sample = self._sample(name, pid, now, age_s)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it was killed, or a file was removed, while we looked
            self.samples.append(sample)
            self._rows.writerow([round(v, 1) if isinstance(v, float) else v for v in asdict(sample).values()])
        self._sink.flush()

    def _sample(self, name: str, pid: int, now: float, age_s: float) -> Sample:
        layout = self._cluster.local.layout(name)
        process = Path(f"/proc/{pid}")
        wal = list(_sizes(layout.data / "wal"))
        snapshots = list(_sizes(layout.data / "snapshots"))
        return Sample(
            time_s=now,
            node=name,
            pid=pid,
            age_s=age_s,
            rss_bytes=int((process / "statm").read_text().split()[1]) * PAGE_BYTES,
            fds=len(os.listdir(process / "fd")),
            threads=len(os.listdir(process / "task")),
            wal_bytes=sum(wal),
            wal_files=len(wal),
            snapshot_bytes=sum(snapshots),
            snapshots=len(snapshots),
            log_bytes=layout.log.stat().st_size,
        )


def _sizes(directory: Path) -> Iterator[int]:
    """Bytes that each file takes on the disk: a log segment is allocated before it is filled."""
    for file in directory.iterdir():
        yield file.stat().st_blocks * 512


@dataclass(frozen=True, slots=True)
class Growth:
    """One quantity of one node: medians of the second and of the last quarter."""

    node: str
    what: str
    before: float
    after: float
    limit: float

    @property
    def is_too_much(self) -> bool:
        return self.after > self.limit


def growth(samples: Sequence[Sample]) -> list[Growth]:
    """Empty parts (a node that was down) are left out."""
    found = []
    end = max((s.time_s for s in samples), default=0.0)
    for node in sorted({s.node for s in samples}):
        warm = [s for s in samples if s.node == node and s.age_s >= WARM_UP_S]
        second = [s for s in warm if end * 0.25 <= s.time_s < end * 0.5]
        last = [s for s in warm if s.time_s >= end * 0.75]
        if not second or not last:
            continue
        for what, (share, amount) in LIMITS.items():
            before = statistics.median(getattr(s, what) for s in second)
            after = statistics.median(getattr(s, what) for s in last)
            found.append(Growth(node, what, before, after, before * (1 + share) + amount))
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least squares, units an hour."""
    if len(points) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope * 3600


@dataclass(frozen=True, slots=True)
class Life:
    """The memory of one process after its warm-up."""

    node: str
    pid: int
    seconds: float
    rss_slope: float

    @property
    def is_too_much(self) -> bool:
        return self.seconds >= JUDGED_LIFE_S and self.rss_slope > LIMIT_RSS_SLOPE


def lives(samples: Sequence[Sample]) -> list[Life]:
    found = []
    for node, pid in sorted({(s.node, s.pid) for s in samples}):
        warm = [s for s in samples if (s.node, s.pid) == (node, pid) and s.age_s >= WARM_UP_S]
        if len(warm) >= 10:
            points = [(s.time_s, float(s.rss_bytes)) for s in warm]
            found.append(Life(node, pid, warm[-1].time_s - warm[0].time_s, slope(points)))
    return found


def problems(samples: Sequence[Sample]) -> list[str]:
    """What grew too much, in words."""
    found = [
        f"{one.node}: {one.what} grew from {one.before:,.0f} to {one.after:,.0f}, limit {one.limit:,.0f}"
        for one in growth(samples)
        if one.is_too_much
    ]
    found += [
        f"{one.node}: memory of process {one.pid} grows by {one.rss_slope / MB:.1f} MB an hour, "
        f"limit {LIMIT_RSS_SLOPE / MB:.0f}"
        for one in lives(samples)
        if one.is_too_much
    ]
    for node in sorted({s.node for s in samples}):
        points = [(s.time_s, float(s.log_bytes)) for s in samples if s.node == node]
        if (rate := slope(points)) > LIMIT_LOG_SLOPE:
            found.append(f"{node}: its log grows by {rate / MB:.0f} MB an hour")
    return found
