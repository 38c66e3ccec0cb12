"""A recommender on the movie catalogue of vega-datasets: what a cache in front of a database is worth.

People whose habits follow Zipf's law read their profiles and their lists of recommended movies, first from
the database alone, then through a cluster of three nodes, whose leader is killed with SIGKILL meanwhile.
Some of them watch a movie: that changes the profile, makes the list outdated and is counted.

    python -m examples.recommender
    python -m examples.recommender --users 10000 --seconds 60 --database postgresql

Exit code 1 when a profile was older than the bound, or a counter is wrong. 2: something is missing here.
"""

import argparse
import asyncio
import importlib.util
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from examples.recommender import catalogue, report
from examples.recommender.database import DATABASES, Database, NoDatabase
from examples.recommender.service import STALENESS_BOUND_S, FromDatabase, WithCache
from examples.recommender.visitors import Crowd, Record
from replcache.testing import Cluster

# Of the time: the database alone before it; then the leader dies, and comes back.
ALONE_SHARE = 0.2
KILL_AT_SHARE = 0.5
BACK_AT_SHARE = 0.7
CALL_TIMEOUT_S = 30.0
console = Console(soft_wrap=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=2000, help="people in the database (default: 2000)")
    parser.add_argument("--seconds", type=float, default=24.0, help="with the cache (default: 24)")
    parser.add_argument("--zipf", type=float, default=1.1, help="exponent of the habits (default: 1.1)")
    parser.add_argument(
        "--warm-lists", action="store_true", help="compute all lists before, like a nightly job"
    )
    parser.add_argument("--database", choices=sorted(DATABASES), default="sqlite")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="catalogue, picture and figures")
    parser.add_argument("--catalogue", type=Path, help="another file like movies.json")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    return parser.parse_args(arguments)


async def break_and_mend(cluster: Cluster, seconds: float, events: list[tuple[float, str]]) -> None:
    """Kills the leader in the middle and starts it again later; notes when."""
    begin = time.monotonic()
    await asyncio.sleep(KILL_AT_SHARE * seconds)
    leader = await asyncio.to_thread(cluster.leader)
    events.append((time.monotonic() - begin, f"leader {leader} killed"))
    await asyncio.to_thread(cluster.kill, leader)
    await asyncio.sleep((BACK_AT_SHARE - KILL_AT_SHARE) * seconds)
    events.append((time.monotonic() - begin, f"{leader} started again"))
    await asyncio.to_thread(cluster.restart, leader)


async def prewarm(service: WithCache, options: argparse.Namespace) -> None:
    begin = time.monotonic()
    warmed = await service.warm_profiles()
    console.print(f"prewarmed: {warmed:,} profiles in {time.monotonic() - begin:.1f} s")
    if options.warm_lists:
        begin = time.monotonic()
        warmed = await service.warm_lists(options.users)
        console.print(f"prewarmed: {warmed:,} lists in {time.monotonic() - begin:.1f} s")


async def measure(
    options: argparse.Namespace, movies: list[catalogue.Movie], database: Database
) -> tuple[Record, Record, int, list[tuple[float, str]]]:
    rng = random.Random(options.seed)
    behind = FromDatabase(database)
    console.print(f"{database.title}: {len(movies):,} movies, {options.users:,} people")
    await asyncio.to_thread(behind.fill, movies, options.users, rng)
    crowd = Crowd(options.users, options.zipf, movies, rng)
    console.print(f"the database alone, for {ALONE_SHARE * options.seconds:.0f} s")
    alone = await crowd.visit_for(behind, ALONE_SHARE * options.seconds)
    events: list[tuple[float, str]] = []
    cluster = Cluster(3, rng=rng)
    try:
        await asyncio.to_thread(cluster.start)
        async with cluster.async_client(timeout=CALL_TIMEOUT_S) as cache, asyncio.TaskGroup() as group:
            service = WithCache(cache, behind)
            await prewarm(service, options)
            console.print(f"with a cluster of three nodes before it, for {options.seconds:.0f} s")
            group.create_task(break_and_mend(cluster, options.seconds, events))
            cached = await crowd.visit_for(service, options.seconds)
            counter = await cache.get("watched:all")
    finally:
        await asyncio.to_thread(cluster.stop)
    return alone, cached, int(counter.value) if counter else 0, events


def run(options: argparse.Namespace) -> int:
    console.print(f"seed {options.seed}")
    movies = catalogue.load(options.folder, options.catalogue)
    with tempfile.TemporaryDirectory(prefix="replcache-demo-") as folder:
        with DATABASES[options.database](Path(folder)) as database:
            alone, cached, counted, events = asyncio.run(measure(options, movies, database))
            title = f"{database.title}, {options.users:,} people, 3 nodes"
    found = report.figures(alone, cached, counted)
    report.show(console, found, events, STALENESS_BOUND_S)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib"):
        picture = options.folder / f"recommender-{options.database}.png"
        report.draw(picture, title, alone, cached, events)
        console.print(f"picture: {picture}")
    else:
        console.print("no picture: matplotlib is missing (pip install 'replcache[demo]')")
    # A counter whose outcome was unknown, or that was not reached, may differ by the failed calls.
    is_counted = 0 <= found["counted"] - found["watches"] <= sum(found["errors"].values())
    return 0 if is_counted and not found["too_old"] else 1


if __name__ == "__main__":
    try:
        sys.exit(run(parse(sys.argv[1:])))
    except (catalogue.NoCatalogue, NoDatabase) as missing:
        print(missing, file=sys.stderr)
        sys.exit(2)
