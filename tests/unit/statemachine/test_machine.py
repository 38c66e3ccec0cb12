"""The machine as a whole: indexes, conditions, atomic batches, totality, checks that can fail."""

import pytest

from replcache.statemachine import codec
from replcache.statemachine.commands import (
    Command,
    Condition,
    Delete,
    Get,
    Group,
    Increment,
    SessionOpen,
    Set,
    SetMany,
    Touch,
    Update,
)
from replcache.statemachine.entries import Entry
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import (
    DeleteResult,
    GetResult,
    Refusal,
    RefusalCode,
    SetManyResult,
    SetResult,
)
from tests.helpers.machine import Driver, replay


def test_an_index_that_is_not_above_the_last_halts() -> None:
    driver = Driver()
    driver.one(Set(b"k", b"v"))
    with pytest.raises(InvariantBroken, match="entry 1 after entry 1"):
        driver.machine.apply(1, driver.payloads[0])


def test_malformed_bytes_halt_and_do_not_execute() -> None:
    machine = StateMachine()
    with pytest.raises(InvariantBroken, match="malformed"):
        machine.apply(1, b"\xff\xff")
    good = codec.encode_group(Group("n", 1, 1, 0, (Command((Set(b"k", b"v"),)),)))
    with pytest.raises((InvariantBroken, UnknownFormat)):
        machine.apply(1, codec.encode_entry(5, [good, b"\x08"]))
    assert machine.peek(b"k") is None


def test_indexes_may_have_gaps_for_entries_that_are_no_commands() -> None:
    machine = StateMachine()
    machine.apply(5, codec.encode_entry(10, []))
    machine.apply(9, codec.encode_entry(20, []))
    assert (machine.applied_index, machine.clock_ms) == (9, 20)


@pytest.mark.parametrize(
    ("condition", "on_missing", "on_version_1"),
    [
        (Condition(), True, True),
        (Condition(if_absent=True), True, False),
        (Condition(if_present=True), False, True),
        (Condition(if_version=0), True, False),
        (Condition(if_version=1), False, True),
        (Condition(if_version=2), False, False),
        (Condition(if_value=b"v"), False, True),
        (Condition(if_value=b""), False, False),
        (Condition(if_mod_revision=1), False, True),
        (Condition(if_mod_revision=2), False, False),
        (Condition(if_version=1, if_value=b"w"), False, False),
        (Condition(if_absent=True, if_present=True), False, False),
    ],
)
def test_conditions(condition: Condition, on_missing: bool, on_version_1: bool) -> None:
    for present, expected in ((False, on_missing), (True, on_version_1)):
        driver = Driver()
        if present:
            driver.one(Set(b"k", b"v"))
        revision = driver.machine.revision
        result = driver.one(Set(b"k", b"new", condition=condition))
        if expected:
            assert result == SetResult(2 if present else 1, revision + 1)
        else:
            assert isinstance(result, Refusal)
            assert result.code is RefusalCode.CONDITION_FAILED
            assert b"v" not in result.message.encode().split()
            assert driver.machine.revision == revision


def test_a_mod_revision_never_comes_back_where_a_version_does() -> None:
    """The proof of a fill: deleted and made again, the key has its old version and not its old revision."""
    driver = Driver()
    first = driver.one(Set(b"k", b"v", ttl_ms=1000))
    assert isinstance(first, SetResult)
    driver.one(Touch(b"k", 2000, condition=Condition(if_mod_revision=first.revision)))
    own = Condition(if_mod_revision=first.revision)
    assert driver.one(Set(b"k", b"v", condition=Condition(if_version=1, if_mod_revision=first.revision)))
    assert isinstance(driver.one(Set(b"k", b"w", condition=own)), Refusal)
    driver.one(Delete(b"k"))
    again = driver.one(Set(b"k", b"v"))
    assert isinstance(again, SetResult)
    assert again.version == first.version
    assert isinstance(driver.one(Set(b"k", b"stale", condition=own)), Refusal)
    assert isinstance(driver.one(Delete(b"k", condition=own)), Refusal)


def test_previous_is_given_when_asked_for() -> None:
    driver = Driver()
    driver.one(Set(b"k", b"1", content_type="a/b"))
    old = driver.machine.peek(b"k")
    assert driver.one(Set(b"k", b"2", want_previous=True)) == SetResult(2, 2, old)
    deleted = driver.one(Delete(b"k", want_previous=True))
    assert isinstance(deleted, DeleteResult)
    assert deleted.previous is not None
    assert (deleted.previous.value, deleted.previous.content_type) == (b"2", "")
    assert driver.one(Delete(b"k", want_previous=True)) == DeleteResult(False, 3, None)


def test_set_replaces_everything_but_keep_ttl_keeps_the_expiry() -> None:
    driver = Driver()
    driver.one(Set(b"k", b"1", "a/b", ttl_ms=100, idle_ttl_ms=50, max_reads=2, tags=("t",)))
    driver.one(Set(b"k", b"2", keep_ttl=True, ttl_ms=7777))
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert (entry.expires_at_ms, entry.idle_ttl_ms, entry.content_type, entry.reads_left, entry.tags) == (
        50,
        50,
        "",
        0,
        (),
    )
    driver.one(Set(b"k", b"3"))
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert (entry.expires_at_ms, entry.idle_ttl_ms) == (0, 0)
    driver.one(Set(b"new", b"", keep_ttl=True, ttl_ms=60))
    created = driver.machine.peek(b"new")
    assert created is not None
    assert created.expires_at_ms == 60


def test_atomic_batches_see_their_own_writes_and_have_one_revision() -> None:
    driver = Driver()
    driver.one(Set(b"a", b"1"))
    result = driver.atomic(
        Increment(b"a", 1), Get(b"a"), Set(b"b", b"x"), Delete(b"b"), Get(b"b"), Set(b"c", b"")
    )
    assert isinstance(result, tuple)
    got_a, got_b = result[1], result[4]
    assert isinstance(got_a, GetResult)
    assert isinstance(got_b, GetResult)
    assert got_a.entry is not None
    assert (got_a.entry.value, got_a.entry.mod_revision) == (b"2", 2)
    assert got_b.entry is None
    assert driver.machine.revision == 2
    assert [(event.key, event.revision) for event in driver.events] == [(b"a", 2), (b"c", 2)]  # type: ignore[union-attr]


def test_an_aborted_batch_leaves_nothing_behind() -> None:
    driver = Driver()
    driver.do(Set(b"a", b"1", ttl_ms=1000), Set(b"t", b"text"))
    before, revision = driver.machine.scan(b"", b"", 10), driver.machine.revision
    result = driver.atomic(
        Set(b"a", b"2"),
        Delete(b"t"),
        Touch(b"a", 5),
        Set(b"new", b""),
        Update(b"nothing", append=b"x"),
        Set(b"z", b""),
    )
    assert isinstance(result, Refusal)
    assert (result.code, result.failed_op, result.cause) == (
        RefusalCode.BATCH_ABORTED,
        4,
        RefusalCode.NOT_FOUND,
    )
    assert driver.events == []
    driver.machine.check_invariants()
    assert (driver.machine.scan(b"", b"", 10), driver.machine.revision) == (before, revision)
    assert driver.machine.next_due_ms() == 1000
    other = replay(driver.payloads)
    assert other.digest() == driver.machine.digest()


def test_set_many_versions_and_revisions() -> None:
    driver = Driver()
    driver.one(Set(b"b", b"0"))
    each = driver.run(Command(set_many=SetMany([b"a", b"b", b"a"], [b"1", b"2", b"3"])))[0]
    assert each == SetManyResult([1, 2, 2], 2)
    together = driver.run(Command(set_many=SetMany([b"a", b"c"], [b"4", b"5"]), atomic=True))[0]
    assert together == SetManyResult([3, 1], 5)
    assert driver.machine.revision == 5
    nothing = driver.run(Command(set_many=SetMany([], [])))[0]
    assert nothing == SetManyResult([], 5)
    entries = driver.machine.peek_many([b"a", b"b", b"c", b"d"])
    assert [entry and entry.mod_revision for entry in entries] == [5, 3, 5, None]


def test_an_empty_command_has_an_empty_result() -> None:
    assert Driver().run(Command()) == [()]


def test_a_lease_that_does_not_exist_is_refused() -> None:
    result = Driver().one(Set(b"k", b"v", lease_id=5))
    assert isinstance(result, Refusal)
    assert result.code is RefusalCode.NOT_FOUND


def test_the_chain_tells_different_histories_apart() -> None:
    first, second = Driver(), Driver()
    for driver in (first, second):
        driver.one(Set(b"k", b"v"))
    assert first.machine.chain == second.machine.chain != 0
    first.one(Set(b"k", b"1"))
    second.one(Set(b"k", b"2"))
    assert first.machine.chain != second.machine.chain
    assert first.machine.digest() != second.machine.digest()


def test_entries_are_immutable_values() -> None:
    entry = Entry(b"v", content_type="a/b", version=3, expires_at_ms=5, tags=("t",))
    assert entry == Entry(b"v", content_type="a/b", version=3, expires_at_ms=5, tags=("t",))
    assert entry != Entry(b"v")
    assert len({entry, Entry(b"v"), Entry(b"v")}) == 2
    with pytest.raises(AttributeError, match="immutable"):
        entry.version = 4  # type: ignore[misc]
    with pytest.raises(AttributeError):
        entry.other = 4  # type: ignore[attr-defined]


def test_check_invariants_finds_what_is_broken() -> None:
    def broken(change: str) -> Driver:
        driver = Driver()
        driver.do(Set(b"k", b"v", ttl_ms=100), SessionOpen(100))
        machine = driver.machine
        row = machine.store.rows[b"k"]
        if change == "bytes":
            machine.store.size_bytes += 1
        elif change == "unindexed":
            machine.store.rows[b"x"] = (b"", 1, 1, 1, None)
            machine.store.size_bytes += 1
        elif change == "revision":
            machine.store.rows[b"k"] = (row[0], 9, 9, 1, row[4])
        elif change == "timer":
            machine.store.timers.cancel(100, b"k")
        else:
            machine.replies.bytes += 1
        return driver

    for change in ("bytes", "unindexed", "revision", "timer", "replies"):
        with pytest.raises(InvariantBroken):
            broken(change).machine.check_invariants()
