"""Fixtures for every test: the printed seed.

A test that needs randomness takes `seed` (a number) or `rng` (a random.Random made from it). The seed is
drawn per test unless REPLCACHE_TEST_SEED sets it, is printed in the report of a failure, and comes with the
one command that repeats the run.
"""

import os
import random
import signal

import pytest

SEED_VARIABLE = "REPLCACHE_TEST_SEED"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell without job control: Ctrl-C would be ignored here and in every
    # child, and what is to be tested about it could not be.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test's random choices."""
    given = os.environ.get(SEED_VARIABLE, "")
    value = int(given) if given else random.SystemRandom().randrange(2**32)
    print(f"SEED={value}; again: {SEED_VARIABLE}={value} python -m pytest '{request.node.nodeid}'")
    return value


@pytest.fixture
def rng(seed: int) -> random.Random:
    return random.Random(seed)
