"""The Python client at full size on real nodes: large values, batches, the near cache, kinds of values."""

import random
import struct
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replcache import AsyncClient, Client, Typed, errors
from replcache.client.near_store import NearStore, Row
from replcache.testing import Cluster
from tests.helpers.client_driver import DRIVERS, Driver
from tests.helpers.wait import scaled, wait_until
from tests.integration.client.test_client_blocking import public

STEPS = 100_000
LARGE_BYTES = 50 * 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(range(17))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(n=3, rng=random.Random()) as cluster:
        yield cluster


@pytest.fixture(params=["async", "blocking"])
def client(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Driver]:
    cluster.clear()
    driver = DRIVERS[request.param](cluster.url, timeout=scaled(30))
    yield driver
    driver.close()


def as_lru_cache(trace: list[int], size: int) -> list[bool]:
    """Hit or miss of each look-up by functools.lru_cache."""
    misses: list[int] = []

    @lru_cache(maxsize=size)
    def load(key: int) -> None:
        misses.append(key)

    hits: list[bool] = []
    for key in trace:
        before = len(misses)
        load(key)
        hits.append(len(misses) == before)
    return hits


def skewed(seed: int, keys: int, steps: int) -> list[int]:
    """Some keys far more often than others, and sweeps over all, which are what an order is tested by."""
    rng = random.Random(seed)
    trace: list[int] = []
    while len(trace) < steps:
        if rng.random() < 0.01:
            trace += range(keys)
        else:
            trace += [int(keys * rng.random() ** 3) for _ in range(200)]
    return trace[:steps]


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32), keys=st.integers(2, 3000), size=st.integers(1, 1000))
@pytest.mark.timeout(600)
def test_row05_same_hits_and_misses_as_lru_cache(seed: int, keys: int, size: int) -> None:
    trace = skewed(seed, keys, STEPS)
    store = NearStore(size)
    store.restart(0)
    hits: list[bool] = []
    for key in trace:
        name = b"%d" % key
        hits.append(store.lookup(name, 0.0) is not None)
        if not hits[-1]:
            store.begin_read(name)
            store.end_read(name, Row(None, 1, float("inf")))
    assert hits == as_lru_cache(trace, size)


def test_row05_same_hits_and_misses_through_a_client(cluster: Cluster) -> None:
    trace = skewed(5, 400, 2_000)
    with cluster.client(timeout=scaled(30)) as client, client.near("lru:", max_entries=100) as probe:
        client.set_many({f"lru:{key}": key for key in range(400)})
        probe.get("lru:0")
        with client.near("lru:", max_entries=100, max_staleness="10m") as near:
            near.get("lru:none")
            wait_until(lambda: near.get("lru:none") is None and near.stats().hits, what="a proven near cache")
            near.invalidate("lru:none")
            hits: list[bool] = []
            for key in trace:
                before = near.stats().hits
                assert near.get_value(f"lru:{key}") == key
                hits.append(near.stats().hits > before)
    assert hits == as_lru_cache(trace, 100)


def test_row07_same_methods_in_both_colours() -> None:
    """tests/integration/client runs the same tests on both; here: none is missing in one of them."""
    assert set(public(Client)) == set(public(AsyncClient))


def test_row09_insert_get_update(client: Driver) -> None:
    with pytest.raises(errors.NotFound):
        client.update("missing", 1)
    for number, value in enumerate((b"", "", 0, None, False, 0.0, [], {})):
        client.set(f"falsy:{number}", value)
        entry = client.get(f"falsy:{number}")
        assert entry is not None
        assert (entry.value, type(entry.value)) == (value, type(value))
        assert client.get_value(f"falsy:{number}", default="miss") == value
    hits = client.stats().hits
    assert client.get_value("falsy:0") == b""
    assert client.stats().hits == hits + 1
    assert client.update("falsy:2", add=5).value == 5


def test_row23_set_many_is_one_log_entry_and_ten_times_as_fast(client: Driver, cluster: Cluster) -> None:
    values = {f"many:{number}": b"x" * 100 for number in range(500)}
    client.set("warm", 1)
    wait_until(lambda: client.status().last_log_index == client.status().applied_index, what="a quiet log")
    before = client.status().last_log_index
    started = time.monotonic()
    client.set_many(values)
    together_s = time.monotonic() - started
    entries = client.status().last_log_index - before
    started = time.monotonic()
    for key, value in values.items():
        client.set(key, value)
    alone_s = time.monotonic() - started
    print(f"500 sets: {together_s * 1000:.1f} ms in one batch, {alone_s * 1000:.1f} ms one by one")
    # A tick of the leader's clock may come in between.
    assert entries <= 2
    assert alone_s > 10 * together_s


def large(number: int) -> bytes:
    return random.Random(number).randbytes(1024) * (LARGE_BYTES // 1024)


@pytest.mark.timeout(900)
def test_row26_fifty_megabytes_are_read_whole_or_not_at_all(client: Driver, cluster: Cluster) -> None:
    """Overwritten by two values in turn, deleted in between, while it is read all the time."""
    values = [large(1), large(2)]
    stop = threading.Event()
    failed: list[BaseException] = []
    written: list[float] = []

    def write() -> None:
        try:
            with cluster.client(timeout=scaled(60)) as writer:
                for turn in range(5):
                    started = time.monotonic()
                    writer.set("large", values[turn % 2])
                    written.append(time.monotonic() - started)
                    if turn == 2:
                        writer.delete("large")
        except BaseException as err:  # noqa: BLE001  # shown by the assertion below
            failed.append(err)
        stop.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen: dict[Any, int] = {}
    while not stop.is_set():
        found = client.get_value("large", timeout=scaled(60))
        assert found is None or found in values
        which = None if found is None else values.index(found)
        seen[which] = seen.get(which, 0) + 1
    thread.join()
    assert not failed
    assert client.get_value("large", timeout=scaled(60)) == values[0]
    print(f"reads by value: {seen}; seconds for each write: {[round(s, 1) for s in written]}")
    # The ttl of the parts of all earlier values is over a while later.
    wait_until(lambda: client.status().value_bytes < 1.2 * LARGE_BYTES, timeout_s=60, what="old parts gone")
    assert client.sweep() == 0


def test_row32_kinds_of_values_keep_their_content_type(client: Driver) -> None:
    numpy = pytest.importorskip("numpy")
    vector = numpy.random.default_rng(32).random(768, dtype="float32")
    kinds = {
        "text": ("grün ✓", "text/plain"),
        "json": ({"a": [1, None, 2.5], "b": {"c": "ü"}}, "application/json"),
        "bytes": (bytes(range(256)), ""),
    }
    for name, (value, content_type) in kinds.items():
        client.set(name, value)
        entry = client.get(name)
        assert (entry.value, entry.content_type) == (value, content_type)
    client.set("picture", Typed(PNG, "image/png"))
    assert (client.get_value("picture"), client.get("picture").content_type) == (PNG, "image/png")
    client.set("vector", vector)
    entry = client.get("vector")
    assert entry.content_type == "application/x-npy"
    assert entry.value.dtype == numpy.float32
    assert (entry.value == vector).all()
    client.set("matrix", numpy.zeros((1024, 1024), dtype="float32"))
    assert client.get_value("matrix").shape == (1024, 1024)
