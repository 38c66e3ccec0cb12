"""A fake cluster and the client in both colours."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from replcache import Client
from tests.helpers.client_driver import DRIVERS, ClusterThread, Driver, ServerThread
from tests.helpers.wait import scaled

ClientMaker = Callable[..., Driver]


@pytest.fixture
def cluster(seed: int) -> Iterator[ClusterThread]:
    thread = ClusterThread(3, seed)
    yield thread
    thread.close()


@pytest.fixture(params=["async", "blocking"])
def make_client(request: pytest.FixtureRequest, cluster: ClusterThread) -> Iterator[ClientMaker]:
    """Makes clients of the cluster in one colour and closes them."""
    made: list[Driver] = []

    def make(url: str | None = None, **settings: Any) -> Driver:
        driver = DRIVERS[request.param](url or cluster.url, **settings)
        made.append(driver)
        return driver

    yield make
    for driver in made:
        driver.close()


@pytest.fixture
def client(make_client: ClientMaker) -> Driver:
    return make_client()


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ServerThread]:
    thread = ServerThread()
    yield thread
    thread.close()


@pytest.fixture
def server(shared_server: ServerThread) -> Iterator[ServerThread]:
    """A real server, empty."""
    yield shared_server
    with Client(shared_server.url) as cleaner:
        for guard in cleaner.guards():
            cleaner.unguard(guard.prefix)
        for namespace in cleaner.namespaces():
            cleaner.remove_namespace(namespace.name)
        cleaner.delete_range(b"\x00")


@pytest.fixture(params=["async", "blocking"])
def served(request: pytest.FixtureRequest, server: ServerThread) -> Iterator[Driver]:
    """A client of the real server in one colour. Values above 200 bytes are stored in parts of 100."""
    driver = DRIVERS[request.param](server.url, part_bytes=100, timeout=scaled(30))
    yield driver
    driver.close()
