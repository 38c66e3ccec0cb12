"""A measurement in a process of its own: gRPC reads once, when it is loaded, how it shall work."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
EXPERIMENTS = "GRPC_EXPERIMENTS"


def apart(experiments: str | None, function: Callable[..., T], *args: Any) -> T:
    """function(*args) in a new process; `experiments` is its GRPC_EXPERIMENTS, None: what replcache sets."""
    before = os.environ.pop(EXPERIMENTS, None)
    if experiments is not None:
        os.environ[EXPERIMENTS] = experiments
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *args).result()
    finally:
        os.environ.pop(EXPERIMENTS, None)
        if before is not None:
            os.environ[EXPERIMENTS] = before
