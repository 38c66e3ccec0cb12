"""Fixtures for pytest, there without an import once replcache is installed (entry point pytest11).

    def test_orders(replcache_cluster):
        with replcache_cluster.client() as cache: ...

replcache_cluster is one cluster for the whole session, whole and empty at the beginning of each test;
replcache_cluster_factory makes others. Nothing is imported or started before a test asks for one.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from replcache.testing.cluster import Cluster

_NODES = "replcache_nodes"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("replcache")
    group.addoption("--replcache-nodes", type=int, default=None, help="nodes of replcache_cluster (3)")
    parser.addini(_NODES, "nodes of replcache_cluster", default="3")


@pytest.fixture(scope="session")
def _replcache_session_cluster(request: pytest.FixtureRequest) -> "Iterator[Cluster]":
    from replcache.testing.cluster import Cluster

    given = request.config.getoption("--replcache-nodes", None)
    with Cluster(n=int(given if given is not None else request.config.getini(_NODES))) as cluster:
        yield cluster


@pytest.fixture
def replcache_cluster(_replcache_session_cluster: "Cluster") -> "Iterator[Cluster]":
    """A running cluster: all nodes ready, no keys. A test may kill, pause and cut off its nodes."""
    cluster = _replcache_session_cluster
    cluster.make_whole()
    cluster.clear()
    yield cluster
    cluster.close_clients()


@pytest.fixture
def replcache_cluster_factory() -> "Iterator[Callable[..., Cluster]]":
    """Makes clusters with the arguments of replcache.testing.Cluster, started; stops them after the test."""
    from replcache.testing.cluster import Cluster

    made: list[Cluster] = []

    def make(**options: Any) -> Cluster:
        cluster = Cluster(**options)
        made.append(cluster)
        return cluster.start()

    yield make
    for cluster in made:
        cluster.stop()
