"""How callers are packed: many reads into two messages, many writes into one, a few more into the next."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from replcache import errors
from replcache.client.batches import GetBatch, SetManyBatch
from replcache.constants import CLIENT_HALVED_READS_MIN
from replcache.pb.v1 import cache_pb2, common_pb2
from tests.unit.client.test_pipeline import FakeCore, answer, check_account, turns

LINEARIZABLE = common_pb2.READ_LEVEL_LINEARIZABLE


@pytest.fixture
async def core() -> Iterator[FakeCore]:
    return FakeCore()


def read(core: FakeCore, key: bytes = b"k") -> "asyncio.Future[Any]":
    waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    core.pipeline.reads.join_get(GetBatch, key, LINEARIZABLE, 0, 10.0, waiter)
    return waiter


async def send_twenty_twice(core: FakeCore) -> None:
    for _ in range(2):
        for _ in range(20):
            core.write()
        await turns()


def sizes(core: FakeCore) -> list[int]:
    return [
        len(message.get_columns.keys) or len(message.set_columns.keys) for message in core.links["a:1"].sent
    ]


def reply(core: FakeCore, number: int) -> None:
    link = core.links["a:1"]
    request = link.sent[number]
    response = answer(request)
    count = len(request.get_columns.keys)
    if count:
        missing = cache_pb2.GetColumnsResult(
            values=[b""] * count, versions=[0] * count, mod_revisions=[0] * count
        )
        response.get_columns.CopyFrom(missing)
    core.pipeline.on_response(link, response)  # type: ignore[arg-type]


async def test_many_reads_travel_in_two_messages_and_each_caller_gets_its_own_answer(core: FakeCore) -> None:
    waiters = [read(core, b"%d" % number) for number in range(2 * CLIENT_HALVED_READS_MIN)]
    await turns()
    assert sizes(core) == [CLIENT_HALVED_READS_MIN] * 2
    check_account(core)
    sent = core.links["a:1"].sent
    assert [*sent[0].get_columns.keys, *sent[1].get_columns.keys] == [b"%d" % n for n in range(len(waiters))]
    reply(core, 1)
    assert [waiter.done() for waiter in waiters] == [False] * len(sent[0].get_columns.keys) + [True] * len(
        sent[1].get_columns.keys
    )
    reply(core, 0)
    assert [await waiter for waiter in waiters] == [None] * len(waiters)
    check_account(core)


async def test_few_reads_and_any_number_of_writes_stay_together(core: FakeCore) -> None:
    reads = [read(core) for _ in range(CLIENT_HALVED_READS_MIN - 1)]
    await turns()
    assert sizes(core) == [len(reads)]
    writes = [core.write() for _ in range(4 * CLIENT_HALVED_READS_MIN)]
    await turns()
    assert sizes(core) == [len(reads), len(writes)]


async def test_a_small_third_message_waits_for_the_callers_of_an_earlier_one(core: FakeCore) -> None:
    await send_twenty_twice(core)
    late = core.write()
    await turns()
    assert sizes(core) == [20, 20], "it goes with those who are about to be answered"
    reply(core, 0)
    for _ in range(20):
        core.write()
    await turns()
    assert sizes(core) == [20, 20, 21]
    reply(core, 2)
    assert (await late).version == 1
    check_account(core)


async def test_it_waits_only_until_it_is_half_as_large_as_what_is_under_way(core: FakeCore) -> None:
    await send_twenty_twice(core)
    for _ in range(19):
        core.write()
        await turns()
    assert sizes(core) == [20, 20]
    core.write()
    await turns()
    assert sizes(core) == [20, 20, 20]


async def test_callers_with_other_options_count_as_company(core: FakeCore) -> None:
    await send_twenty_twice(core)
    core.write()
    await turns()
    for _ in range(21):
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        core.pipeline.writes.join_set(b"k", b"v", "", 5000, 10.0, waiter)
    await turns()
    assert sizes(core) == [20, 20, 1, 21]


async def test_single_callers_and_messages_of_one_caller_make_nobody_wait(core: FakeCore) -> None:
    for _ in range(2):
        many = SetManyBatch("", 0, 10.0, core.time)
        many.keys, many.values = [b"k"] * 500, [b"v"] * 500
        many.waiters.append(asyncio.get_running_loop().create_future())
        core.pipeline.writes.enqueue(many)
        await turns()
    core.write()
    await turns()
    assert sizes(core) == [500, 500, 1]


async def test_what_waits_is_sent_when_the_messages_before_fail(core: FakeCore) -> None:
    await send_twenty_twice(core)
    late = core.write()
    await turns()
    link = core.links["a:1"]
    for message in list(link.sent):
        core.pipeline.on_response(link, answer(message, errors.QuotaExceeded("full")))  # type: ignore[arg-type]
    await turns()
    assert sum(sizes(core)[2:]) >= 1
    assert not late.done()
    check_account(core)
