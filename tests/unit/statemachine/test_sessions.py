"""Exactly once: sessions, request ids."""

import pytest

from replcache.constants import REQUEST_ID_TTL_MS
from replcache.statemachine import sessions as sessions_module
from replcache.statemachine.commands import (
    Command,
    Get,
    Increment,
    LockAcquire,
    LockRelease,
    SessionClose,
    SessionKeep,
    SessionOpen,
    Set,
    SetMany,
)
from replcache.statemachine.results import (
    CommandResult,
    LockResult,
    Refusal,
    RefusalCode,
    SessionResult,
    SetManyResult,
)
from tests.helpers.machine import Driver, replay


@pytest.fixture
def driver() -> Driver:
    return Driver()


def open_session(driver: Driver, ttl_ms: int = 10_000) -> int:
    result = driver.one(SessionOpen(ttl_ms))
    assert isinstance(result, SessionResult)
    assert result.session_id == result.revision == driver.machine.revision
    return result.session_id


def increment(session: int, sequence: int, acked_below: int = 0, **more: bytes) -> Command:
    return Command((Increment(b"n", 1),), None, False, session, sequence, acked_below, **more)


def count(driver: Driver) -> bytes:
    entry = driver.machine.peek(b"n")
    return b"0" if entry is None else entry.value


def code(result: CommandResult) -> RefusalCode:
    assert isinstance(result, Refusal), result
    return result.code


def test_a_retry_gets_the_first_reply_again_and_executes_nothing(driver: Driver) -> None:
    session = open_session(driver)
    first = driver.run(increment(session, 1))[0]
    driver.one(Set(b"n", b"100"))
    digest_before = driver.machine.revision
    assert driver.run(increment(session, 1))[0] == first
    assert count(driver) == b"100"
    assert driver.machine.revision == digest_before


def test_sequences_may_arrive_out_of_order(driver: Driver) -> None:
    session = open_session(driver)
    for sequence in (3, 1, 2, 3, 2, 1):
        driver.run(increment(session, sequence))
    assert count(driver) == b"3"


def test_a_retry_in_the_same_entry_counts_once(driver: Driver) -> None:
    session = open_session(driver)
    first, second = driver.run(increment(session, 1), increment(session, 1))
    assert first == second
    assert count(driver) == b"1"


def test_an_acknowledged_sequence_is_never_executed_again(driver: Driver) -> None:
    session = open_session(driver)
    for sequence in (1, 2, 3):
        driver.run(increment(session, sequence, acked_below=sequence))
    assert code(driver.run(increment(session, 2))[0]) is RefusalCode.SESSION_EXPIRED
    assert count(driver) == b"3"


def test_acknowledging_frees_the_stored_replies(driver: Driver) -> None:
    session = open_session(driver)
    driver.run(*(increment(session, sequence) for sequence in range(1, 11)))
    full = driver.machine.statistics().stored_replies_bytes
    driver.run(increment(session, 11, acked_below=11))
    assert 0 < driver.machine.statistics().stored_replies_bytes < full / 5
    driver.run(increment(session, 2**63, acked_below=2**63))
    driver.machine.check_invariants()
    assert len(driver.machine.replies.sessions[session].replies) == 1


def test_refusals_are_remembered_too(driver: Driver) -> None:
    session = open_session(driver)
    driver.one(Set(b"n", b"text"))
    first = driver.run(increment(session, 1))[0]
    driver.one(Set(b"n", b"1"))
    assert driver.run(increment(session, 1))[0] == first
    assert count(driver) == b"1"


def test_set_many_and_locks_are_remembered(driver: Driver) -> None:
    session = open_session(driver)
    many = Command(set_many=SetMany([b"x", b"y"], [b"1", b"2"]), session_id=session, session_sequence=1)
    first = driver.run(many)[0]
    assert isinstance(first, SetManyResult)
    assert driver.run(many)[0] == first
    lock = Command((LockAcquire("l", b"o", 5000),), session_id=session, session_sequence=2)
    granted = driver.run(lock)[0]
    driver.one(LockRelease("l", b"o"))
    assert driver.run(lock)[0] == granted
    assert isinstance(granted, tuple)
    assert isinstance(granted[0], LockResult)
    assert driver.machine.held_token("l", b"o") == 0


def test_an_unknown_session_executes_nothing(driver: Driver) -> None:
    assert code(driver.run(increment(77, 1))[0]) is RefusalCode.SESSION_EXPIRED
    assert count(driver) == b"0"


def test_a_session_ends_when_unused_for_its_ttl_and_not_before(driver: Driver) -> None:
    session = open_session(driver, 1000)
    driver.pass_ms(999)
    driver.run(increment(session, 1))
    driver.pass_ms(999)
    assert driver.one(SessionKeep(session)) == SessionResult(session, True, driver.machine.revision, 1000)
    driver.pass_ms(999)
    driver.run(increment(session, 2))
    assert count(driver) == b"2"
    driver.clock_ms += 1000
    # No tick in between: the entry that brings the time also brings the command.
    assert code(driver.run(increment(session, 1))[0]) is RefusalCode.SESSION_EXPIRED
    assert driver.one(SessionKeep(session)) == SessionResult(0, False, driver.machine.revision, 0)
    assert count(driver) == b"2"


def test_a_closed_session_is_gone_even_from_within(driver: Driver) -> None:
    session = open_session(driver)
    driver.run(Command((SessionClose(session),), session_id=session, session_sequence=1))
    assert code(driver.run(increment(session, 2))[0]) is RefusalCode.SESSION_EXPIRED
    driver.machine.check_invariants()


def test_sequence_zero_is_refused(driver: Driver) -> None:
    session = open_session(driver)
    assert code(driver.run(increment(session, 0))[0]) is RefusalCode.SESSION_EXPIRED


def test_too_many_unacknowledged_replies_are_refused_without_executing(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "SESSION_REPLIES_MAX", 3)
    session = open_session(driver)
    driver.run(*(increment(session, sequence) for sequence in (1, 2, 3)))
    assert code(driver.run(increment(session, 4))[0]) is RefusalCode.QUOTA_EXCEEDED
    assert count(driver) == b"3"
    # It was not executed, so the retry may be, when there is room.
    driver.run(increment(session, 4, acked_below=2))
    assert count(driver) == b"4"


def test_replies_are_bounded_by_bytes(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "SESSION_REPLY_BYTES_MAX", 10_000)
    monkeypatch.setattr(sessions_module, "REPLY_BYTES_MAX", 15_000)
    driver.one(Set(b"big", b"x" * 9000))
    results = []
    for _ in range(2):
        session = open_session(driver)
        for sequence in (1, 2, 3):
            results.append(driver.run(Command((Get(b"big"),), None, False, session, sequence, 0))[0])
    refused = [isinstance(result, Refusal) for result in results]
    assert refused == [False, False, True, True, True, True]


def test_sessions_are_bounded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "SESSIONS_MAX", 2)
    open_session(driver)
    open_session(driver)
    assert code(driver.one(SessionOpen(1000))) is RefusalCode.QUOTA_EXCEEDED  # type: ignore[arg-type]
    assert code(driver.one(SessionOpen(0))) is RefusalCode.INVALID  # type: ignore[arg-type]


def test_many_sessions_that_end_at_once_are_unknown_at_once_and_forgotten_in_portions(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "REMOVALS_PER_ENTRY_MAX", 3)
    opened = [open_session(driver, 1000) for _ in range(8)]
    driver.pass_ms(1000)
    assert len(driver.machine.replies.sessions) == 5
    # The last ones first: those are still in the table.
    for session in reversed(opened):
        assert code(driver.run(increment(session, 1))[0]) is RefusalCode.SESSION_EXPIRED
    assert driver.machine.replies.sessions == {}
    assert driver.machine.next_due_ms() is None


def test_a_request_id_executes_once_for_its_time(driver: Driver) -> None:
    command = increment(0, 0, request_id=b"once")
    first = driver.run(command)[0]
    driver.pass_ms(REQUEST_ID_TTL_MS - 1)
    assert driver.run(command)[0] == first
    assert count(driver) == b"1"
    driver.clock_ms += 1
    driver.run(command)
    assert count(driver) == b"2"
    driver.machine.check_invariants()


def test_request_ids_are_bounded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "REQUEST_IDS_MAX", 2)
    results = [driver.run(increment(0, 0, request_id=b"%d" % n))[0] for n in range(3)]
    assert code(results[2]) is RefusalCode.QUOTA_EXCEEDED
    assert count(driver) == b"2"
    driver.pass_ms(REQUEST_ID_TTL_MS)
    assert driver.machine.statistics().request_ids == 0
    assert driver.machine.statistics().stored_replies_bytes == 0


def test_an_overdue_request_id_that_is_still_stored_executes_again(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removals are bounded per entry, so an id past its time may still lie in the table."""
    monkeypatch.setattr(sessions_module, "REMOVALS_PER_ENTRY_MAX", 1)
    driver.run(*(increment(0, 0, request_id=b"%d" % n) for n in range(4)))
    driver.clock_ms += REQUEST_ID_TTL_MS
    driver.run(increment(0, 0, request_id=b"3"))
    assert count(driver) == b"5"
    driver.machine.check_invariants()
    for _ in range(4):
        driver.pass_ms(1)
    assert list(driver.machine.replies.requests) == [b"3"]
    driver.pass_ms(REQUEST_ID_TTL_MS)
    assert driver.machine.replies.requests == {}


def test_a_session_has_the_id_that_was_drawn_for_it_unless_somebody_has_it() -> None:
    driver = Driver()
    drawn = 2**52 + 7
    first, second = driver.one(SessionOpen(1000, drawn)), driver.one(SessionOpen(1000, drawn))
    assert first == SessionResult(drawn, True, 1, 1000)
    assert second == SessionResult(2, True, 2, 1000)
    assert driver.one(SessionKeep(drawn)) == SessionResult(drawn, True, 2, 1000)
    copy = replay(driver.payloads)
    assert copy.digest() == driver.machine.digest()
