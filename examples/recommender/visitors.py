"""Simulated people: few come often, most come rarely (Zipf), and what they meet is recorded."""

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from examples.recommender.catalogue import Movie
from examples.recommender.service import STALENESS_BOUND_S, Service, WithCache, asked_database
from replcache.errors import ReplcacheError

VISITORS = 8
# Between two visits of a visitor, on average.
PAUSE_S = 0.004
# Of the visits, so many end with a movie.
WATCH_SHARE = 0.01


class Read(NamedTuple):
    """One answer: when it came (seconds since the start), how long it took, whether the cache had it."""

    at: float
    kind: str
    seconds: float
    is_hit: bool


@dataclass
class Record:
    """What happened in a phase."""

    began: float = field(default_factory=time.monotonic)
    reads: list[Read] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    watches: int = 0
    too_old: int = 0
    profile_reads: int = 0

    def now(self) -> float:
        return time.monotonic() - self.began


class Zipf:
    """Draws 0..n-1; the i-th with a probability in proportion to 1 / (i + 1) ** exponent."""

    def __init__(self, n: int, exponent: float, rng: random.Random) -> None:
        self._all = range(n)
        self._sums = list(itertools.accumulate(1 / (i + 1) ** exponent for i in range(n)))
        self._rng = rng

    def draw(self) -> int:
        return self._rng.choices(self._all, cum_weights=self._sums)[0]


class Crowd:
    """Visitors of a service; each reads a profile and a list, and sometimes watches a movie."""

    def __init__(self, people: int, exponent: float, movies: list[Movie], rng: random.Random) -> None:
        self._people = Zipf(people, exponent, rng)
        self._movies = Zipf(len(movies), 1.0, rng)
        self._catalogue = movies
        self._rng = rng
        # person -> (when it was acknowledged, watched), oldest first: what reads may not be older than
        self._watched: dict[str, list[tuple[float, int]]] = defaultdict(list)
        # One person watches one movie at a time.
        self._busy: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def visit_for(self, service: Service, seconds: float) -> Record:
        record = Record()
        async with asyncio.TaskGroup() as group:
            for _ in range(VISITORS):
                group.create_task(self._visitor(service, record, seconds))
        return record

    async def _visitor(self, service: Service, record: Record, seconds: float) -> None:
        while record.now() < seconds:
            person = str(self._people.draw())
            try:
                await self._visit(service, record, person)
            except ReplcacheError as error:
                record.errors[error.reason] += 1
            await asyncio.sleep(self._rng.expovariate(1 / PAUSE_S))

    async def _visit(self, service: Service, record: Record, person: str) -> None:
        begin = time.monotonic()
        profile = await self._read(record, "profile", service.profile(person))
        record.profile_reads += 1
        for at, watched in reversed(self._watched[person]):
            if at <= begin - STALENESS_BOUND_S:
                record.too_old += profile["watched"] < watched
                break
        await self._read(record, "recommended", service.recommended(person))
        if isinstance(service, WithCache) and self._rng.random() < WATCH_SHARE:
            movie = self._catalogue[self._movies.draw()].id
            async with self._busy[person]:
                watched = await service.watch(person, movie)
                self._watched[person].append((time.monotonic(), watched))
            record.watches += 1

    async def _read(self, record: Record, kind: str, answer: Awaitable[Any]) -> Any:
        asked: dict[str, bool] = {}
        asked_database.set(asked)
        begin = time.monotonic()
        value = await answer
        record.reads.append(Read(record.now(), kind, time.monotonic() - begin, not asked))
        return value
