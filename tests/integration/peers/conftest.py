"""Every test of this folder runs under asyncio's own loop and under uvloop: their transports differ."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from tests.helpers.peers import Pair, close_all, make_node, start_pair


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
async def _no_error_reaches_the_loop() -> AsyncIterator[None]:
    """An exception that asyncio can only log is an exception that nobody handled."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    yield
    assert not found


@pytest.fixture
async def pair(rng: random.Random) -> AsyncIterator[Pair]:
    """n1 and n2, connected in both directions."""
    first = make_node("n1", rng=rng, fault_injection=True)
    second = make_node("n2", rng=rng, fault_injection=True)
    await start_pair(first, second, ("n1", "n2"))
    yield first, second
    await close_all(first, second)
    assert not first.fatal
    assert not second.fatal
