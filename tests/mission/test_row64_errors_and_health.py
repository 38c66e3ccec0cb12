"""Every reason of an error once over real gRPC, with the details that it promises; probes of a cluster that
has lost its majority."""

import signal
import time
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from replcache import errors
from replcache.pb.v1 import cache_pb2 as pb
from replcache.server import status_map
from tests.helpers.process_cluster import ProcessCluster
from tests.helpers.serving import failure, serving
from tests.helpers.wait import wait_until

# What a program in another language relies on: waiting helps exactly with these.
RETRY_HELPS = {
    "NOT_APPLIED", "UNAVAILABLE", "NO_LEADER", "OVERLOADED", "RATE_LIMITED", "STALENESS_UNAVAILABLE",
    "QUOTA_EXCEEDED",
}  # fmt: skip


def tree(cls: type[errors.ReplcacheError] = errors.ReplcacheError) -> Iterator[type[errors.ReplcacheError]]:
    yield cls
    for below in cls.__subclasses__():
        if below.__module__ == "replcache.errors":
            yield from tree(below)


@pytest.mark.parametrize("cls", list(tree()), ids=lambda cls: cls.reason)
async def test_row64_every_reason_arrives_with_its_details(cls: type[errors.ReplcacheError]) -> None:
    async with serving() as one:
        one.raft.refuse_with = cls("as asked for")
        wire = await failure(one.cache.Set(pb.SetRequest(key=b"k", value=b"v"), timeout=5))
    assert wire.reason == cls.reason
    assert wire.code is status_map.WIRE_FORMS[cls].code
    assert (wire.retry_after_s is not None) is (cls.reason in RETRY_HELPS)
    assert wire.may_have_executed is cls.may_have_executed
    assert wire.message == "as asked for"


async def test_row64_deadlines_end_in_typed_errors() -> None:
    async with serving() as one:
        one.raft.proposals_open.clear()
        begin = time.monotonic()
        wire = await failure(one.cache.Set(pb.SetRequest(key=b"k"), timeout=0.5))
        assert time.monotonic() - begin < 1.5
        assert wire.may_have_executed


def test_row64_probe_follows_the_majority_within_a_second(cluster: ProcessCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    survivor = cluster.names[0]
    address = cluster.local.layout(survivor).grpc_address
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        def says(service: str = "replcache.v1.Cache") -> int:
            return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status)

        request = reflection_pb2.ServerReflectionRequest(list_services="")
        listed = str(
            next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request])))
        )
        for service in ("Cache", "Lock", "Lease", "Election", "Keyspace", "Watch", "Session", "Cluster"):
            assert f"replcache.v1.{service}" in listed
        # /readyz looks at the node itself; this service follows it a moment later.
        wait_until(lambda: says() == health_pb2.HealthCheckResponse.SERVING, 5, "SERVING")
        for name in cluster.names[1:]:
            cluster.local.kill(name, signal.SIGKILL)
        begin = time.monotonic()
        wait_until(lambda: says() == health_pb2.HealthCheckResponse.NOT_SERVING, 10, "NOT_SERVING")
        lost_s = time.monotonic() - begin
        # The process lives all the same.
        assert says("") == health_pb2.HealthCheckResponse.SERVING
        cluster.start(*cluster.names[1:])
        wait_until(lambda: says() == health_pb2.HealthCheckResponse.SERVING, 30, "SERVING again")
    print(f"NOT_SERVING {lost_s:.2f} s after the majority was killed")
    # A leader without its majority notices within an election timeout (1 s); from then on the second counts.
    assert lost_s < 2.0
