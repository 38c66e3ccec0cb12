"""A node with two gateways: everything works through them, and deaths on either side harm nobody."""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from replcache.client import Client
from replcache.pb.v1 import cache_pb2 as pb
from replcache.pb.v1 import (
    cache_pb2_grpc,
    election_pb2,
    election_pb2_grpc,
    keyspace_pb2,
    keyspace_pb2_grpc,
    lease_pb2,
    lease_pb2_grpc,
    lock_pb2,
    lock_pb2_grpc,
    watch_pb2,
    watch_pb2_grpc,
)
from replcache.pb.v1.common_pb2 import Fence
from tests.helpers.serving import wire_error
from tests.helpers.wait import scaled, wait_until
from tests.integration.test_server_process import address, node, stderr


def events(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in stderr(tmp_path).splitlines() if line.startswith("{")]
    return [record for record in records if record.get("event") == name]


def gateway_pids(tmp_path: Path) -> list[int]:
    return [int(record["pid"]) for record in events(tmp_path, "gateway_started")]


def has_ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True


@contextmanager
def gateways(tmp_path: Path, **settings: str) -> Iterator[Any]:
    """The node's process; afterwards no gateway may be left."""
    with node(tmp_path, gateways="2", **settings) as process:
        yield process
    for pid in gateway_pids(tmp_path):
        wait_until(partial(has_ended, pid), 10, f"gateway {pid} has ended")


def test_everything_works_through_gateways_and_stopping_leaves_nothing(tmp_path: Path) -> None:
    with gateways(tmp_path) as process:
        target = address(tmp_path)
        assert len(gateway_pids(tmp_path)) == 2
        with Client(target, timeout=scaled(10)) as client:
            client.set("k", b"v")
            entry = client.get("k")
            assert entry is not None
            assert entry.value == b"v"
            assert client.status().leader == "n1"
            with client.lock("l", ttl=5):
                client.set("k", b"w")
            threads = [
                threading.Thread(target=lambda n=n: [client.incr("n") for _ in range(20)]) for n in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert client.incr("n", 0) == 160
        process.send_signal(signal.SIGTERM)
        assert process.wait(scaled(20)) == 0, stderr(tmp_path)
        assert all(map(has_ended, gateway_pids(tmp_path)))
        assert not events(tmp_path, "gateway_killed")


def newer_services_answer(channel: grpc.Channel, stub: Any) -> None:
    """Elections with their stream, transactions, tags, leases and figures."""
    election = election_pb2_grpc.ElectionStub(channel)  # type: ignore[no-untyped-call]
    observing = election.Observe(election_pb2.LeaderRequest(name="e"), timeout=scaled(10))
    assert not next(observing).HasField("leader")
    candidate = election_pb2.CampaignRequest(name="e", candidate=b"c", ttl=Duration(seconds=30), value="v")
    token = election.Campaign(candidate, timeout=scaled(5)).token
    observed = next(observing).leader
    assert (observed.candidate, observed.token, observed.value) == (b"c", token, "v")
    observing.cancel()
    txn = pb.TxnRequest(held=[Fence(name="e", token=token)], then=[{"set": {"key": b"t", "tags": ["x"]}}])
    assert stub.Txn(txn, timeout=scaled(5)).succeeded
    assert [entry.key for entry in stub.Find(pb.FindRequest(tags=["x"]), timeout=scaled(5)).entries] == [b"t"]
    lease = lease_pb2_grpc.LeaseStub(channel)  # type: ignore[no-untyped-call]
    granted = lease.Grant(lease_pb2.GrantLeaseRequest(ttl=Duration(seconds=9)), timeout=scaled(5))
    assert granted.lease_id
    keyspace = keyspace_pb2_grpc.KeyspaceStub(channel)  # type: ignore[no-untyped-call]
    assert keyspace.Statistics(keyspace_pb2.StatisticsRequest(), timeout=scaled(5)).most_written


def test_plain_grpc_calls_get_the_core_s_answers(tmp_path: Path) -> None:
    with gateways(tmp_path), grpc.insecure_channel(address(tmp_path)) as channel:
        stub = cache_pb2_grpc.CacheStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as refused:
            stub.Set(pb.SetRequest(key=b""), timeout=scaled(5))
        assert wire_error(refused.value).field == "key"
        bad: Any = channel.unary_unary("/replcache.v1.Cache/Set")
        with pytest.raises(grpc.RpcError) as undecodable:
            bad(b"\xff\xff", timeout=scaled(5))
        assert undecodable.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        nothing: Any = channel.unary_unary("/replcache.v1.Cache/Nothing")
        with pytest.raises(grpc.RpcError) as unknown:
            nothing(b"", timeout=scaled(5))
        assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
        batches = [pb.BatchRequest(id=n) for n in range(1, 51)]
        assert {answer.id for answer in stub.Pipeline(iter(batches), timeout=scaled(10))} == set(range(1, 51))
        watch_stub = watch_pb2_grpc.WatchStub(channel)  # type: ignore[no-untyped-call]
        watch = watch_stub.Watch(watch_pb2.WatchRequest(prefix=b"w/"), timeout=scaled(10))
        assert next(watch).created
        stub.Set(pb.SetRequest(key=b"w/1"), timeout=scaled(5))
        assert next(message for message in watch if message.events).events[0].key == b"w/1"
        watch.cancel()
        newer_services_answer(channel, stub)
        health = health_pb2_grpc.HealthStub(channel)
        for name, status in (("", 1), ("replcache.v1.Cache", 1), ("replcache.v1.Election", 1)):
            asked = health_pb2.HealthCheckRequest(service=name)
            # The state is looked at twice a second: a node that has just begun to lead may not say so yet.
            wait_until(
                lambda asked=asked, status=status: health.Check(asked, timeout=scaled(5)).status == status,
                5,
                f"{name or 'the node'} is serving",
            )
        with pytest.raises(grpc.RpcError) as nobody:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=scaled(5))
        assert nobody.value.code() is grpc.StatusCode.NOT_FOUND
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed = next(iter(reflection.ServerReflectionInfo(iter([asked]), timeout=scaled(5))))
        names = {s.name for s in listed.list_services_response.service}
        assert {f"replcache.v1.{name}" for name in ("Cache", "Lease", "Election", "Keyspace")} <= names


def metric(tmp_path: Path, name: str) -> float:
    page = events(tmp_path, "serving")[-1]["http"]
    with urllib.request.urlopen(f"http://{page}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"replcache_{name} ")).split()[1])


def test_call_that_the_client_cancels_ends_in_the_core_too(tmp_path: Path) -> None:
    """A stream, and a wait for a lock: whoever is next must not wait for somebody who is gone."""
    with gateways(tmp_path), grpc.insecure_channel(address(tmp_path)) as channel:
        stub = cache_pb2_grpc.CacheStub(channel)  # type: ignore[no-untyped-call]
        never = threading.Event()

        def batches() -> Iterator[pb.BatchRequest]:
            yield pb.BatchRequest(id=1)
            never.wait()

        stream = stub.Pipeline(batches())
        assert next(stream).id == 1
        assert metric(tmp_path, "pipeline_streams") == 1
        stream.cancel()
        never.set()
        wait_until(lambda: metric(tmp_path, "pipeline_streams") == 0, 10, "the core's stream ended")

        locks = lock_pb2_grpc.LockStub(channel)  # type: ignore[no-untyped-call]

        def acquire(owner: bytes, wait_s: int) -> lock_pb2.AcquireRequest:
            request = lock_pb2.AcquireRequest(name="l", owner=owner)
            request.ttl.FromSeconds(60)
            request.wait.FromSeconds(wait_s)
            return request

        held = locks.Acquire(acquire(b"first", 0), timeout=scaled(10))
        assert held.token
        waiting = locks.Acquire.future(acquire(b"second", 60), timeout=60)
        describe = lock_pb2.DescribeRequest(name="l")
        wait_until(lambda: _waiters(locks.Describe(describe)) == 1, 10, "second waits")
        waiting.cancel()
        wait_until(lambda: _waiters(locks.Describe(describe)) == 0, 10, "second is forgotten")


def _waiters(answer: lock_pb2.DescribeResponse) -> int:
    return sum(len(lock.waiters) for lock in answer.locks)


def test_killed_gateways_come_back_and_nothing_executes_twice(tmp_path: Path) -> None:
    with gateways(tmp_path), Client(address(tmp_path), timeout=scaled(20)) as client:
        client.set("warm", b"")
        done, threads = [], []

        def count() -> None:
            for _ in range(150):
                client.incr("n")
                done.append(1)

        for _ in range(8):
            threads.append(threading.Thread(target=count))
            threads[-1].start()
        for increments, started in ((200, 2), (600, 4)):
            wait_until(lambda least=increments: len(done) > least, 20, "some increments")  # type: ignore[misc]
            for pid in gateway_pids(tmp_path)[started - 2 :]:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda n=started: len(gateway_pids(tmp_path)) == n + 2, 20, "new ones")  # type: ignore[misc]
        for thread in threads:
            thread.join()
        assert len(done) == 8 * 150
        assert client.incr("n", 0) == 8 * 150
        assert len(events(tmp_path, "gateway_ended")) == 4


def test_gateways_end_with_a_core_that_is_killed(tmp_path: Path) -> None:
    with gateways(tmp_path) as process:
        target = address(tmp_path)
        with grpc.insecure_channel(target) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            process.kill()
            process.wait()
            with pytest.raises(grpc.RpcError) as lost:
                next(watch)
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
        error = wire_error(lost.value)
        assert (error.reason, error.may_have_executed) == ("UNAVAILABLE", False)


def test_write_whose_core_died_may_have_executed(tmp_path: Path) -> None:
    """The core is paused so that the write is certainly with it, then killed."""
    with gateways(tmp_path) as process, grpc.insecure_channel(address(tmp_path)) as channel:
        stub = cache_pb2_grpc.CacheStub(channel)  # type: ignore[no-untyped-call]
        stub.Set(pb.SetRequest(key=b"k"), timeout=scaled(10))
        process.send_signal(signal.SIGSTOP)
        pids = gateway_pids(tmp_path)
        before = [_cpu_ticks(pid) for pid in pids]
        write = stub.Set.future(pb.SetRequest(key=b"k"), timeout=scaled(30))
        read = stub.Get.future(pb.GetRequest(key=b"k"), timeout=scaled(30))
        wait_until(lambda: [_cpu_ticks(pid) for pid in pids] != before, 10, "a gateway works")
        with pytest.raises(grpc.FutureTimeoutError):
            write.result(timeout=0.5)
        process.kill()
        errors = [wire_error(call.exception(timeout=scaled(10))) for call in (write, read)]
    assert [(e.reason, e.may_have_executed) for e in errors] == [
        ("OUTCOME_UNKNOWN", True),
        ("UNAVAILABLE", False),
    ]


def _cpu_ticks(pid: int) -> str:
    return Path(f"/proc/{pid}/schedstat").read_text()


def test_port_in_use_is_refused_also_by_a_node_with_gateways(tmp_path: Path) -> None:
    with gateways(tmp_path / "first"):
        taken = address(tmp_path / "first")
        for number, setting in enumerate(("0", "2")):
            second = tmp_path / f"second{number}"
            with node(second, grpc_listen=taken, gateways=setting) as process:
                assert process.wait(scaled(15)) == 2, stderr(second)
                assert f"grpc_listen = {taken}" in stderr(second)


def test_tls_works_in_gateways(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    leaf.private_key_pem.write_to_path(key)
    leaf.cert_chain_pems[0].write_to_path(cert)
    with gateways(tmp_path, tls_cert=str(cert), tls_key=str(key), http_tls="false"):
        port = address(tmp_path).rpartition(":")[2]
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
            stub = cache_pb2_grpc.CacheStub(channel)  # type: ignore[no-untyped-call]
            assert stub.Set(pb.SetRequest(key=b"k"), timeout=scaled(10)).version == 1
