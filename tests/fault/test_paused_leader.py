"""SIGSTOP of the leader: the rest serves again within 2 s; the returning node lies to and disturbs nobody."""

import time

import grpc
import pytest

from replcache.client import Client
from replcache.pb.v1 import cache_pb2, cache_pb2_grpc, cluster_pb2, cluster_pb2_grpc
from tests.helpers.process_cluster import ProcessCluster

ROUNDS = 3


def read_at(address: str, key: bytes, timeout_s: float) -> bytes | None:
    """One linearizable read at exactly this node; None when it does not answer in time."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = cache_pb2_grpc.CacheStub(channel).Get(
                cache_pb2.GetRequest(key=key), timeout=timeout_s, wait_for_ready=True
            )
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
            return None
        return bytes(answer.entry.value)


def term_at(address: str) -> int:
    with grpc.insecure_channel(address) as channel:
        stub = cluster_pb2_grpc.ClusterStub(channel)
        return int(stub.Status(cluster_pb2.StatusRequest(), timeout=5, wait_for_ready=True).header.term)


@pytest.mark.timeout(120)
def test_a_paused_leader_never_answers_with_old_data(cluster: ProcessCluster) -> None:
    cluster.start()
    cluster.wait_ready()
    with cluster.client("20s") as client:
        for round_number in range(ROUNDS):
            client.set("k", f"old {round_number}")
            leader = cluster.leader(client)
            address = cluster.local.layout(leader).grpc_address
            others = [name for name in cluster.names if name != leader]
            cluster.pause(leader)
            started = time.monotonic()
            with client_of(cluster, others) as rest:
                rest.set("k", f"new {round_number}")
                gap = time.monotonic() - started
                assert gap < 2.0, f"{gap:.2f} s until the rest served again"
                terms = {term_at(cluster.local.layout(name).grpc_address) for name in others}
            cluster.resume(leader)
            # Asked at once, while it still believes to lead: new data or no answer, never old data.
            for _ in range(20):
                value = read_at(address, b"k", 0.5)
                assert value in (None, f"new {round_number}".encode()), value
            cluster.wait_ready(leader, timeout_s=10)
            after = {term_at(cluster.local.layout(name).grpc_address) for name in cluster.names}
            assert after == {max(terms)}, f"the returning node disturbed: terms {terms} became {after}"
            print(f"round {round_number}: served again after {gap:.2f} s")


def client_of(cluster: ProcessCluster, names: list[str]) -> Client:
    return Client(",".join(cluster.local.layout(name).grpc_address for name in names), timeout="10s")
