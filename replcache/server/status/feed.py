"""The status feed: one look at the cluster a second for all viewers together, and none while nobody looks.

A look asks every peer's server for its report over the peer link, adds what the replicated state says (locks,
namespaces), and is made into one JSON text that every viewer gets. A viewer that is slow misses looks, and
never holds up another one.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Any

from replcache.clock import Clock
from replcache.errors import Overloaded
from replcache.raft.port import NodeStatus, RaftPort
from replcache.server.status.rates import Rates, rates_between
from replcache.server.status.report import QUESTION, Report, Reporter, Rows, show
from replcache.statemachine.lock_state import LockGlance, PlaceView

INTERVAL_S = 1.0
# How often it is looked whether the leader changed: then viewers are told at once.
POLL_S = 0.2
ANSWERS_WITHIN_S = 0.4
VIEWERS_MAX = 32
SAMPLES_KEPT = 300
LOCKS_SHOWN = 20
PLACES_SHOWN = 5
EVENTS_SHOWN = 60
HOT_KEYS_SHOWN = 20
# A connected peer is "silent" after so many looks without an answer: one may just have come late.
SILENT_AFTER = 2


class Feed:
    """run() is a background task; close() ends all viewers."""

    def __init__(self, port: RaftPort, reporter: Reporter, clock: Clock, cluster_name: str) -> None:
        self._port = port
        self._reporter = reporter
        self._clock = clock
        self._cluster_name = cluster_name
        self._viewers = 0
        self._looking = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        # Set while nothing is collected, because nobody looks.
        self.idle = asyncio.Event()
        self._closed = False
        self._state: dict[str, Any] | None = None
        self._frame = b""
        self._frame_number = 0
        self._samples: deque[dict[str, Any]] = deque(maxlen=SAMPLES_KEPT)
        self._reports: dict[str, Report] = {}
        # Looks without an answer, by node.
        self._missed: dict[str, int] = {}
        self._looked_at: float | None = None
        self._started_at = clock.now()

    @property
    def viewers(self) -> int:
        return self._viewers

    def close(self) -> None:
        self._closed = True
        self._news.set()

    async def run(self) -> None:
        """Looks while somebody wants to know."""
        while True:
            if not self._wanted.is_set():
                self.idle.set()
            await self._wanted.wait()
            self.idle.clear()
            status = self._port.status()
            await self._look()
            end = self._clock.now() + INTERVAL_S
            for _ in range(round(INTERVAL_S / POLL_S)):
                await asyncio.sleep(min(POLL_S, max(0.0, end - self._clock.now())))
                if _situation(self._port.status()) != _situation(status):
                    break

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """JSON texts: first the past as {"kind": "history"}, then each new state.

        Raises:
            Overloaded: too many viewers.
        """
        if self._viewers >= VIEWERS_MAX:
            raise Overloaded(f"{VIEWERS_MAX} people look at this node already", retry_after_s=5.0)
        self._viewers += 1
        self._wanted.set()
        try:
            seen = self._frame_number
            yield _encode({"kind": "history", "samples": list(self._samples)})
            while not self._closed:
                if self._frame_number == seen:
                    await self._news.wait()
                    continue
                seen = self._frame_number
                yield self._frame
        finally:
            self._viewers -= 1
            if self._viewers == 0:
                self._wanted.clear()

    async def snapshot(self) -> dict[str, Any]:
        """One state, at most POLL_S old; for those who do not want a stream."""
        if self._looked_at is None or self._clock.now() - self._looked_at > POLL_S:
            await self._look()
        assert self._state is not None
        return self._state

    # --- one look ---

    async def _look(self) -> None:
        async with self._looking:
            await self._look_alone()

    async def _look_alone(self) -> None:
        before, before_at = self._reports, self._looked_at
        answers = await self._port.ask(QUESTION, b"", self._clock.now() + ANSWERS_WITHIN_S)
        now = self._clock.now()
        mine = self._reporter.report()
        reports = {mine.node: mine}
        for name, answer in answers.items():
            report = Report.decode(answer)
            if report is not None and report.node == name:
                reports[name] = report
        rates = Rates()
        if before_at is not None and now - before_at < 5 * INTERVAL_S:
            answered = {name: before[name] for name in before if not self._missed.get(name)}
            rates = rates_between(answered, reports, now - before_at)
        for name in before:
            self._missed[name] = 0 if name in reports else self._missed.get(name, 0) + 1
        self._reports = {**before, **reports}
        self._looked_at = now
        status = self._port.status()
        sample = {"t": round(now - self._started_at, 2), "leader": status.leader, "term": status.term}
        sample.update(_rounded(rates))
        self._samples.append(sample)
        self._state = self._describe(status, mine, sample)
        self._frame = _encode(self._state)
        self._frame_number += 1
        news, self._news = self._news, asyncio.Event()
        news.set()
        if self._closed:
            self._news.set()

    def _describe(self, status: NodeStatus, mine: Report, sample: dict[str, Any]) -> dict[str, Any]:
        machine = self._port.machine
        members = self._members(status)
        present = [self._reports[row["name"]] for row in members if row["state"] == "up"]
        numbers = machine.statistics()
        return {
            "kind": "state",
            "node": status.node,
            "cluster": self._cluster_name,
            "version": mine.version,
            "shows_keys": self._reporter.shows_keys,
            "leader": status.leader,
            "term": status.term,
            "has_quorum": status.has_quorum,
            "sample": sample,
            "members": members,
            "totals": {
                "keys": numbers.keys,
                "bytes": numbers.value_bytes,
                "locks": numbers.locks,
                "sessions": numbers.sessions,
                "revision": machine.revision,
                "leader_changes": max((r.leader_changes for r in present), default=0),
                "watches": sum(r.watch_count for r in present),
                "streams": sum(r.streams for r in present),
                "lock_waits": sum(r.lock_waits for r in present),
            },
            "hot_reads": _merged_keys([r.hot_reads for r in present]),
            "hot_writes": _merged_keys([r.hot_writes for r in present]),
            "namespaces": self._namespaces(present),
            "locks": [self._lock(one) for one in machine.glance_at_locks(LOCKS_SHOWN, PLACES_SHOWN)],
            "check": min((row for r in present for row in r.checks), key=lambda row: row[1], default=None),
            "watches": [[r.node, *row] for r in present for row in r.watches],
            "events": _merged_events(present),
        }

    def _members(self, status: NodeStatus) -> list[dict[str, Any]]:
        connected = {peer.name for peer in status.peers if peer.connected} | {status.node}
        rows = []
        leader = self._reports.get(status.leader)
        # The reports are not of one instant: without a leader the furthest one has to do.
        reports = [leader] if leader is not None else list(self._reports.values())
        newest = max(report.commit_index for report in reports)
        for member in status.members:
            report = self._reports.get(member.name)
            state = "up"
            if member.name not in connected:
                state = "unreachable"
            elif report is None or self._missed.get(member.name, 0) >= SILENT_AFTER:
                state = "silent"
            known = report or Report()
            rows.append(
                {
                    "name": member.name,
                    "address": member.client_address,
                    "voter": member.voter,
                    "state": state,
                    "role": known.role if state == "up" else "",
                    "term": known.term,
                    "applied": known.applied_index,
                    "commit": known.commit_index,
                    "lag": max(0, newest - known.applied_index) if report is not None else None,
                    "snapshot": known.snapshot_index,
                    "serving": known.serving and state == "up",
                    "halted": known.halted,
                    "version": known.version,
                    "uptime_s": known.uptime_s,
                    "streams": known.streams,
                    "page": known.http_address,
                }
            )
        return rows

    def _namespaces(self, present: list[Report]) -> list[dict[str, Any]]:
        counted: dict[str, list[int]] = {}
        for report in present:
            for name, *numbers in report.spaces:
                row = counted.setdefault(name, [0] * 5)
                for index, number in enumerate(numbers[:5]):
                    row[index] += number
        found = []
        shows = self._reporter.shows_keys
        for space in self._port.machine.describe_namespaces():
            found.append(
                {
                    "name": space.name,
                    "prefix": show(space.prefix) if shows else "",
                    "policy": space.policy.name.lower(),
                    "bytes": space.used_bytes,
                    "max_bytes": space.max_bytes,
                    "keys": space.keys,
                    "complete": space.complete,
                    "counts": counted.pop(space.name, None),
                }
            )
        for name, counts in sorted(counted.items()):
            found.append({"name": name, "counts": counts})
        return found

    def _lock(self, lock: LockGlance) -> dict[str, Any]:
        return {
            "name": self._hidden(lock.name),
            "permits": lock.permits,
            "holders": lock.holders,
            "waiters": lock.waiters,
            "first_holders": [self._place(one) for one in lock.first_holders],
            "first_waiters": [self._place(one) for one in lock.first_waiters],
        }

    def _place(self, place: PlaceView) -> dict[str, Any]:
        return {
            "owner": self._hidden(place.owner),
            "note": self._hidden(place.note) if place.note else "",
            "token": place.token,
            "left_ms": place.expires_in_ms,
            "shared": place.shared,
        }

    def _hidden(self, name: bytes | str) -> str:
        return show(name) if self._reporter.shows_keys else "(hidden)"


def _situation(status: NodeStatus) -> tuple[object, ...]:
    return status.leader, status.term, status.role, status.has_quorum, status.members


def _merged_keys(tables: list[Rows]) -> Rows:
    """Sums of the nodes' estimates; each reads and writes for other clients."""
    counts: dict[str, int] = {}
    errors: dict[str, int] = {}
    for table in tables:
        for key, count, error in table:
            counts[key] = counts.get(key, 0) + count
            errors[key] = errors.get(key, 0) + error
    hottest = sorted(counts, key=lambda key: (-counts[key], key))[:HOT_KEYS_SHOWN]
    return [[key, counts[key], errors[key]] for key in hottest]


def _merged_events(present: list[Report]) -> Rows:
    """[time, node, level, event, text, number], newest first."""
    rows = [
        [at, report.node, level, event, text, number]
        for report in present
        for number, at, level, event, text in report.events
    ]
    rows.sort(key=lambda row: (row[0], row[5]), reverse=True)
    return rows[:EVENTS_SHOWN]


def _rounded(rates: Rates) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 6) for name, value in asdict(rates).items()}


def _encode(state: dict[str, Any]) -> bytes:
    return json.dumps(state, separators=(",", ":")).encode()
