"""report.html of a soak: what every node used over time, the slices of work, the verdict."""

import html
from collections.abc import Sequence
from pathlib import Path

from tests.fault.report import HEIGHT, STYLE, WIDTH
from tests.fault.resources import MB, Sample, growth, lives

POINTS_MAX = 600
COLOURS = ("#3b82c4", "#2a9d57", "#c8452f", "#8a5cc4", "#e0a100")
# Title, field, what one unit is in the picture.
PICTURES = (
    ("Memory, MB", "rss_bytes", MB),
    ("Open files", "fds", 1),
    ("Threads", "threads", 1),
    ("Log on disk, MB", "wal_bytes", MB),
    ("Snapshots", "snapshots", 1),
    ("Text log, MB", "log_bytes", MB),
)


def write_soak_report(
    path: Path, seed: int, samples: Sequence[Sample], slices: Sequence[str], problems: Sequence[str]
) -> None:
    verdict = "nothing found" if not problems else f"{len(problems)} problems"
    parts = [f"<!doctype html><meta charset=utf-8><title>soak {seed}</title><style>{STYLE}"]
    parts.append("polyline { fill: none; stroke-width: 1.5 }</style>")
    parts.append(f"<h1>Soak, seed {seed}: {verdict}</h1><pre>{html.escape(chr(10).join(problems))}</pre>")
    nodes = sorted({sample.node for sample in samples})
    legend = (f'<b style="color:{c}">{n}</b>' for n, c in zip(nodes, COLOURS, strict=False))
    parts.append(f"<p>{' '.join(legend)}; a line breaks where the node was started anew</p>")
    for title, field, unit in PICTURES:
        parts.append(f"<h2>{title}</h2>{_picture(samples, nodes, field, unit)}")
    parts.append(_growth_table(samples))
    parts += slices
    path.write_text("\n".join(parts), encoding="utf-8")


def _picture(samples: Sequence[Sample], nodes: Sequence[str], field: str, unit: int) -> str:
    end = max((sample.time_s for sample in samples), default=1.0) or 1.0
    most = max((getattr(sample, field) / unit for sample in samples), default=1.0) or 1.0
    lines = []
    for node, colour in zip(nodes, COLOURS, strict=False):
        own = [sample for sample in samples if sample.node == node]
        own = own[:: max(1, len(own) // POINTS_MAX)]
        for pid in dict.fromkeys(sample.pid for sample in own):
            points = " ".join(
                f"{s.time_s / end * WIDTH:.1f},{HEIGHT - getattr(s, field) / unit / most * (HEIGHT - 20):.1f}"
                for s in own
                if s.pid == pid
            )
            lines.append(f'<polyline stroke="{colour}" points="{points}"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 16}" role="img" aria-label="{field} over time">{"".join(lines)}'
        f'<text x="2" y="12">{most:,.1f}</text><text x="2" y="{HEIGHT + 13}">0</text>'
        f'<text x="{WIDTH - 60}" y="{HEIGHT + 13}">{end:.0f} s</text></svg>'
    )


def _growth_table(samples: Sequence[Sample]) -> str:
    rows = [
        f"<tr><td>{one.node}<td>{one.what}<td>{one.before:,.0f}<td>{one.after:,.0f}<td>{one.limit:,.0f}"
        for one in growth(samples)
    ]
    slopes = [
        f"<tr><td>{one.node}<td>{one.pid}<td>{one.seconds:.0f}<td>{one.rss_slope / MB:.2f}"
        for one in lives(samples)
    ]
    return (
        "<h2>Growth: medians of the second and of the last quarter</h2>"
        f"<table><tr><th>node<th>what<th>second<th>last<th>limit{''.join(rows)}</table>"
        "<h2>Memory of each process after its warm-up</h2>"
        f"<table><tr><th>node<th>pid<th>seconds<th>MB an hour{''.join(slopes)}</table>"
    )
