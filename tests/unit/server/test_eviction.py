"""Who is evicted, and that quotas hold, over the fake port; the choice alone and the whole loop."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from replcache.clock import SystemClock
from replcache.observability.metrics import Metrics
from replcache.raft.port import Role
from replcache.server.activity import decode_digest, encode_digest
from replcache.server.backend import Backend
from replcache.server.eviction import Evictor
from replcache.server.victims import Keys, Usage, Victims
from replcache.statemachine.commands import Command, Evict, NamespaceRemove, NamespaceSet, Op, SetMany
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.namespaces import Namespace, Policy
from replcache.statemachine.results import Refusal, SetManyResult
from replcache.tasks import Supervisor
from tests.helpers.fake_raft import FakeRaft
from tests.helpers.wait import async_wait_until

ENTRY_BYTES = 100 + 5 + 256  # value, key, overhead


async def run(raft: FakeRaft, *ops: Op) -> object:
    return await raft.propose(Command(ops=ops), raft.clock.now() + 5)


async def fill(raft: FakeRaft, first: int, last: int, prefix: bytes = b"n") -> object:
    keys = [prefix + b"%04d" % number for number in range(first, last)]
    return await raft.propose(Command(set_many=SetMany(keys, [bytes(100)] * len(keys))), raft.clock.now() + 5)


def living(raft: FakeRaft, first: int, last: int, prefix: bytes = b"n") -> int:
    keys = [prefix + b"%04d" % number for number in range(first, last)]
    return sum(entry is not None for entry in raft.machine.peek_many(keys))


def victims_of(raft: FakeRaft, usage: Usage, name: str = "n") -> Victims:
    keys = Keys(raft.machine, namespace_of(raft.machine, name).prefix)
    keys.collect(raft.machine)
    return Victims(usage, keys, random.Random(1))


def namespace_of(machine: StateMachine, name: str = "n") -> Namespace:
    return machine.store.namespaces.by_name[name]


@asynccontextmanager
async def evicting(raft: FakeRaft) -> AsyncIterator[Backend]:
    backend = Backend(raft, SystemClock(), Metrics())
    supervisor = Supervisor(lambda name, error: pytest.fail(f"{name}: {error}"))
    backend.activity.start(supervisor)
    Evictor(backend, backend.activity, random.Random(3)).start(supervisor)
    try:
        yield backend
    finally:
        await supervisor.close()


async def settled(raft: FakeRaft, name: str = "n") -> None:
    def fits() -> bool:
        namespace = namespace_of(raft.machine, name)
        used = namespace.used_bytes if namespace.prefix else raft.machine.store.quota_bytes
        return used <= namespace.max_bytes * 0.97

    await async_wait_until(fits, what="the quota holds")


# --- the choice ---


@pytest.mark.parametrize("policy", [Policy.LRU, Policy.LFU])
async def test_victims_are_those_that_nobody_used(policy: Policy) -> None:
    raft = FakeRaft()
    await run(raft, NamespaceSet("n", b"n", 1 << 30, policy))
    await fill(raft, 0, 2000)
    usage = Usage()
    usage.prepare({policy}, 2000)
    for number in range(0, 2000, 2):
        usage.note(b"n%04d" % number, 1, raft.machine.revision)
    victims = victims_of(raft, usage)
    surplus = 200 * ENTRY_BYTES
    chosen = victims.choose(raft.machine, namespace_of(raft.machine), surplus)
    assert len(chosen) == 200
    unused = sum(int(key[1:]) % 2 for key, _ in chosen)
    assert unused >= 190
    again = victims.choose(raft.machine, namespace_of(raft.machine), surplus)
    assert again


async def test_lfu_prefers_what_was_used_often_over_what_was_used_last() -> None:
    raft = FakeRaft()
    await run(raft, NamespaceSet("n", b"n", 1 << 30, Policy.LFU))
    await fill(raft, 0, 300)
    usage = Usage()
    usage.prepare({Policy.LFU}, 300)
    for number in range(300):
        usage.note(b"n%04d" % number, 1 if number < 150 else 9, 1000 if number < 150 else 10)
    chosen = victims_of(raft, usage).choose(raft.machine, namespace_of(raft.machine), 100 * ENTRY_BYTES)
    assert sum(int(key[1:]) < 150 for key, _ in chosen) >= 98


async def test_lfu_gives_new_entries_a_chance_unless_there_are_only_new_ones() -> None:
    raft = FakeRaft()
    await run(raft, NamespaceSet("n", b"n", 1 << 30, Policy.LFU))
    await fill(raft, 0, 1000)
    usage = Usage()
    usage.prepare({Policy.LFU}, 1000)
    for number in range(990):
        usage.note(b"n%04d" % number, 3, 1)
    victims = victims_of(raft, usage)
    chosen = victims.choose(raft.machine, namespace_of(raft.machine), 600 * ENTRY_BYTES)
    assert not {key for key, _ in chosen} & {b"n%04d" % number for number in range(991, 1000)}
    fresh = FakeRaft()
    await run(fresh, NamespaceSet("n", b"n", 1 << 30, Policy.LFU))
    keys = [b"%04d" % number for number in range(500)]
    atomic = Command(set_many=SetMany([b"n" + key for key in keys], keys), atomic=True)
    await fresh.propose(atomic, fresh.clock.now() + 5)
    assert victims_of(fresh, usage).choose(fresh.machine, namespace_of(fresh.machine), 10_000)


async def test_everything_takes_nothing_from_a_namespace_that_never_evicts() -> None:
    raft = FakeRaft()
    await run(raft, NamespaceSet("all", b"", 1 << 30, Policy.LRU), NamespaceSet("kept", b"k", 0, Policy.NONE))
    await fill(raft, 0, 500, b"k")
    await fill(raft, 0, 100, b"n")
    victims = victims_of(raft, Usage(), "all")
    namespace = namespace_of(raft.machine, "all")
    seen = set()
    for _ in range(20):
        seen |= {key[:1] for key, _ in victims.choose(raft.machine, namespace, 50 * ENTRY_BYTES)}
    assert seen == {b"n"}


async def test_what_waits_for_a_database_is_never_evicted() -> None:
    raft = FakeRaft()
    await run(raft, NamespaceSet("all", b"", 1 << 30, Policy.LRU))
    await fill(raft, 0, 500, b"\0behind\0view\x000\0key\0")
    await fill(raft, 0, 100, b"n")
    victims = victims_of(raft, Usage(), "all")
    namespace = namespace_of(raft.machine, "all")
    seen = set()
    for _ in range(20):
        seen |= {key[:1] for key, _ in victims.choose(raft.machine, namespace, 50 * ENTRY_BYTES)}
    assert seen == {b"n"}


# --- the loop ---


@pytest.mark.parametrize("policy", [Policy.LRU, Policy.LFU])
async def test_quota_holds_while_ten_times_as_much_is_written(policy: Policy) -> None:
    raft = FakeRaft()
    quota = 1000 * ENTRY_BYTES
    await fill(raft, 0, 300, b"o")
    await run(raft, NamespaceSet("n", b"n", quota, policy))
    async with evicting(raft) as backend:
        for first in range(0, 9_900, 100):
            result = await fill(raft, first, first + 100)
            assert isinstance(result, SetManyResult), result
            assert namespace_of(raft.machine).used_bytes <= quota * 1.2
            await settled(raft)
        assert living(raft, 0, 9_900) >= 800
        assert living(raft, 0, 300, b"o") == 300, "another part of the key space lost keys"
        backend.activity.flush()
        assert backend.activity.counts["n"].evicted == 9_900 - living(raft, 0, 9_900)
        (reason, number), *rest = raft.machine.statistics().evicted_totals
        assert (reason, rest) == (policy.name.lower(), [])
        assert number == backend.activity.counts["n"].evicted
        # Recent ones are the ones that live, under LRU.
        if policy is Policy.LRU:
            assert living(raft, 9_500, 9_900) >= 390
        raft.machine.check_invariants()


async def test_keys_that_are_read_through_other_nodes_stay() -> None:
    raft = FakeRaft()
    await run(raft, NamespaceSet("n", b"n", 1000 * ENTRY_BYTES, Policy.LRU))
    async with evicting(raft) as backend:
        await fill(raft, 0, 900)
        await async_wait_until(lambda: backend.activity.on_used is not None, what="eviction is active")
        assert raft.hint_listener is not None
        for first in range(900, 5000, 20):
            # Another node's clients keep reading the first 200.
            raft.hint_listener("n2", encode_digest({b"n%04d" % number: 1 for number in range(200)}))
            await fill(raft, first, first + 20)
            await settled(raft)
        assert living(raft, 0, 200) >= 195
        assert living(raft, 200, 900) <= 50
        raft.hint_listener("n2", b"\xff\xff")  # nothing to read in it, and nobody harmed


async def test_follower_tells_the_leader_and_evicts_nothing_itself() -> None:
    raft = FakeRaft()
    await run(raft, NamespaceSet("n", b"n", 100 * ENTRY_BYTES, Policy.LRU))
    raft.role, raft.leader = Role.FOLLOWER, "n2"
    async with evicting(raft) as backend:
        await fill(raft, 0, 110)
        backend.activity.read([b"n0001", b"n0002", b"n0001"], [None] * 3, 3)
        await async_wait_until(lambda: bool(raft.hints), what="a digest")
        assert decode_digest(raft.hints[0]) == {b"n0001": 2, b"n0002": 1}
        assert not any(isinstance(op, Evict) for command in raft.proposed for op in command.ops)
        raft.role, raft.leader = Role.LEADER, raft.name
        await fill(raft, 110, 111)
        await settled(raft)
        assert living(raft, 1, 3) == 2, "what was read here was forgotten when it became the leader"


async def test_victim_that_was_written_meanwhile_stays() -> None:
    raft = FakeRaft()
    await run(raft, NamespaceSet("n", b"n", 100 * ENTRY_BYTES, Policy.LRU))
    async with evicting(raft):
        raft.holds = lambda command: isinstance(command.ops[0], Evict) if command.ops else False
        raft.proposals_open.clear()
        await fill(raft, 0, 105)
        await asyncio.sleep(0)
        await fill(raft, 0, 50)
        raft.proposals_open.set()
        await settled(raft)
        assert living(raft, 0, 50) >= 45


async def test_policy_none_refuses_and_nothing_is_evicted_or_told() -> None:
    raft = FakeRaft()
    await run(raft, NamespaceSet("n", b"n", 100 * ENTRY_BYTES, Policy.NONE))
    raft.leader = "n2"
    raft.role = Role.FOLLOWER
    async with evicting(raft) as backend:
        assert isinstance(await fill(raft, 0, 99), SetManyResult)
        assert isinstance(await fill(raft, 99, 105), Refusal)
        backend.activity.read([b"n0001"], [None], 1)
        backend.activity.flush()
        assert (living(raft, 0, 99), raft.hints) == (99, [])
        await run(raft, NamespaceRemove("n"))
        backend.activity.flush()
        assert backend.activity.counts.keys() == {""}


def test_digest_is_bounded() -> None:
    many = {b"%06d" % number: 1 for number in range(5000)}
    assert len(decode_digest(encode_digest(many))) == 1000
    large = {bytes(1000) + b"%06d" % number: 1000 for number in range(500)}
    digest = encode_digest(large)
    assert 50_000 < len(digest) < 70_000
    assert set(decode_digest(digest).values()) == {255}
