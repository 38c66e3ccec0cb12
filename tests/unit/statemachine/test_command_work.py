"""One command does a bounded amount of work, the same on every replica, however few bytes it has itself."""

import json

import pytest

from replcache.constants import COMMAND_WORK_MAX, COMMAND_WORK_MERGE, COMMAND_WORK_REPLY, VALUE_BYTES_MAX
from replcache.statemachine.commands import Command, Delete, Get, Op, SessionOpen, Set, Txn, Update
from replcache.statemachine.results import GetResult, Refusal, RefusalCode, SessionResult, UpdateResult
from tests.helpers.machine import Driver, replay

LARGE = b"x" * VALUE_BYTES_MAX
GETS_MAX = COMMAND_WORK_MAX // (COMMAND_WORK_REPLY * VALUE_BYTES_MAX)


def split(results: object) -> tuple[int, int]:
    """(how many were executed, how many refused behind them)."""
    assert isinstance(results, tuple)
    refused = [isinstance(one, Refusal) for one in results]
    assert refused == sorted(refused), "once it is too much it stays too much"
    assert all(one.code is RefusalCode.INVALID for one in results if isinstance(one, Refusal))
    return refused.count(False), refused.count(True)


def test_replies_are_bounded() -> None:
    driver = Driver()
    driver.one(Set(b"k", LARGE))
    assert split(driver.do(*[Get(b"k")] * (GETS_MAX + 5))) == (GETS_MAX, 5)
    assert isinstance(driver.one(Get(b"k")), GetResult), "the next command begins anew"
    assert replay(driver.payloads).digest() == driver.machine.digest()


def test_stored_replies_of_a_session_can_not_fill_the_store_with_one_command() -> None:
    driver = Driver()
    driver.one(Set(b"k", LARGE))
    session = driver.one(SessionOpen(60_000))
    assert isinstance(session, SessionResult)
    driver.run(Command(ops=(Get(b"k"),) * 4096, session_id=session.session_id, session_sequence=1))
    assert driver.machine.replies.bytes < (GETS_MAX + 1) * VALUE_BYTES_MAX
    other = driver.run(Command(ops=(Set(b"o", b""),), request_id=b"r"))[0]
    assert not isinstance(other, Refusal)


@pytest.mark.parametrize(
    "op",
    [
        Set(b"k", b"y" * VALUE_BYTES_MAX, want_previous=True),
        Update(b"k", replace=b"y" * VALUE_BYTES_MAX),
        Update(b"k", append=b""),
    ],
    ids=["set", "replace", "append"],
)
def test_what_is_written_and_sent_back_is_bounded(op: Op) -> None:
    driver = Driver()
    driver.one(Set(b"k", LARGE))
    done, refused = split(driver.do(*[op] * (GETS_MAX + 5)))
    assert 0 < done <= GETS_MAX
    assert refused == GETS_MAX + 5 - done


def test_a_refused_operation_changes_nothing() -> None:
    driver = Driver()
    driver.do(Set(b"k", LARGE), Set(b"d", LARGE))
    gets = [Get(b"k")] * GETS_MAX
    results = driver.do(*gets, Delete(b"d", want_previous=True), Set(b"k", b"", want_previous=True))
    assert split(results) == (GETS_MAX, 2)
    assert driver.machine.peek(b"d") is not None
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert entry.value == LARGE


def test_merges_are_bounded_by_what_they_parse() -> None:
    document = json.dumps({f"k{number}": number for number in range(10_000)}, separators=(",", ":")).encode()
    driver = Driver()
    driver.one(Set(b"k", document))
    most = COMMAND_WORK_MAX // (len(document) * (COMMAND_WORK_REPLY + COMMAND_WORK_MERGE))
    done, refused = split(driver.do(*[Update(b"k", merge_json=b'{"k1":2}')] * 60))
    assert most - 1 <= done <= most
    assert refused == 60 - done
    small = [Update(b"s", merge_json=b'{"a":1}')] * 4096
    driver.one(Set(b"s", b'{"b":2}'))
    assert all(isinstance(one, UpdateResult) for one in driver.do(*small)), "many small ones are no problem"


def test_a_transaction_that_is_too_much_is_undone() -> None:
    driver = Driver()
    driver.one(Set(b"k", LARGE))
    result = driver.run(Command(ops=(Set(b"new", b""), *[Get(b"k")] * (GETS_MAX + 1)), atomic=True))[0]
    assert isinstance(result, Refusal)
    assert (result.code, result.failed_op) == (RefusalCode.BATCH_ABORTED, GETS_MAX + 1)
    txn = driver.one(Txn(then_ops=(Set(b"new", b""), *[Get(b"k")] * (GETS_MAX + 1))))
    assert isinstance(txn, Refusal)
    assert driver.machine.peek(b"new") is None
