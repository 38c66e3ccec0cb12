"""What was measured: figures, tables and the picture."""

import statistics
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.recommender.visitors import Read, Record
from replcache.patterns.cached_info import expected_latency_s

BIN_S = 0.25


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def mean_ms(reads: Iterable[Read]) -> float:
    values = [read.seconds for read in reads]
    return statistics.fmean(values) * 1000 if values else 0.0


def longest_silence_s(reads: list[Read]) -> float:
    """The longest time in which nobody got an answer."""
    times = sorted(read.at for read in reads)
    return max((after - before for before, after in pairwise(times)), default=0.0)


def figures(alone: Record, cached: Record, counted: int) -> dict[str, Any]:
    """All that is printed; milliseconds, shares and counts."""
    hits = [read for read in cached.reads if read.is_hit]
    hit_rate = len(hits) / max(1, len(cached.reads))
    # The database's share of the misses: a profile costs less than a list.
    misses = [read.kind for read in cached.reads if not read.is_hit]
    by_kind = {kind: mean_ms(r for r in alone.reads if r.kind == kind) for kind in ("profile", "recommended")}
    database_ms = statistics.fmean(by_kind[kind] for kind in misses) if misses else 0.0
    hit_ms = mean_ms(hits)
    return {
        "reads": len(cached.reads),
        "hit_rate": hit_rate,
        "database_ms": mean_ms(alone.reads),
        "database_p50_ms": percentile([r.seconds for r in alone.reads], 0.5) * 1000,
        "database_p99_ms": percentile([r.seconds for r in alone.reads], 0.99) * 1000,
        "database_reads_per_s": len(alone.reads) / alone.reads[-1].at,
        "database_reads": len(alone.reads),
        "cached_ms": mean_ms(cached.reads),
        "cached_p50_ms": percentile([r.seconds for r in cached.reads], 0.5) * 1000,
        "cached_p99_ms": percentile([r.seconds for r in cached.reads], 0.99) * 1000,
        "cached_reads_per_s": len(cached.reads) / cached.reads[-1].at,
        "hit_ms": hit_ms,
        "hit_p50_ms": percentile([r.seconds for r in hits], 0.5) * 1000,
        "hit_p99_ms": percentile([r.seconds for r in hits], 0.99) * 1000,
        "miss_ms": mean_ms(read for read in cached.reads if not read.is_hit),
        "database_ms_of_misses": database_ms,
        "model_ms": expected_latency_s(hit_rate, hit_ms / 1000, database_ms / 1000) * 1000,
        "slowest_ms": max(read.seconds for read in cached.reads) * 1000,
        "longest_silence_ms": longest_silence_s(cached.reads) * 1000,
        "errors": dict(cached.errors),
        "watches": cached.watches,
        "counted": counted,
        "profile_reads": cached.profile_reads,
        "too_old": cached.too_old,
    }


def show(console: Console, found: dict[str, Any], events: list[tuple[float, str]], bound_s: float) -> None:
    table = Table("", "reads", "reads/s", "mean ms", "median ms", "p99 ms", title="Profiles and lists")
    table.title_justify = "left"
    for name, key in (("database alone", "database"), ("with the cache", "cached")):
        reads = found["database_reads"] if key == "database" else found["reads"]
        values = [f"{found[f'{key}{field}']:.2f}" for field in ("_ms", "_p50_ms", "_p99_ms")]
        table.add_row(name, f"{reads:,}", f"{found[f'{key}_reads_per_s']:,.0f}", *values)
    hits = [f"{found[f'hit{field}']:.2f}" for field in ("_ms", "_p50_ms", "_p99_ms")]
    table.add_row("  of these: hits", f"{round(found['reads'] * found['hit_rate']):,}", "", *hits)
    console.print(table)
    hit, miss = found["hit_rate"], 1 - found["hit_rate"]
    cache, database = found["hit_ms"], found["database_ms_of_misses"]
    console.print(f"hit rate: {hit:.1%} of the reads")
    console.print(
        f"model:    {hit:.3f} x {cache:.2f} + {miss:.3f} x ({cache:.2f} + {database:.2f}) = "
        f"{found['model_ms']:.2f} ms; measured: {found['cached_ms']:.2f} ms "
        f"({found['cached_ms'] / found['model_ms'] - 1:+.0%})"
    )
    # The model leaves out that whoever misses claims the key and stores the answer.
    console.print(f"a miss:   {cache + database:.2f} ms by the model, {found['miss_ms']:.2f} ms measured")
    for at, what in events:
        console.print(f"{at:5.1f} s:  {what}")
    console.print(
        f"longest time without any answer: {found['longest_silence_ms']:,.0f} ms; "
        f"slowest read: {found['slowest_ms']:,.0f} ms; failed: {sum(found['errors'].values())}"
    )
    console.print(
        f"profiles older than {bound_s * 1000:.0f} ms: {found['too_old']} of {found['profile_reads']:,}; "
        f"movies watched: {found['watches']:,}, counted: {found['counted']:,}"
    )


def draw(path: Path, title: str, alone: Record, cached: Record, events: list[tuple[float, str]]) -> None:
    """Hit rate and latency over time, with what was done to the cluster."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bins: dict[int, list[Read]] = {}
    for read in cached.reads:
        bins.setdefault(int(read.at / BIN_S), []).append(read)
    places = range(max(bins) + 1)
    times = [(place + 0.5) * BIN_S for place in places]
    empty = float("nan")
    rate = [
        sum(r.is_hit for r in bins[place]) / len(bins[place]) if place in bins else empty for place in places
    ]
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(9, 5.6), sharex=True, layout="constrained")
    upper.plot(times, [value * 100 for value in rate], color="tab:green")
    upper.set(ylabel="hit rate, %", ylim=(0, 102), title=title)
    for share, name, style in ((0.5, "median", "-"), (0.99, "p99", "--")):
        values = [percentile([r.seconds * 1000 for r in bins.get(place, [])], share) for place in places]
        lower.plot(times, values, style, color="tab:blue", label=f"with the cache, {name}")
        level = percentile([read.seconds * 1000 for read in alone.reads], share)
        lower.axhline(level, linestyle=style, color="tab:orange", label=f"database alone, {name}")
    lower.set(ylabel="latency of a read, ms", xlabel="seconds", yscale="log")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        for at, _ in events:
            axes.axvline(at, color="tab:red", linewidth=1, alpha=0.7)
    for at, what in events:
        upper.text(at, 4, f" {what}", color="tab:red", fontsize=8)
    lower.legend(fontsize=8, ncols=2, loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
