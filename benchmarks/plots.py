"""Pictures of what benchmarks.versus measured: throughput and latency against callers, value size and nodes.

One SVG a picture and one page with all of them; neither needs anything else, so they can be mailed or put on
any web server. A dot is the median over the rounds, the bar through it reaches from the least to the most.
Axes are logarithmic. Usage:

    python -m benchmarks.plots RESULTS.json DIRECTORY
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 520, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
COLOURS = {"replcache": "#0b6e4f", "etcd": "#3d5a98", "redis": "#b3261e"}
OTHER_COLOURS = ("#7a5195", "#a0711c", "#333333")
AXES = {"callers": "callers", "value_bytes": "bytes a value", "nodes": "nodes"}
MEASURES = {"rate": "operations/s", "p50_ms": "median latency, ms", "p99_ms": "p99 latency, ms"}


@dataclass(frozen=True)
class Dot:
    """One place on a line: x, and the measurements of all rounds there."""

    x: float
    values: list[float]

    @property
    def middle(self) -> float:
        return statistics.median(self.values)


@dataclass
class Picture:
    name: str
    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[Dot]] = field(default_factory=dict)


def pictures(figures: list[dict[str, Any]]) -> list[Picture]:
    """One for each axis that varies, each kind of work, each measure, and each setting of the other axes."""
    found: dict[str, Picture] = {}
    for axis, x_label in AXES.items():
        # Redis always has one node, so it has no line against nodes.
        wanted = [figure for figure in figures if axis != "nodes" or figure["system"] != "redis"]
        if len({figure[axis] for figure in wanted}) < 2:
            continue
        others = [other for other in AXES if other != axis]
        for figure in wanted:
            fixed = {other: figure[other] for other in others}
            if figure["system"] == "redis":
                # It is shown beside every number of the others' nodes.
                nodes = {f["nodes"] for f in figures if f["system"] != "redis"} or {1}
                settings = [{**fixed, "nodes": number} for number in sorted(nodes)]
            else:
                settings = [fixed]
            for setting in settings:
                for measure, y_label in MEASURES.items():
                    _add(found, figure, axis, x_label, measure, y_label, setting)
    return list(found.values())


def _add(
    found: dict[str, Picture],
    figure: dict[str, Any],
    axis: str,
    x_label: str,
    measure: str,
    y_label: str,
    setting: dict[str, Any],
) -> None:
    # `get one` is a line in the picture of `get`.
    work, _, level = figure["work"].partition(" ")
    line = f"{figure['system']} {level}".strip()
    where = "-".join(f"{name}{value}" for name, value in setting.items())
    name = f"{work}-{measure}-by-{axis}-{where}"
    told = ", ".join(f"{value} {AXES[other]}" for other, value in setting.items())
    picture = found.setdefault(name, Picture(name, f"{work}: {y_label} ({told})", x_label, y_label))
    dots = picture.lines.setdefault(line, [])
    for dot in dots:
        if dot.x == figure[axis]:
            dot.values.append(figure[measure])
            return
    dots.append(Dot(figure[axis], [figure[measure]]))
    dots.sort(key=lambda dot: dot.x)


def decades(low: float, high: float) -> list[float]:
    """Where to draw lines: 1, 2 and 5 of each power of ten, or the powers alone over a wide range."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    first = math.floor(math.log10(low))
    last = math.ceil(math.log10(high))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def scale(values: Iterable[float], begin: float, end: float) -> tuple[Callable[[float], float], float, float]:
    """(value -> coordinate, least, most) of a logarithmic axis with some air at both ends."""
    # An operation that took less than the clock's step is drawn as a microsecond.
    positive = [max(value, 1e-3) for value in values]
    low, high = min(positive) / 1.25, max(positive) * 1.25
    span = math.log(high / low)
    return lambda value: begin + (end - begin) * math.log(max(value, 1e-3) / low) / span, low, high


def number(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def draw(picture: Picture) -> str:
    """A whole SVG document."""
    dots = [dot for line in picture.lines.values() for dot in line]
    x_of, _, _ = scale((dot.x for dot in dots), LEFT, WIDTH - RIGHT)
    y_of, low, high = scale((value for dot in dots for value in dot.values), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(picture.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="13" font-weight="bold">{escape(picture.title)}</text>',
    ]
    for tick in decades(low, high):
        y = y_of(tick)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    for x in sorted({dot.x for dot in dots}):
        at = x_of(x)
        parts.append(f'<path d="M{at:.1f} {HEIGHT - BOTTOM}v5" stroke="#333"/>')
        label = f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{number(x)}</text>'
        parts.append(label)
    parts.append(f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#333"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{picture.x_label}</text>')
    for place, (name, line) in enumerate(sorted(picture.lines.items())):
        parts += _line(name, line, place, x_of, y_of)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _line(
    name: str, dots: list[Dot], place: int, x_of: Callable[[float], float], y_of: Callable[[float], float]
) -> list[str]:
    system, _, variant = name.partition(" ")
    colour = COLOURS.get(system, OTHER_COLOURS[place % len(OTHER_COLOURS)])
    dashes = ' stroke-dasharray="5 3"' if variant else ""
    points = " ".join(f"{x_of(dot.x):.1f},{y_of(dot.middle):.1f}" for dot in dots)
    parts = [f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>']
    for dot in dots:
        x, y = x_of(dot.x), y_of(dot.middle)
        least, most = y_of(min(dot.values)), y_of(max(dot.values))
        told = escape(f"{name}, {number(dot.x)}: {dot.middle:,.2f}")
        parts.append(f'<path d="M{x:.1f} {least:.1f}V{most:.1f}" stroke="{colour}"/>')
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"><title>{told}</title></circle>'
        )
    legend_x = LEFT + 10 + 110 * place
    parts.append(f'<path d="M{legend_x} {TOP - 8}h16" stroke="{colour}" stroke-width="2"{dashes}/>')
    parts.append(f'<text x="{legend_x + 20}" y="{TOP - 4}">{escape(name)}</text>')
    return parts


def page(results: dict[str, Any], drawn: list[str]) -> str:
    """All pictures on one HTML page."""
    facts = ", ".join(f"{key} {value}" for key, value in results.items() if key != "figures")
    return "\n".join(
        (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>replcache: measured</title>',
            "<style>body{font-family:sans-serif;margin:2em}svg{margin:.5em;border:1px solid #ccc}</style>",
            f"<h1>replcache beside etcd and Redis</h1><p>{escape(facts)}. Dots are medians over the rounds,",
            "bars reach from the least to the most. Redis: one node, no disk sync.</p>",
            *drawn,
            "</html>\n",
        )
    )


def write(results: dict[str, Any], directory: Path) -> list[Path]:
    """Draws everything that varies; returns the files, the page first."""
    directory.mkdir(parents=True, exist_ok=True)
    files, drawn = [], []
    for picture in pictures(results["figures"]):
        drawn.append(draw(picture))
        files.append(directory / f"{picture.name}.svg")
        files[-1].write_text(drawn[-1])
    index = directory / "index.html"
    index.write_text(page(results, drawn))
    return [index, *files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("results", type=Path)
    parser.add_argument("directory", type=Path)
    args = parser.parse_args()
    files = write(json.loads(args.results.read_text()), args.directory)
    print(f"{len(files) - 1} pictures: {files[0]}")


if __name__ == "__main__":
    main()
