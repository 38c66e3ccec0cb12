"""A picture of a violation: one self-contained HTML file, no scripts from elsewhere, light and dark.

Each process has a lane; each operation is a bar from call to return, open on the right where the outcome is
unknown. Dots with numbers are the longest order that was found; operations of the contradiction are framed
red, what could not come next is filled red. Times are drawn by the order of events, not to scale: bars of
microseconds beside pauses of seconds would not be seen. The real times are in the text of each bar.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from replcache.verify.explain import Explanation
from replcache.verify.history import INFINITY_NS, Operation, show

_LANE: Final = 34
_BAR: Final = 20
_STEP_MIN: Final = 26
_STEP_MAX: Final = 120
# A drawing with few events is stretched to this width, so that its labels can be read.
_WIDTH: Final = 980
_LEFT: Final = 110
_TOP: Final = 34
_PIXELS_PER_CHAR: Final = 7.3

_STYLE: Final = """
:root { color-scheme: light dark; --bg:#fcfcfb; --fg:#1b1e23; --dim:#69707c; --line:#d9dce1; --lane:#f1f2f4;
  --ok:#cfe3f7; --ok-edge:#3b78b5; --unknown:#eadff5; --unknown-edge:#8a5fb8; --bad:#e5484d;
  --bad-fill:#f9c9ca; --dot:#1b1e23; --dot-fg:#ffffff; --card:#ffffff; }
@media (prefers-color-scheme: dark) { :root { --bg:#15171b; --fg:#e7e9ec; --dim:#98a0ad; --line:#343941;
  --lane:#1d2025; --ok:#1f3d5c; --ok-edge:#6ca9e0; --unknown:#3a2b4d; --unknown-edge:#b593dd; --bad:#ff6369;
  --bad-fill:#5d2225; --dot:#e7e9ec; --dot-fg:#15171b; --card:#1d2025; } }
body { background:var(--bg); color:var(--fg); font:15px/1.5 system-ui,sans-serif; margin:0; padding:24px; }
main { max-width:1100px; margin:0 auto; }
h1 { font-size:22px; margin:0 0 4px; } h2 { font-size:17px; margin:28px 0 8px; }
p { margin:4px 0 10px; } .dim { color:var(--dim); }
code, table { font-family:ui-monospace,Menlo,Consolas,monospace; font-size:13px; }
table { border-collapse:collapse; width:100%; } td, th { text-align:left; padding:3px 10px 3px 0;
  border-bottom:1px solid var(--line); vertical-align:top; } th { color:var(--dim); font-weight:500; }
.frame { overflow-x:auto; border:1px solid var(--line); border-radius:8px; background:var(--card); }
svg { display:block; } svg text { fill:var(--fg); font:12px ui-monospace,Menlo,Consolas,monospace; }
.lane { fill:var(--lane); } svg .name { fill:var(--dim); }
.bar { stroke-width:1.2; } .ok { fill:var(--ok); stroke:var(--ok-edge); }
.unknown { fill:var(--unknown); stroke:var(--unknown-edge); stroke-dasharray:4 3; }
.core, .stuck { stroke:var(--bad); stroke-width:2.4; } .stuck { fill:var(--bad-fill); }
.op:hover .bar { filter:brightness(1.12); stroke-width:3; } .op { cursor:default; }
.dot { fill:var(--dot); } svg .num { fill:var(--dot-fg); font-size:9px; text-anchor:middle; }
.order { stroke:var(--dim); fill:none; stroke-width:1; stroke-dasharray:2 3; opacity:.7; }
.key span { display:inline-block; margin-right:18px; } .key i { display:inline-block; width:22px; height:11px;
  border-radius:3px; margin-right:6px; border:1.5px solid; vertical-align:-1px; }
"""


def write_picture(explanation: Explanation, path: Path) -> None:
    """Writes the HTML file.

    Raises:
        OSError: it can't be written.
    """
    path.write_text(picture(explanation), encoding="utf-8")


def picture(explanation: Explanation) -> str:
    """The HTML text."""
    title = f"key {html.escape(explanation.partition)} is not linearizable"
    core = sorted((*explanation.core, *explanation.others), key=lambda op: op.invoke_ns)
    whole = explanation.operations
    parts = [
        f"<h1>{title}</h1>",
        f"<p class='dim'>as {html.escape(explanation.model)}; {len(whole)} operations, of which the first "
        f"{explanation.prefix} replies still fit together. This one does not: "
        f"<code>{html.escape(str(explanation.breaking))}</code></p>",
        _key(),
        f"<h2>Smallest contradiction: {len(explanation.core)} replies that can't all be true</h2>",
        _drawing(core, explanation, {}),
        _table(explanation),
        "<h2>The whole key</h2>",
        f"<p class='dim'>The numbers are the longest order that was found: {len(explanation.order)} "
        f"operations, ending in <code>{html.escape(explanation.final_state)}</code>.</p>",
        _drawing(whole, explanation, {number: place for place, number in enumerate(explanation.order, 1)}),
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>"
    )


def _key() -> str:
    colours = (
        ("ok", "ok-edge", "known reply"),
        ("unknown", "unknown-edge", "unknown outcome: may take effect later, or never"),
        ("card", "bad", "part of the contradiction"),
        ("bad-fill", "bad", "fits nowhere"),
    )
    spans = (
        f"<span><i style='background:var(--{fill});border-color:var(--{edge})'></i>{text}</span>"
        for fill, edge, text in colours
    )
    return f"<p class='key'>{''.join(spans)}</p>"


def _table(explanation: Explanation) -> str:
    start_ns = min(operation.invoke_ns for operation in explanation.operations)
    core = {operation.id for operation in explanation.core}
    rows = []
    for operation in sorted((*explanation.core, *explanation.others), key=lambda op: op.invoke_ns):
        role = "contradicts" if operation.id in core else "may help, whatever it did"
        rows.append(
            f"<tr><td>#{operation.id}</td><td>{operation.process}</td>"
            f"<td>{html.escape(_call(operation))}</td><td>{html.escape(_reply(operation))}</td>"
            f"<td>{_time(operation.invoke_ns, start_ns)}</td><td>{_time(operation.return_ns, start_ns)}</td>"
            f"<td>{role}</td></tr>"
        )
    names = ("id", "process", "call", "reply", "called", "returned", "")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<div class='frame'><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _call(operation: Operation) -> str:
    return f"{operation.op}({'' if operation.input is None else show(operation.input)})"


def _reply(operation: Operation) -> str:
    return show(operation.output) if operation.is_ok else operation.outcome.value


def _time(time_ns: int, start_ns: int) -> str:
    return "never" if time_ns == INFINITY_NS else f"{(time_ns - start_ns) / 1e6:.3f} ms"


class _Scale:
    """Time -> x: events in their order, each a step apart."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        times = {operation.invoke_ns for operation in operations}
        times |= {op.return_ns for op in operations if op.return_ns != INFINITY_NS}
        self._columns = {time_ns: column for column, time_ns in enumerate(sorted(times))}
        count = len(self._columns) + 2
        self.step = min(_STEP_MAX, max(_STEP_MIN, (_WIDTH - _LEFT) // count))
        self.width = _LEFT + count * self.step
        self.start_ns = min(times)

    def x(self, time_ns: int) -> int:
        column = len(self._columns) if time_ns == INFINITY_NS else self._columns[time_ns]
        return _LEFT + column * self.step


def _drawing(operations: Sequence[Operation], explanation: Explanation, numbers: Mapping[int, int]) -> str:
    """One SVG; numbers: operation id -> place in the order found."""
    scale = _Scale(operations)
    lanes = _lanes(operations)
    width, height = scale.width, _TOP + len(lanes) * _LANE + 8
    parts = [f"<svg width='{width}' height='{height}' viewBox='0 0 {width} {height}' role='img'>"]
    for process, lane in lanes.items():
        y = _TOP + lane * _LANE
        parts.append(f"<rect class='lane' x='0' y='{y}' width='{width}' height='{_LANE - 4}'/>")
        parts.append(f"<text class='name' x='8' y='{y + 20}'>process {process}</text>")
    core = {operation.id for operation in explanation.core}
    for operation in operations:
        y = _TOP + lanes[operation.process] * _LANE + 5
        role = "stuck" if operation.id in explanation.unplaceable else "core" if operation.id in core else ""
        parts.append(_bar(operation, scale, y, role))
    parts += _dots(operations, scale, lanes, numbers)
    parts.append("</svg>")
    return f"<div class='frame'>{''.join(parts)}</div>"


def _lanes(operations: Sequence[Operation]) -> dict[int, int]:
    lanes: dict[int, int] = {}
    for operation in sorted(operations, key=lambda op: op.process):
        lanes.setdefault(operation.process, len(lanes))
    return lanes


def _bar(operation: Operation, scale: _Scale, y: int, role: str) -> str:
    x = scale.x(operation.invoke_ns)
    width = max(scale.x(operation.return_ns) - x, scale.step) - 3
    hover = (
        f"{operation}\ncalled {_time(operation.invoke_ns, scale.start_ns)}, "
        f"returned {_time(operation.return_ns, scale.start_ns)}"
        + (f"\n{operation.detail}" if operation.detail else "")
    )
    label = f"{_call(operation)} {_reply(operation)}"
    room = int((width - 8) / _PIXELS_PER_CHAR)
    if len(label) > room:
        label = label[: room - 1] + "…" if room > 1 else ""
    kind = "ok" if operation.is_ok else "unknown"
    return (
        f"<g class='op'><title>{html.escape(hover)}</title>"
        f"<rect class='bar {kind} {role}' x='{x}' y='{y}' width='{width}' height='{_BAR}' rx='4'/>"
        f"<text x='{x + 5}' y='{y + 14}'>{html.escape(label)}</text></g>"
    )


def _dots(
    operations: Sequence[Operation],
    scale: _Scale,
    lanes: Mapping[int, int],
    numbers: Mapping[int, int],
) -> list[str]:
    """A numbered dot for each operation of the order, never left of the one before, and a line through."""
    placed = sorted((op for op in operations if op.id in numbers), key=lambda op: numbers[op.id])
    parts, line = [], []
    x = 0.0
    for operation in placed:
        x = max(x + 1.0, scale.x(operation.invoke_ns) + 4.0)
        y = _TOP + lanes[operation.process] * _LANE + 5 + _BAR
        line.append(f"{x:.1f},{y}")
        parts.append(
            f"<circle class='dot' cx='{x:.1f}' cy='{y}' r='7'/>"
            f"<text class='num' x='{x:.1f}' y='{y + 3}'>{numbers[operation.id]}</text>"
        )
    return [f"<polyline class='order' points='{' '.join(line)}'/>", *parts] if line else []
