"""Pictures of benchmark results: which are drawn, and that what is drawn is well-formed and in order."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks import plots


def figure(system: str, work: str, callers: int, rate: float, **more: Any) -> dict[str, Any]:
    given = {"value_bytes": 100, "nodes": 1 if system == "redis" else 3, "p50_ms": 1.5, "p99_ms": 0.0}
    return {"system": system, "work": work, "callers": callers, "rate": rate, **given, **more}


RESULTS = {
    "machine": "a <b>",
    "figures": [
        figure(system, work, callers, rate * callers * spread)
        for spread in (0.9, 1.0, 1.3)
        for callers in (1, 16, 256)
        for system, work, rate in (
            ("replcache", "set", 100.0),
            ("replcache", "get", 150.0),
            ("replcache", "get one", 200.0),
            ("etcd", "set", 50.0),
            ("etcd", "get", 60.0),
            ("redis", "set", 300.0),
        )
    ],
}


def test_pictures_are_those_of_what_varies(tmp_path: Path) -> None:
    index, *files = plots.write(RESULTS, tmp_path)
    assert len(files) == 2 * 3  # set and get, three measures each, against callers only
    assert "a &lt;b&gt;" in index.read_text()
    for file in files:
        ElementTree.fromstring(file.read_text())
        assert file.read_text() in index.read_text()


def test_lines_hold_the_medians_in_order() -> None:
    found = {picture.name: picture for picture in plots.pictures(RESULTS["figures"])}  # type: ignore[arg-type]
    picture = found["get-rate-by-callers-value_bytes100-nodes3"]
    assert sorted(picture.lines) == ["etcd", "replcache", "replcache one"]
    assert [(dot.x, dot.middle) for dot in picture.lines["replcache one"]] == [
        (1, 200.0),
        (16, 3200.0),
        (256, 51200.0),
    ]
    assert "redis" in found["set-rate-by-callers-value_bytes100-nodes3"].lines


def test_more_is_drawn_higher_and_inside_the_frame() -> None:
    picture = next(p for p in plots.pictures(RESULTS["figures"]) if p.name.startswith("set-rate"))  # type: ignore[arg-type]
    lines = re.findall(r'<polyline points="([^"]+)"', plots.draw(picture))
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    for line in heights:
        assert line == sorted(line, reverse=True)
        assert all(plots.TOP <= y <= plots.HEIGHT - plots.BOTTOM for y in line)


def test_one_measurement_of_everything_draws_nothing(tmp_path: Path) -> None:
    files = plots.write({"figures": [figure("etcd", "set", 1, 10.0)]}, tmp_path)
    assert [file.name for file in files] == ["index.html"]
