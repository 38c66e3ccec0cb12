"""What the services promise on three nodes, with small parameters; tests/mission has the large ones."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from replcache.pb.v1 import cache_pb2, election_pb2, lease_pb2
from tests.helpers import three_servers as rows
from tests.helpers.three_servers import CALL_TIMEOUT_S, ThreeServers
from tests.helpers.wait import async_wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ThreeServers]:
    async with rows.three_servers(tmp_path_factory.mktemp("three")) as cluster:
        yield cluster


async def test_entry_lives_while_it_is_read_at_any_node(three: ThreeServers) -> None:
    await rows.touched_by_reads_lives_on(three, idle_s=0.5, lives_s=1.2)


async def test_counted_reads_are_exact_on_all_nodes_together(three: ThreeServers) -> None:
    await rows.reads_are_counted_exactly(three, max_reads=12, clients=6)


async def test_find_equals_a_scan_after_every_step(three: ThreeServers) -> None:
    await rows.find_equals_a_scan(three, 30, random.Random(33))


async def test_hottest_keys_are_near_the_truth(three: ThreeServers) -> None:
    await rows.hottest_keys_are_known(three.any(0), 3000, 300, random.Random(30))


async def test_late_writes_of_ex_holders_are_refused(three: ThreeServers) -> None:
    await rows.late_writes_are_refused(three, runs=10, at_once=10)


async def test_overfilled_namespace_is_evicted_alike_on_all_nodes(three: ThreeServers) -> None:
    await rows.overfill(three, quota=150_000, value_bytes=200, times=3, batch=25)


async def test_every_observer_on_every_node_sees_the_same_leaders(three: ThreeServers) -> None:
    seen: dict[str, list[tuple[bytes, str]]] = {name: [] for name in three.nodes}

    async def observe(name: str) -> None:
        request = election_pb2.LeaderRequest(name="boss")
        async for answer in three.nodes[name].election.Observe(request):
            seen[name].append((answer.leader.candidate, answer.leader.value))

    observers = [asyncio.create_task(observe(name)) for name in seen]
    await async_wait_until(lambda: all(seen.values()), what="all observe")
    campaigns = {}
    for number, candidate in enumerate((b"a", b"b", b"c")):
        request = election_pb2.CampaignRequest(
            name="boss",
            candidate=candidate,
            ttl=Duration(seconds=60),
            wait=Duration(seconds=60),
            value=candidate.decode().upper(),
        )
        node = three.any(number)
        campaigns[candidate] = asyncio.ensure_future(node.election.Campaign(request, timeout=60))
        places = number + 1
        await async_wait_until(
            lambda places=places: (
                len(
                    [
                        place
                        for view in three.raft.nodes["n1"].machine.describe_locks("boss")
                        for place in (*view.holders, *view.waiters)
                    ]
                )
                == places
            ),
            what="it leads or waits",
        )
    for number, candidate in enumerate((b"a", b"b", b"c")):
        token = (await campaigns[candidate]).token
        resign = election_pb2.ResignRequest(name="boss", candidate=candidate, token=token)
        await three.any(number + 1).election.Resign(resign, timeout=CALL_TIMEOUT_S)
    nobody = (b"", "")
    expected = [nobody, (b"a", "A"), nobody, (b"b", "B"), nobody, (b"c", "C"), nobody]
    await async_wait_until(
        lambda: all(found == expected for found in seen.values()), what="the leaders", describe=lambda: seen
    )
    for task in observers:
        task.cancel()


async def test_lease_that_is_not_kept_ends_on_all_nodes(three: ThreeServers) -> None:
    request = lease_pb2.GrantLeaseRequest(ttl=Duration(seconds=1))
    lease_id = (await three.any(0).lease.Grant(request, timeout=CALL_TIMEOUT_S)).lease_id
    put = cache_pb2.SetRequest(key=b"leased", lease_id=lease_id)
    await three.any(1).cache.Set(put, timeout=CALL_TIMEOUT_S)
    for number in range(3):
        keep = lease_pb2.KeepLeaseRequest(lease_id=lease_id)
        assert (await three.any(number).lease.KeepAlive(keep, timeout=CALL_TIMEOUT_S)).alive

    async def gone() -> bool:
        replies = [
            await node.cache.Get(cache_pb2.GetRequest(key=b"leased"), timeout=CALL_TIMEOUT_S)
            for node in three.nodes.values()
        ]
        return not any(reply.HasField("entry") for reply in replies)

    await async_wait_until(gone, what="the key went with its lease")


async def test_bank_and_stock_over_a_change_of_leaders(three: ThreeServers) -> None:
    await rows.bank_keeps_its_total(three, accounts=5, transfers=40, kills=1)
    await rows.stock_is_sold_exactly(three, stock=40, clients=10, kills=0)


async def test_states_are_equal_on_all_nodes(three: ThreeServers) -> None:
    await three.raft.wait_equal(20.0)
