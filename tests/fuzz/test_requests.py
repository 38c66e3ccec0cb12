"""Every unary method of the server, given arbitrary and damaged messages, one call after another.

Each call ends in a response or in one status with one ErrorInfo; INTERNAL and UNKNOWN mean that an exception
nobody had thought of came out. What is refused as invalid has not reached the log, and the state stays sound.
"""

import asyncio

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from replcache.pb.v1 import cache_pb2, cluster_pb2, lock_pb2, session_pb2
from tests.fuzz.inputs import damaged, fuzz, messages
from tests.helpers.serving import Serving, serving, wire_error

NEVER = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
# Calls that wait (for a lock, for a revision) wait so long.
TIMEOUT_S = 0.1

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in (cache_pb2, lock_pb2, session_pb2, cluster_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not (method.client_streaming or method.server_streaming)
}
DURATIONS = st.builds(dict, seconds=st.integers(0, 3), nanos=st.integers(1, 10**9 - 1))
USUAL = {
    "key": st.sampled_from([b"a", b"b"]),
    "keys": st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3),
    "name": st.sampled_from(["l", "m"]),
    "owner": st.sampled_from([b"o", b"p"]),
    "ttl": DURATIONS,
    "session_id": st.integers(0, 1),
    "token": st.integers(1, 3),
    "level": st.integers(0, 3),
}
REQUESTS = {path: messages(GetMessageClass(method.input_type), **USUAL) for path, method in METHODS.items()}


async def call(one: Serving, path: str, data: bytes) -> None:
    answer: type[Message] = GetMessageClass(METHODS[path].output_type)
    proposed = len(one.raft.proposed)
    try:
        await one.channel.unary_unary(path, response_deserializer=answer.FromString)(data, timeout=TIMEOUT_S)
        return
    except grpc.aio.AioRpcError as failure:
        if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return  # it waits for a lock or a revision, and the client was the first to say so
        error = wire_error(failure)
    assert error.code not in NEVER, (path, error)
    if error.code is grpc.StatusCode.INVALID_ARGUMENT and error.reason != "BATCH_ABORTED":
        assert len(one.raft.proposed) == proposed, (path, error)


def check(calls: list[tuple[str, bytes]]) -> None:
    async def run() -> None:
        async with serving(reflection=False, http_listen="") as one, asyncio.timeout(20):
            for path, data in calls:
                await call(one, path, data)
            one.raft.machine.check_invariants()

    asyncio.run(run())


PATHS = st.sampled_from(sorted(METHODS))
CALLS = PATHS.flatmap(
    lambda path: st.tuples(st.just(path), REQUESTS[path].map(lambda m: m.SerializeToString()))
)


def test_all_services_are_covered() -> None:
    assert len(METHODS) >= 15
    assert {path.split("/")[1] for path in METHODS} == {
        f"replcache.v1.{name}" for name in ("Cache", "Lock", "Session", "Cluster")
    }


@fuzz(150)
@given(st.lists(CALLS, min_size=1, max_size=4))
def test_any_calls_are_answered(calls: list[tuple[str, bytes]]) -> None:
    check(calls)


@fuzz(100)
@given(CALLS, st.data())
def test_any_damaged_call_is_answered(one: tuple[str, bytes], data: st.DataObject) -> None:
    check([(one[0], data.draw(damaged(one[1])))])
