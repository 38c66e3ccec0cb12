"""Whatever bytes arrive on a stream, the answer is one BatchResponse: with results or with one typed error.

Method: messages made of arbitrary fields, and the same with bytes changed, go through the stream's handler
over the fake port. Nothing may raise, and what is refused may not reach the log.
"""

import asyncio
import random
from typing import Any

import grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replcache.clock import SystemClock
from replcache.observability.metrics import Metrics
from replcache.pb.v1 import cache_pb2 as pb
from replcache.server.accesses import Accesses
from replcache.server.backend import Backend
from replcache.server.batches import Batches
from replcache.server.interceptors import CallBoundary
from replcache.server.pipeline import Pipeline
from replcache.server.reads import Reader
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.serving import wire_error

NEVER = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


def mostly(good: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Examples must get past the first check to reach the others: one in twelve is odd."""
    return st.integers(0, 11).flatmap(lambda number: odd if number == 7 else good)


keys = mostly(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"", bytes(1025)]))
durations = mostly(
    st.builds(dict, seconds=st.integers(0, 5), nanos=st.integers(1, 10**9 - 1)),
    st.one_of(
        st.builds(dict, seconds=st.integers(2**33, 2**63 - 1)),
        st.builds(dict, seconds=st.integers(-(2**63), 5), nanos=st.integers(-(2**31), 2**31 - 1)),
    ),
)
conditions = st.fixed_dictionaries(
    {},
    optional={
        "if_absent": st.booleans(),
        "if_present": st.booleans(),
        "if_version": st.integers(0, 3),
        "if_value": st.binary(max_size=3),
    },
)
fences = st.fixed_dictionaries({}, optional={"name": st.text(max_size=3), "token": st.integers(0, 9)})
numbers = st.integers(-(2**63), 2**63 - 1)
texts = mostly(st.sampled_from(["a", "text/plain", "ä"]), st.sampled_from(["", "x" * 200]))
sets = st.fixed_dictionaries(
    {"key": keys},
    optional={
        "value": st.binary(max_size=9),
        "content_type": texts,
        "ttl": durations,
        "idle_ttl": durations,
        "max_reads": st.integers(0, 2**64 - 1),
        "tags": st.lists(texts, max_size=3),
        "lease_id": st.integers(0, 1),
        "keep_ttl": st.booleans(),
        "condition": conditions,
        "fence": fences,
        "want_previous": st.booleans(),
    },
)
updates = st.fixed_dictionaries(
    {"key": keys},
    optional={"ttl": durations, "condition": conditions, "content_type": texts},
).flatmap(
    lambda common: st.one_of(
        st.builds(lambda value: {**common, "replace": value}, st.binary(max_size=5)),
        st.builds(lambda value: {**common, "append": value}, st.binary(max_size=5)),
        st.builds(lambda value: {**common, "add_integer": value}, numbers),
        st.builds(lambda value: {**common, "add_float": value}, st.floats()),
        st.builds(lambda value: {**common, "merge_json": value}, st.binary(max_size=5) | st.just(b'{"a":1}')),
    )
)
operations = st.one_of(
    st.builds(lambda one: {"set": one}, sets),
    st.builds(lambda one: {"update": one}, updates),
    st.builds(lambda key: {"get": {"key": key}}, keys),
    st.builds(lambda key, cond: {"delete": {"key": key, "condition": cond}}, keys, conditions),
    st.builds(lambda key, ttl: {"touch": {"key": key, "ttl": ttl}}, keys, durations),
    st.builds(
        lambda key, delta, low: {"increment": {"key": key, "delta": delta, "minimum": low}},
        keys,
        numbers,
        numbers,
    ),
)
pairs = st.lists(st.tuples(keys, st.binary(max_size=3)), min_size=1, max_size=4)
columns = st.builds(
    lambda found, more: {"keys": [key for key, _ in found], "values": [value for _, value in found], **more},
    pairs,
    st.fixed_dictionaries({}, optional={"ttl": durations, "content_type": texts}),
)
read_options = st.fixed_dictionaries(
    {},
    optional={"level": st.integers(0, 4), "min_revision": st.integers(0, 2), "max_staleness": durations},
)
identities = st.fixed_dictionaries(
    {},
    optional={
        "session_id": st.integers(0, 2),
        "sequence": st.integers(0, 3),
        "acked_below": st.integers(0, 3),
        "request_id": st.binary(max_size=3),
    },
)
forms = mostly(
    st.one_of(
        st.builds(lambda found: {"operations": found}, st.lists(operations, min_size=1, max_size=4)),
        st.builds(lambda found: {"set_columns": found}, columns),
        st.builds(lambda found: {"get_columns": {"keys": found}}, st.lists(keys, min_size=1, max_size=4)),
    ),
    st.one_of(
        st.just({}),
        st.just({"get_columns": {}}),
        st.builds(lambda found: {"set_columns": found, "operations": [{}]}, columns),
        st.builds(lambda found: {"set_columns": {**found, "values": []}}, columns),
    ),
)


def message(batch_id: int, atomic: bool, form: dict[str, Any], extra: dict[str, Any]) -> bytes:
    # A short limit of its own: a read that waits for a revision ends by it.
    fields = {"id": batch_id, "atomic": atomic, "timeout": {"nanos": 20_000_000}, **form, **extra}
    return pb.BatchRequest(**fields).SerializeToString()


batches = st.builds(
    message,
    st.integers(0, 2**64 - 1),
    st.booleans(),
    forms,
    mostly(
        st.one_of(
            st.just({}),
            st.builds(lambda one: {"read": one}, read_options),
            st.builds(lambda one: {"idempotency": one}, identities),
        ),
        st.builds(lambda one: {"timeout": one}, durations.filter(lambda one: one["seconds"] <= 0)),
    ),
)


def pipeline(raft: FakeRaft) -> Pipeline:
    clock, metrics = SystemClock(), Metrics()
    backend = Backend(raft, clock, metrics)
    reader = Reader(backend, Accesses(backend))
    return Pipeline(backend, Batches(backend, reader), CallBoundary(clock, metrics), asyncio.Event())


def check(data: bytes) -> None:
    async def answer() -> None:
        raft = FakeRaft()
        async with asyncio.timeout(5):
            response = await pipeline(raft).answer(data)
        assert pb.BatchResponse.FromString(response.SerializeToString()) == response
        if response.HasField("error"):
            wire = wire_error(response.error)
            assert wire.code not in NEVER, wire
            if wire.code is grpc.StatusCode.INVALID_ARGUMENT and wire.reason != "BATCH_ABORTED":
                assert raft.proposed == [], wire
        else:
            assert response.header.node == "n1"
        raft.machine.check_invariants()

    asyncio.run(answer())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches)
def test_any_message_gets_one_answer(data: bytes) -> None:
    check(data)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches, st.integers(0, 2**32))
def test_any_damaged_message_gets_one_answer(data: bytes, seed: int) -> None:
    rng = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if damaged:
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    check(bytes(damaged[: rng.randint(0, len(damaged))] if rng.random() < 0.3 else damaged))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_get_one_answer(data: bytes) -> None:
    check(data)
