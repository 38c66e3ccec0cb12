"""report.html of a chaos run: for each workload calls and latency over time, the faults, and the verdict."""

import html
import re
from collections.abc import Sequence
from pathlib import Path

from replcache.verify.history import Operation
from replcache.verify.run import Report

WIDTH, HEIGHT = 1000, 160
BUCKETS = 120
STYLE = """
:root { color-scheme: light dark }
body { font: 15px system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em }
svg { width: 100%; height: auto; background: color-mix(in srgb, currentColor 6%, transparent) }
.ok { fill: #2a9d57 } .unknown { fill: #e0a100 } .fail { fill: #c8452f }
.latency { fill: none; stroke: #3b82c4; stroke-width: 2 } .fault { stroke: #c8452f; stroke-dasharray: 4 3 }
text { font-size: 11px; fill: currentColor } td, th { padding: 2px 10px; text-align: left }
"""


def write_report(reports: Sequence[Report], seed: int, path: Path) -> None:
    parts = [f"<!doctype html><meta charset=utf-8><title>chaos {seed}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>Chaos run, seed {seed}</h1>")
    for report in reports:
        parts.append(f"<h2>{html.escape(report.workload)}: {html.escape(report.verdict.value)}</h2>")
        parts.append(chart(report))
        parts.append(f"<pre>{html.escape(report.text())}</pre>")
    path.write_text("\n".join(parts), encoding="utf-8")


def chart(report: Report) -> str:
    """Bars: calls that ended in each slice of time, by outcome. Line: their 95th percentile of latency."""
    operations: list[Operation] = list(report.history.operations)
    if not operations:
        return "<p>no calls</p>"
    start = min(op.invoke_ns for op in operations)
    end = max(op.invoke_ns for op in operations) + 1
    slices: list[list[Operation]] = [[] for _ in range(BUCKETS)]
    for op in operations:
        slices[(op.invoke_ns - start) * BUCKETS // (end - start)].append(op)
    most = max(len(part) for part in slices)
    width = WIDTH / BUCKETS
    bars, points = [], []
    for number, part in enumerate(slices):
        base = float(HEIGHT)
        for outcome in ("ok", "unknown", "fail"):
            share = sum(op.outcome.value == outcome for op in part) / most * (HEIGHT - 20)
            base -= share
            bars.append(
                f'<rect class="{outcome}" x="{number * width:.1f}" y="{base:.1f}" width="{width:.1f}" '
                f'height="{share:.1f}"/>'
            )
        latencies = sorted((op.return_ns - op.invoke_ns) / 1e6 for op in part if op.is_ok)
        if latencies:
            p95 = latencies[int(len(latencies) * 0.95)]
            points.append(f"{number * width:.1f},{HEIGHT - min(p95, 3000) / 3000 * (HEIGHT - 20):.1f}")
    seconds = (end - start) / 1e9
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 16}" role="img" aria-label="calls over time">'
        f'{"".join(bars)}<polyline class="latency" points="{" ".join(points)}"/>'
        f"{_fault_lines(report.faults, seconds)}"
        f'<text x="2" y="{HEIGHT + 13}">0 s</text>'
        f'<text x="{WIDTH - 60}" y="{HEIGHT + 13}">{seconds:.0f} s</text>'
        f'<text x="2" y="12">bars: calls (green ok, yellow unknown, red refused); line: p95, '
        f"full height 3 s; dashes: faults</text></svg>"
    )


def _fault_lines(faults: Sequence[str], seconds: float) -> str:
    lines = []
    for what in faults:
        match = re.match(r"([\d.]+) s: (.*)", what)
        assert match is not None, what
        x = float(match[1]) / seconds * WIDTH
        lines.append(
            f'<line class="fault" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{HEIGHT}">'
            f"<title>{html.escape(what)}</title></line>"
        )
    return "".join(lines)
