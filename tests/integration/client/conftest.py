"""A fake cluster and the client in both colours."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.helpers.client_driver import DRIVERS, ClusterThread, Driver

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
