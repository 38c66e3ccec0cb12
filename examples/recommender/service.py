"""The recommender itself: what a web server would call, without and with the cache before the database."""

import asyncio
import json
import random
from contextvars import ContextVar
from typing import Any, Protocol

from examples.recommender.catalogue import Movie
from examples.recommender.database import Database
from replcache import AsyncClient
from replcache.errors import StalenessUnavailable
from replcache.patterns.sql import SqlTable

# No profile and no list that is served is older than this; within it any node answers from its own memory.
STALENESS_BOUND_S = 0.1
TTL = "10m"
LIST_LENGTH = 10
# Whether the call under way had to ask the database.
asked_database: ContextVar[dict[str, bool]] = ContextVar("asked_database")

TABLES = (
    "CREATE TABLE movies (id TEXT PRIMARY KEY, title TEXT, genre TEXT, director TEXT, quality REAL)",
    "CREATE TABLE profiles (id TEXT PRIMARY KEY, profile TEXT)",
    "CREATE TABLE views (person TEXT, movie TEXT, PRIMARY KEY (person, movie))",
    "CREATE INDEX views_of_movie ON views (movie, person)",
)
# What the fifty people with the most movies in common have seen, and this person has not.
RECOMMEND = """
WITH mine AS (SELECT movie FROM views WHERE person = ?),
     alike AS (SELECT v.person, COUNT(*) AS common FROM mine JOIN views v ON v.movie = mine.movie
               WHERE v.person <> ? GROUP BY v.person ORDER BY common DESC, v.person LIMIT 50)
SELECT m.id, m.title, SUM(alike.common) * m.quality AS score
FROM alike JOIN views v ON v.person = alike.person JOIN movies m ON m.id = v.movie
WHERE v.movie NOT IN (SELECT movie FROM mine)
GROUP BY m.id, m.title, m.quality ORDER BY score DESC, m.id LIMIT ?
"""


class Service(Protocol):
    async def profile(self, person: str) -> Any: ...

    async def recommended(self, person: str) -> Any: ...


class FromDatabase:
    """The same two answers without a cache."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.profiles = SqlTable(
            database.connect, "profiles", key="id", value="profile", placeholder=database.placeholder
        )

    def fill(self, movies: list[Movie], people: int, rng: random.Random) -> None:
        """Makes the tables; everybody has seen some movies, the well-known ones more often."""
        for statement in TABLES:
            self.database.change(statement)
        self.profiles.create_marks()
        self.database.change("INSERT INTO movies VALUES (?, ?, ?, ?, ?)", movies)
        weights = [1 / (place + 10) for place in range(len(movies))]
        views, profiles = [], []
        for person in range(people):
            seen = {movie.id for movie in rng.choices(movies, weights, k=rng.randrange(5, 40))}
            views += [(str(person), movie) for movie in seen]
            profiles.append((str(person), json.dumps({"name": f"Person {person}", "watched": len(seen)})))
        self.database.change("INSERT INTO views VALUES (?, ?)", views)
        self.database.change("INSERT INTO profiles VALUES (?, ?)", profiles)
        self.database.change("ANALYZE")

    async def profile(self, person: str) -> Any:
        return await asyncio.to_thread(self.load_profile, person)

    async def recommended(self, person: str) -> Any:
        return await asyncio.to_thread(self.load_recommended, person)

    def load_profile(self, person: str) -> Any:
        asked_database.get({})["yes"] = True
        return self.profiles.load(person)

    def load_recommended(self, person: str) -> list[dict[str, str]]:
        asked_database.get({})["yes"] = True
        rows = self.database.query(RECOMMEND, (person, person, LIST_LENGTH))
        return [{"id": movie, "title": title} for movie, title, _ in rows]


class WithCache:
    """Profiles are written through the cache; lists are a cached function; counters are in the cache only."""

    def __init__(self, cache: AsyncClient, database: FromDatabase) -> None:
        self.cache, self.database = cache, database
        self.profiles = cache.through(
            loader=database.load_profile,
            writer=database.profiles.write,
            mode="write_through",
            prefix="profile:",
            ttl=TTL,
            max_staleness=STALENESS_BOUND_S,
        )
        self.lists = cache.cached(
            ttl=TTL,
            key="recommended:{person}",
            jitter=0.1,
            single_flight="process",
            max_staleness=STALENESS_BOUND_S,
        )(database.recommended)

    async def warm_profiles(self) -> int:
        """Puts all profiles into the cache before anybody asks; the lists come as they are needed."""
        done = await self.cache.prewarm(self.database.profiles.rows(), prefix="profile:", ttl=TTL)
        return int(done.stored)

    async def warm_lists(self, people: int) -> int:
        """Computes everybody's list before it is needed, as a nightly job would."""
        done = await self.cache.prewarm(
            self.database.load_recommended, map(str, range(people)), prefix="recommended:", ttl=TTL
        )
        return int(done.stored)

    async def profile(self, person: str) -> Any:
        try:
            return await self.profiles.get(person)
        except StalenessUnavailable:
            # No node can show now that it is fresh enough, as when the leader has just died.
            return await self.database.profile(person)

    async def recommended(self, person: str) -> Any:
        try:
            return await self.lists(person)
        except StalenessUnavailable:
            return await self.database.recommended(person)

    async def watch(self, person: str, movie: str) -> int:
        """Somebody watches a movie: history, profile, counters, and the old list is wrong. Returns how many
        this person has watched."""
        insert = "INSERT INTO views VALUES (?, ?) ON CONFLICT DO NOTHING"
        await asyncio.to_thread(self.database.database.change, insert, [(person, movie)])
        profile = await asyncio.to_thread(self.database.profiles.load, person)
        profile["watched"] += 1
        await self.profiles.set(person, profile)
        await self.lists.invalidate(person)
        async with self.cache.batch() as counters:
            counters.incr(f"watched:movie:{movie}")
            counters.incr("watched:all")
        return int(profile["watched"])
