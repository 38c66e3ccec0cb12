"""What the server relies on in a RaftPort: the in-memory fake and the real node pass the same tests."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from replcache.clock import SystemClock
from replcache.errors import InvalidRequest, NotApplied, OutcomeUnknown, Refused, StalenessUnavailable
from replcache.raft.node import RaftNode
from replcache.raft.node_config import RaftConfig
from replcache.raft.port import Member, RaftPort, Role
from replcache.statemachine.commands import (
    Command,
    Get,
    Increment,
    LockAcquire,
    LockRelease,
    Set,
    SetMany,
    Update,
)
from replcache.statemachine.events import LockEvent, LockEventKind
from replcache.statemachine.results import (
    GetResult,
    IncrementResult,
    LockResult,
    Refusal,
    RefusalCode,
    SetManyResult,
    SetResult,
)
from tests.helpers.fake_raft import CLUSTER_ID, FakeRaft
from tests.helpers.wait import async_wait_until, scaled

CLOCK = SystemClock()


@pytest_asyncio.fixture(params=["fake", "node"])
async def port(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RaftPort]:
    """A cluster of one that has a leader."""
    if request.param == "fake":
        yield FakeRaft()
        return
    address = "127.0.0.1:0"
    config = RaftConfig(
        name="n1",
        cluster_id=CLUSTER_ID,
        data_dir=str(tmp_path / "data"),
        peer_listen=address,
        members=(Member("n1", address, "127.0.0.1:1"),),
    )
    node = RaftNode(config, on_halt=pytest.fail, clock=CLOCK, rng=random.Random(1))
    await node.start()
    try:
        await async_wait_until(lambda: node.status().role is Role.LEADER, what="a leader", timeout_s=10)
        yield node
    finally:
        await node.close()


def soon(seconds: float = 10.0) -> float:
    return CLOCK.now() + scaled(seconds)


async def put(port: RaftPort, key: bytes, value: bytes) -> SetResult:
    results = await port.propose(Command(ops=(Set(key, value),)), soon())
    assert isinstance(results, tuple)
    assert isinstance(results[0], SetResult)
    return results[0]


def test_standing_says_what_the_status_says(port: RaftPort) -> None:
    status = port.status()
    assert status.role is Role.LEADER
    assert port.standing() == (
        status.node,
        status.cluster_id,
        status.role,
        status.term,
        status.leader,
        status.halted,
    )


async def test_results_come_in_the_order_of_the_operations(port: RaftPort) -> None:
    ops = (Set(b"a", b"1"), Increment(b"a", 2), Get(b"a"))
    results = await port.propose(Command(ops=ops), soon())
    assert isinstance(results, tuple)
    assert [type(result) for result in results] == [SetResult, IncrementResult, GetResult]


async def test_columns_answer_in_columns(port: RaftPort) -> None:
    result = await port.propose(Command(set_many=SetMany([b"a", b"b"], [b"1", b"2"])), soon())
    assert isinstance(result, SetManyResult)
    assert result.versions == [1, 1]
    entries = port.machine.peek_many([b"a", b"b", b"c"])
    assert [entry and entry.value for entry in entries] == [b"1", b"2", None]


async def test_refusal_is_a_value(port: RaftPort) -> None:
    single = await port.propose(Command(ops=(Update(b"no", replace=b"x"),)), soon())
    assert isinstance(single, tuple)
    assert isinstance(single[0], Refusal)
    assert single[0].code is RefusalCode.NOT_FOUND
    whole = await port.propose(Command(ops=(Update(b"no", replace=b"x"),), atomic=True), soon())
    assert isinstance(whole, Refusal)
    assert (whole.code, whole.failed_op) == (RefusalCode.BATCH_ABORTED, 0)


async def test_result_is_visible_locally_when_it_arrives(port: RaftPort) -> None:
    result = await put(port, b"k", b"v")
    entry = port.machine.peek(b"k")
    assert entry is not None
    assert (entry.value, port.machine.revision) == (b"v", result.revision)


async def test_concurrent_proposals_all_get_their_own_results(port: RaftPort) -> None:
    commands = [Command(ops=(Increment(b"n", 1),)) for _ in range(200)]
    results = await asyncio.gather(*(port.propose(command, soon()) for command in commands))
    values = []
    for result in results:
        assert isinstance(result, tuple)
        assert isinstance(result[0], IncrementResult)
        values.append(result[0].value)
    assert sorted(values) == list(range(1, 201))


async def test_proposal_ends_by_its_deadline_with_a_class_of_outcome(port: RaftPort) -> None:
    """The deadline is now: applied in time, or one of the two honest errors, but never a wait."""
    proposal = port.propose(Command(ops=(Set(b"k", b"v"),)), CLOCK.now())
    async with asyncio.timeout(scaled(5)):
        (outcome,) = await asyncio.gather(proposal, return_exceptions=True)
    assert isinstance(outcome, tuple | NotApplied | OutcomeUnknown)


async def test_cancelled_proposal_leaves_the_port_usable(port: RaftPort) -> None:
    task = asyncio.ensure_future(port.propose(Command(ops=(Set(b"a", b"1"),)), soon()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await put(port, b"b", b"2")


async def test_read_index_shows_every_write_acknowledged_before(port: RaftPort) -> None:
    result = await put(port, b"k", b"v")
    await port.read_index(soon())
    assert port.machine.revision >= result.revision


async def test_concurrent_read_rounds_all_return(port: RaftPort) -> None:
    await asyncio.gather(*(port.read_index(soon()) for _ in range(100)))


async def test_staleness_is_counted_from_the_last_round(port: RaftPort) -> None:
    await port.read_index(soon())
    staleness = port.staleness_s()
    assert staleness is not None
    assert 0 <= staleness < scaled(5)


async def test_wait_revision_returns_when_it_is_reached(port: RaftPort) -> None:
    first = await put(port, b"k", b"1")
    await port.wait_revision(first.revision, CLOCK.now())
    waiting = asyncio.ensure_future(port.wait_revision(first.revision + 1, soon()))
    await asyncio.sleep(0)
    assert not waiting.done()
    await put(port, b"k", b"2")
    await waiting


async def test_wait_revision_that_is_not_reached_is_refused(port: RaftPort) -> None:
    with pytest.raises(StalenessUnavailable):
        await port.wait_revision(port.machine.revision + 1000, CLOCK.now() + 0.1)


async def test_listeners_hear_of_each_entry_in_order(port: RaftPort) -> None:
    heard: list[tuple[int, Sequence[object]]] = []

    def listener(index: int, events: Sequence[object]) -> None:
        heard.append((index, events))

    port.add_applied_listener(listener)
    for owner in (b"a", b"b"):
        result = await port.propose(Command(ops=(LockAcquire("l", owner, 60_000, 60_000),)), soon())
        assert isinstance(result, tuple)
        assert isinstance(result[0], LockResult)
    await port.propose(Command(ops=(LockRelease("l", b"a"),)), soon())
    indexes = [index for index, _ in heard]
    assert indexes == sorted(set(indexes))
    events = [event for _, batch in heard for event in batch if isinstance(event, LockEvent)]
    assert [(event.kind, event.owner) for event in events] == [
        (LockEventKind.GRANTED, b"a"),
        (LockEventKind.RELEASED, b"a"),
        (LockEventKind.GRANTED, b"b"),
    ]
    assert port.machine.held_token("l", b"b") == events[-1].token
    port.remove_applied_listener(listener)
    count = len(heard)
    await put(port, b"k", b"v")
    assert len(heard) == count


async def test_duplicate_request_is_answered_with_its_first_result(port: RaftPort) -> None:
    command = Command(ops=(Increment(b"n", 1),), request_id=b"once")
    first = await port.propose(command, soon())
    assert await port.propose(command, soon()) == first


async def test_status_tells_who_and_where(port: RaftPort) -> None:
    result = await put(port, b"k", b"v")
    status = port.status()
    assert (status.node, status.leader, status.role) == ("n1", "n1", Role.LEADER)
    assert status.cluster_id == CLUSTER_ID
    assert status.has_quorum
    assert status.halted == ""
    assert status.term >= 1
    assert status.applied_index == port.machine.applied_index <= status.commit_index <= status.last_log_index
    assert [member.name for member in status.members] == ["n1"]
    assert result.revision <= port.machine.revision


async def test_counters_never_go_back(port: RaftPort) -> None:
    before = port.counters()
    await put(port, b"k", b"v")
    await port.read_index(soon())
    after = port.counters()
    assert before.keys() == after.keys()
    assert all(after[name] >= before[name] for name in before)
    assert after["read_rounds"] > before["read_rounds"]


async def test_leadership_can_not_go_where_nobody_is(port: RaftPort) -> None:
    for to in ("", "nobody"):
        with pytest.raises(Refused):
            await port.transfer_leadership(to, soon(2))
    await put(port, b"k", b"v")


async def test_member_is_added_as_a_learner_and_removed(port: RaftPort) -> None:
    joining = Member("n2", "127.0.0.1:9", "127.0.0.1:10", voter=False)
    members = await port.change_members("add", joining, soon())
    assert {member.name: member.voter for member in members} == {"n1": True, "n2": False}
    await put(port, b"k", b"v")
    members = await port.change_members("remove", joining, soon())
    assert [member.name for member in members] == ["n1"]
    with pytest.raises(InvalidRequest, match="n2"):
        await port.change_members("remove", joining, soon(2))
    with pytest.raises(InvalidRequest, match="n1"):
        await port.change_members("add", Member("n1", "127.0.0.1:9", "127.0.0.1:10"), soon(2))


async def test_who_asks_is_told_once_where_and_when_a_command_was_applied(port: RaftPort) -> None:
    told: list[tuple[int, float]] = []
    before = CLOCK.now()
    command = Command((Set(b"k", b"v"),))
    await port.propose(command, CLOCK.now() + scaled(5), lambda index, began: told.append((index, began)))
    ((index, began),) = told
    assert index == port.machine.applied_index
    assert before <= began <= CLOCK.now()
