"""A database for tests of the patterns: rows in memory that may be slow, refuse, or die after the commit."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from replcache.patterns.source import DELETED, Row
from tests.helpers.virtual_loop import VirtualClock


class DatabaseError(Exception):
    """Raised by the database; nothing was committed, unless `fail_after_commit`."""


class VirtualDatabase:
    """Commits take random virtual time. Marks as patterns/sql.py keeps them, unless `marks` is False.

    Attributes:
        journal: every row that took effect, in order: exactly once means no (key, revision) twice.
        calls: rows of each call of the writer, also of those that failed.
    """

    def __init__(
        self, clock: VirtualClock, rng: random.Random, delay_s: float = 0.02, marks: bool = True
    ) -> None:
        self.rows: dict[str, Any] = {}
        self.journal: list[Row] = []
        self.calls: list[list[Row]] = []
        self.loads = 0
        self.fail = 0.0
        self.fail_after_commit = 0.0
        self.is_down = False
        self.marks = marks
        self.applied: dict[str, int] = {}
        self._clock = clock
        self._rng = rng
        self.delay_s = delay_s

    async def _pause(self) -> None:
        await self._clock.sleep(self._rng.random() * self.delay_s)

    async def load(self, key: str) -> Any:
        self.loads += 1
        await self._pause()
        value = self.rows.get(key)
        await self._pause()
        return value

    async def write(self, rows: Sequence[Row]) -> None:
        self.calls.append(list(rows))
        await self._pause()
        if self.is_down or self._rng.random() < self.fail:
            raise DatabaseError("the database refuses")
        self.commit(rows)
        await asyncio.sleep(0)
        await self._pause()
        if self._rng.random() < self.fail_after_commit:
            raise DatabaseError("the connection broke after the commit")

    def commit(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if self.marks and row.revision <= self.applied.get(row.key, 0):
                continue
            self.applied[row.key] = row.revision
            self.journal.append(row)
            if row.value is DELETED:
                self.rows.pop(row.key, None)
            else:
                self.rows[row.key] = row.value
