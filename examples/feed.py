"""A social network: feeds are cached, and a new post takes away exactly those in which it belongs.

A feed carries a tag for each author whom its reader follows. Who posts writes the database and then
invalidates the own tag: one log entry, however many followers there are. Whoever reads afterwards, on any
server, gets the new post; all other feeds stay cached.

    python examples/feed.py
"""

import random
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from replcache import Client
from replcache.testing import Cluster

FEED_LENGTH = 20
FOLLOWED = 5
FEED = """SELECT p.author, p.text FROM posts p JOIN follows f ON f.author = p.author
          WHERE f.reader = ? ORDER BY p.id DESC LIMIT ?"""


class Network:
    """One server of it: a database that all share, and a view of the cache."""

    def __init__(self, database: Path, cache: Client) -> None:
        self._database, self._cache = database, cache
        self.feeds = cache.through(loader=self._load, prefix="feed:", ttl="1h", tags=self._tags)

    def query(self, sql: str, *parameters: Any) -> list[Any]:
        with closing(sqlite3.connect(self._database)) as connection, connection:
            return connection.execute(sql, parameters).fetchall()

    def post(self, author: int, text: str) -> None:
        self.query("INSERT INTO posts (author, text) VALUES (?, ?)", author, text)
        # After the commit: whoever loads from now on finds the post.
        self._cache.invalidate_tags(f"author:{author}")

    def _load(self, reader: str) -> dict[str, Any]:
        authors = self.query("SELECT author FROM follows WHERE reader = ?", int(reader))
        return {
            "authors": [author for (author,) in authors],
            "posts": self.query(FEED, int(reader), FEED_LENGTH),
        }

    @staticmethod
    def _tags(reader: str, feed: dict[str, Any]) -> list[str]:
        return [f"author:{author}" for author in feed["authors"]]


def run(cluster: Cluster, folder: Path, readers: int, authors: int, rng: random.Random) -> tuple[int, int]:
    """One author posts. Returns (feeds that were loaded anew, feeds that stayed cached).

    Raises:
        AssertionError: a follower did not see the post.
    """
    with cluster.client() as one, cluster.client() as other:
        here, there = Network(folder / "feed.db", one), Network(folder / "feed.db", other)
        here.query("CREATE TABLE posts (id INTEGER PRIMARY KEY, author INT, text TEXT)")
        here.query("CREATE TABLE follows (reader INT, author INT, PRIMARY KEY (reader, author))")
        followers = {reader: rng.sample(range(authors), FOLLOWED) for reader in range(readers)}
        with closing(sqlite3.connect(folder / "feed.db")) as connection, connection:
            pairs = [(reader, author) for reader, followed in followers.items() for author in followed]
            connection.executemany("INSERT INTO follows VALUES (?, ?)", pairs)
        for author in range(authors):
            here.post(author, "hello")
        for reader in range(readers):
            there.feeds.get(str(reader))
        loads = there.feeds.stats().loads
        here.post(0, "news")
        for reader, followed in followers.items():
            feed = there.feeds.get(str(reader))
            if ([0, "news"] in map(list, feed["posts"])) != (0 in followed):
                raise AssertionError(f"reader {reader} follows {followed} and got {feed}")
        anew = there.feeds.stats().loads - loads
        return anew, readers - anew


def main() -> int:
    with Cluster(3) as cluster, tempfile.TemporaryDirectory() as folder:
        anew, kept = run(cluster, Path(folder), readers=300, authors=40, rng=random.Random())
    print(f"a post: {anew} feeds were loaded anew and have it, {kept} of others stayed cached")
    return 0


if __name__ == "__main__":
    sys.exit(main())
