"""The examples keep what they promise on a small scale; tests/mission has the large numbers."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import feed, frequency_cap, sliding_window, stock
from examples.recommender import catalogue
from examples.recommender.database import NoDatabase, postgresql
from replcache.testing import Cluster
from tests.e2e.conftest import ROOT

GENRES = ("Drama", "Comedy", None, "Western")


@pytest.fixture(scope="module", name="one_cluster")
def _one_cluster() -> Iterator[Cluster]:
    with Cluster(3, rng=random.Random()) as cluster:
        yield cluster


@pytest.fixture
def cluster(one_cluster: Cluster) -> Cluster:
    one_cluster.make_whole()
    one_cluster.clear()
    return one_cluster


@pytest.fixture
def movies(tmp_path: Path, rng: random.Random) -> Path:
    """A catalogue like the real one, small and from here."""
    rows = [
        {
            "Title": f"Movie {number}" if number % 50 else number,
            "Major Genre": rng.choice(GENRES),
            "Director": rng.choice(("Ada", None)),
            "IMDB Rating": rng.choice((None, 7.5)),
            "IMDB Votes": rng.choice((None, rng.randrange(100_000))),
        }
        for number in range(300)
    ]
    path = tmp_path / "movies.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_recommender(movies: Path, tmp_path: Path, seed: int) -> None:
    """It ends with 0, and the figures fit together."""
    options = ["--users", "60", "--seconds", "2", "--catalogue", str(movies), "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "examples.recommender", *options, "--seed", str(seed), "--warm-lists"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert found["too_old"] == 0
    assert found["hit_rate"] > 0.5
    assert found["watches"] <= found["counted"]
    assert "killed" in done.stdout and "started again" in done.stdout
    print(done.stdout)


def test_no_catalogue_is_said_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there; and npm, which would try for minutes, is not found."""
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(catalogue.NoCatalogue, match=r"can't be fetched.*put it at"):
        catalogue.load(tmp_path)


def test_another_package_under_that_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_download", lambda archive, registry: archive.write_bytes(b"other"))
    with pytest.raises(catalogue.NoCatalogue, match="SHA-512"):
        catalogue.load(tmp_path)
    assert not list(tmp_path.iterdir())


def test_postgresql_of_its_own(tmp_path: Path) -> None:
    try:
        with postgresql(tmp_path) as database:
            database.change("CREATE TABLE t (n INT)")
            database.change("INSERT INTO t VALUES (?)", [(1,), (2,)])
            assert database.query("SELECT n FROM t WHERE n > ?", (1,)) == [(2,)]
    except NoDatabase as missing:
        pytest.skip(f"PostgreSQL is not tested here: {missing}")


def test_frequency_cap(cluster: Cluster, rng: random.Random) -> None:
    shown = frequency_cap.run(cluster, users=40, tries=6, rng=rng)
    assert shown == Counter(dict.fromkeys(range(40), frequency_cap.CAP))


def test_stock(cluster: Cluster) -> None:
    assert asyncio.run(stock.run(cluster, stock=200, buyers=40)) == Counter(range(200))


def test_feed(cluster: Cluster, tmp_path: Path, rng: random.Random) -> None:
    anew, kept = feed.run(cluster, tmp_path, readers=40, authors=20, rng=rng)
    assert anew + kept == 40
    assert kept > 0


def test_sliding_window(cluster: Cluster) -> None:
    window = sliding_window.Window(60.0)
    assert asyncio.run(sliding_window.run(cluster, producers=4, clicks=20, window=window))
    assert len(window) == 160
    assert sum(count for _, count in window.top(sliding_window.PAGES)) == 160


def test_window_forgets() -> None:
    window = sliding_window.Window(10.0)
    for at, page in ((0.0, 1), (5.0, 2), (6.0, 2), (10.0, 3)):
        window.add(at, page)
    assert window.top(3) == [(2, 2), (3, 1), (1, 0)]
    assert len(window) == 3
