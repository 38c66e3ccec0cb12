"""`replcache top`: what the nodes do now, like top(1): a live view on a terminal, one table elsewhere.

Each node is asked for its status every interval, all at the same time; rates are the differences of its
counters between two looks. Hot keys are the nodes' own estimates since they started.
"""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from replcache.cli.connection import Connection, connected, duration_option
from replcache.cli.exits import Exit
from replcache.cli.nodes import NodeView, agreed_leader, problem_of, view_of
from replcache.cli.output import print_json, printable
from replcache.cli.units import short_count, short_duration, short_latency, short_size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from replcache.server.status.rates import Rates
    from replcache.server.status.report import Report

PANEL = "Operation"
LOOK_TIMEOUT_S = 2.0
INTERVAL_MIN_S = 0.2
COLUMNS = (
    "node", "role", "term", "applied", "lag", "read/s", "write/s", "hit rate",
    "read p99", "write p99", "failed/s", "keys", "data", "streams", "up for",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(connected(top))


def top(
    connection: Connection,
    interval: Annotated[Any, duration_option("--interval", "-i", help="Between two looks.")] = "1s",
    keys: Annotated[int, typer.Option("--keys", "-k", min=0, max=100, help="Hot keys to show.")] = 10,
    once: Annotated[bool, typer.Option("--once", help="Print once, also on a terminal.")] = False,
) -> None:
    """Show nodes, rates, hit rate and the hottest keys, live; Ctrl-C ends it. Without a terminal: once.

    Exit 3 when no node answers.
    """
    interval = max(interval, INTERVAL_MIN_S)
    with Watch(connection, keys) as watch:
        watch.look()
        if once or connection.as_json or not sys.stdout.isatty():
            time.sleep(interval)
            watch.look()
            _print_once(watch, connection.as_json)
            if not watch.is_anybody_up:
                raise typer.Exit(int(Exit.UNAVAILABLE))
            return
        _live(watch, interval)


@dataclass(frozen=True, slots=True)
class Look:
    """What all nodes said at one time."""

    at: float
    views: Sequence[NodeView]
    reports: Mapping[str, "Report"]
    hot_reads: Mapping[bytes, int] = field(default_factory=dict)
    hot_writes: Mapping[bytes, int] = field(default_factory=dict)


class Watch:
    """Open channels to all nodes, and the last two looks."""

    def __init__(self, connection: Connection, hot_keys: int) -> None:
        self._connection = connection
        self._hot_keys = hot_keys
        self._stack = contextlib.ExitStack()
        self._before: Look | None = None
        self._now: Look | None = None

    def __enter__(self) -> "Watch":
        connection = self._connection
        self._channels = [
            (endpoint, self._stack.enter_context(connection.calls(endpoint)))
            for endpoint in connection.endpoints
        ]
        self._pool = self._stack.enter_context(ThreadPoolExecutor(len(self._channels)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def look(self) -> None:
        """Asks all nodes; one that does not answer costs LOOK_TIMEOUT_S."""
        from replcache.server.status.report import Report

        answers = list(self._pool.map(lambda one: _ask(one[0], one[1], self._hot_keys), self._channels))
        reports = {}
        reads: dict[bytes, int] = {}
        writes: dict[bytes, int] = {}
        for view, status, statistics in answers:
            if status is None:
                continue
            figures = status.figures
            reports[view.name] = Report(
                node=view.name,
                uptime_s=view.uptime_s,
                streams=figures.streams,
                reads=figures.reads,
                writes=figures.writes,
                keys_read=figures.keys_read,
                keys_written=figures.keys_written,
                hits=figures.hits,
                misses=figures.misses,
                unavailable=figures.unavailable,
                read_buckets=list(figures.read_latencies),
                write_buckets=list(figures.write_latencies),
            )
            for target, found in ((reads, "most_read"), (writes, "most_written")):
                for hot in getattr(statistics, found, ()):
                    target[hot.key] = target.get(hot.key, 0) + hot.count
        self._before, self._now = (
            self._now,
            Look(time.monotonic(), [one[0] for one in answers], reports, reads, writes),
        )

    @property
    def now(self) -> Look:
        assert self._now is not None
        return self._now

    @property
    def is_anybody_up(self) -> bool:
        return bool(self.now.reports)

    def rates(self, *names: str) -> "Rates":
        """Of these nodes together; of all when none is named."""
        from replcache.server.status.rates import Rates, rates_between

        if self._before is None:
            return Rates()
        reports = {n: r for n, r in self.now.reports.items() if not names or n in names}
        return rates_between(self._before.reports, reports, self.now.at - self._before.at)

    def hottest(self, counts: Mapping[bytes, int]) -> list[tuple[bytes, int]]:
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: self._hot_keys]


def _ask(endpoint: str, channel: Any, hot_keys: int) -> tuple[NodeView, Any, Any]:
    """(view, status, key statistics); the latter two None when there is no answer."""
    import grpc

    from replcache.pb.v1 import cluster_pb2, cluster_pb2_grpc, keyspace_pb2, keyspace_pb2_grpc

    try:
        status = cluster_pb2_grpc.ClusterStub(channel).Status(  # type: ignore[no-untyped-call]  # generated
            cluster_pb2.StatusRequest(), timeout=LOOK_TIMEOUT_S
        )
    except grpc.RpcError as error:
        return NodeView(endpoint, problem=problem_of(error)), None, None
    statistics = None
    if hot_keys:
        # Somebody may look at the nodes without a right to the names of keys.
        with contextlib.suppress(grpc.RpcError):
            statistics = keyspace_pb2_grpc.KeyspaceStub(channel).Statistics(  # type: ignore[no-untyped-call]
                keyspace_pb2.StatisticsRequest(hot_keys=hot_keys), timeout=LOOK_TIMEOUT_S
            )
    return view_of(endpoint, status), status, statistics


def _live(watch: Watch, interval: float) -> None:
    from rich.live import Live

    with (
        Live(_picture(watch), screen=True, auto_refresh=False) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            time.sleep(interval)
            watch.look()
            live.update(_picture(watch), refresh=True)


def _print_once(watch: Watch, as_json: bool) -> None:
    from rich.console import Console

    if as_json:
        print_json(_fields(watch))
        return
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(_picture(watch))


def _picture(watch: Watch) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    leader = agreed_leader(watch.now.views)
    up = len(watch.now.reports)
    rates = watch.rates()
    head = Text.assemble(
        ("replcache ", "bold"),
        (f"leader {leader}" if leader else "no leader", "bold green" if leader else "bold red"),
        f"   {up} of {len(watch.now.views)} nodes   {short_count(rates.reads)} read/s"
        f"   {short_count(rates.writes)} written/s   hit rate {_percent(rates.hit_rate)}"
        f"   p99 {short_latency(rates.read_p99)} read, {short_latency(rates.write_p99)} write",
    )
    nodes = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(COLUMNS):
        nodes.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    for cells in _rows(watch):
        nodes.add_row(*cells)
    parts: list[RenderableType] = [head, Text(), nodes]
    hot = list(_hot_rows(watch))
    if hot:
        keys = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name, justify in (
            ("most read", "left"),
            ("reads", "right"),
            ("most written", "left"),
            ("writes", "right"),
        ):
            keys.add_column(name, justify=justify)  # type: ignore[arg-type]
        for row in hot:
            keys.add_row(*(Text(cell) for cell in row))
        parts += [Text(), keys]
    return Group(*parts)


def _rows(watch: Watch) -> "Iterator[list[Any]]":
    from rich.text import Text

    newest = max((view.commit_index for view in watch.now.views if view.is_up), default=0)
    for view in watch.now.views:
        if not view.is_up:
            yield [Text(view.endpoint, "dim"), Text(view.problem, "red"), *[""] * (len(COLUMNS) - 2)]
            continue
        rates = watch.rates(view.name)
        yield [
            Text(view.name, "bold"),
            Text(view.role, "green" if view.role == "leader" else ""),
            str(view.term),
            str(view.applied_index),
            str(max(0, newest - view.applied_index)),
            short_count(rates.reads),
            short_count(rates.writes),
            _percent(rates.hit_rate),
            short_latency(rates.read_p99),
            short_latency(rates.write_p99),
            Text(short_count(rates.unavailable), "red" if rates.unavailable else ""),
            str(view.keys),
            short_size(view.value_bytes),
            str(watch.now.reports[view.name].streams),
            short_duration(view.uptime_s),
        ]


def _hot_rows(watch: Watch) -> Iterator[tuple[str, str, str, str]]:
    reads, writes = watch.hottest(watch.now.hot_reads), watch.hottest(watch.now.hot_writes)
    for number in range(max(len(reads), len(writes))):
        yield (*_hot_cells(reads, number), *_hot_cells(writes, number))


def _hot_cells(found: Sequence[tuple[bytes, int]], number: int) -> tuple[str, str]:
    if number >= len(found):
        return "", ""
    key, count = found[number]
    return printable(key, 48), short_count(count)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.1f} %"


def _fields(watch: Watch) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "leader": agreed_leader(watch.now.views),
        "rates": asdict(watch.rates()),
        "nodes": [
            {"node": view.name, "role": view.role, "applied_index": view.applied_index, "keys": view.keys}
            | asdict(watch.rates(view.name))
            if view.is_up
            else {"address": view.endpoint, "problem": view.problem}
            for view in watch.now.views
        ],
        "most_read": [[printable(key, 200), count] for key, count in watch.hottest(watch.now.hot_reads)],
        "most_written": [[printable(key, 200), count] for key, count in watch.hottest(watch.now.hot_writes)],
    }
