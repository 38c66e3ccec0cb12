"""What follows from an answer: the table of decisions, and the back-off."""

import random

import pytest

from replcache import errors
from replcache.client.retry import Action, Backoff, after_deadline, decide


def action(error: errors.ReplcacheError, **facts: bool) -> Action:
    given = {"is_write": True, "maybe_executed": False, "can_split": False, **facts}
    return decide(error, **given).action


@pytest.mark.parametrize("maybe_executed", [False, True])
@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        errors.Unavailable(),
        errors.NoLeader(),
        errors.Overloaded(),
        errors.DeadlineExceeded(),
        errors.NotApplied(),
        errors.OutcomeUnknown(),
        errors.NodeHalted(),
    ],
    ids=lambda error: error.reason,
)
def test_what_another_node_may_answer_is_sent_again(
    error: errors.ReplcacheError, is_write: bool, maybe_executed: bool
) -> None:
    assert action(error, is_write=is_write, maybe_executed=maybe_executed) is Action.RETRY


@pytest.mark.parametrize("maybe_executed", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        errors.ConditionFailed(),
        errors.NotFound(),
        errors.BatchAborted(),
        errors.FenceRejected(),
        errors.QuotaExceeded(),
        errors.LockTimeout(),
    ],
    ids=lambda error: error.reason,
)
def test_answer_of_the_state_machine_is_final(error: errors.ReplcacheError, maybe_executed: bool) -> None:
    decision = decide(error, is_write=True, maybe_executed=maybe_executed, can_split=False)
    assert decision.action is Action.FAIL
    assert decision.error is error


@pytest.mark.parametrize("maybe_executed", [False, True])
@pytest.mark.parametrize("error", [errors.FenceRejected(), errors.QuotaExceeded()], ids=lambda e: e.reason)
def test_a_message_refused_for_one_of_its_callers_is_taken_apart(
    error: errors.ReplcacheError, maybe_executed: bool
) -> None:
    decision = decide(error, is_write=True, maybe_executed=maybe_executed, can_split=True)
    assert decision.action is Action.SPLIT


def test_lost_session_is_replaced_only_when_nothing_can_have_been_executed() -> None:
    gone = errors.SessionExpired()
    assert action(gone) is Action.NEW_SESSION
    decision = decide(gone, is_write=True, maybe_executed=True, can_split=True)
    assert decision.action is Action.FAIL
    assert isinstance(decision.error, errors.OutcomeUnknown)
    assert decision.error.may_have_executed


def test_fault_of_one_request_splits_the_message() -> None:
    for error in (errors.InvalidRequest("bad"), errors.TooLarge("big"), errors.PermissionDenied("no")):
        assert action(error, can_split=True) is Action.SPLIT
        assert action(error, can_split=False) is Action.FAIL
        assert action(error, is_write=False, can_split=True) is Action.SPLIT
    assert action(errors.Unauthenticated("who"), can_split=True) is Action.FAIL


def test_refusal_after_an_unanswered_try_is_unknown() -> None:
    """The earlier try may have reached a node that accepted it."""
    decision = decide(errors.InvalidRequest("bad"), is_write=True, maybe_executed=True, can_split=True)
    assert decision.action is Action.FAIL
    assert isinstance(decision.error, errors.OutcomeUnknown)
    read = decide(errors.InvalidRequest("bad"), is_write=False, maybe_executed=True, can_split=False)
    assert isinstance(read.error, errors.InvalidRequest)


def test_staleness_is_said_at_once() -> None:
    assert action(errors.StalenessUnavailable(), is_write=False) is Action.FAIL


def test_internal_error_of_a_write_is_unknown_unless_the_server_says_not() -> None:
    error = errors.ReplcacheError("bug")
    assert isinstance(decide(error, is_write=True, maybe_executed=False, can_split=False).error, type(error))
    error.may_have_executed = True
    found = decide(error, is_write=True, maybe_executed=False, can_split=False).error
    assert isinstance(found, errors.OutcomeUnknown)


@pytest.mark.parametrize(
    ("last", "is_write", "maybe_executed", "expected"),
    [
        (None, True, False, errors.DeadlineExceeded),
        (None, True, True, errors.OutcomeUnknown),
        (None, False, True, errors.DeadlineExceeded),
        (errors.NoLeader("none"), True, False, errors.NoLeader),
        (errors.NoLeader("none"), True, True, errors.OutcomeUnknown),
        (errors.NoLeader("none"), False, True, errors.NoLeader),
        (errors.OutcomeUnknown("lost"), False, True, errors.Unavailable),
        (errors.OutcomeUnknown("lost"), True, True, errors.OutcomeUnknown),
        (errors.DeadlineExceeded("late"), True, False, errors.DeadlineExceeded),
    ],
)
def test_end_of_the_time(
    last: errors.ReplcacheError | None,
    is_write: bool,
    maybe_executed: bool,
    expected: type[errors.ReplcacheError],
) -> None:
    error = after_deadline(last, is_write=is_write, maybe_executed=maybe_executed, timeout_s=2)
    assert type(error) is expected
    assert error.may_have_executed == (is_write and maybe_executed)
    assert "2 s" in str(error)


def test_backoff_grows_is_jittered_and_bounded(rng: random.Random) -> None:
    backoff = Backoff(0.02, 0.5)
    assert backoff.delay_s(0, rng) == 0.0
    for failures in range(1, 40):
        ceiling = min(0.5, 0.02 * 2 ** (failures - 1))
        delays = [backoff.delay_s(failures, rng) for _ in range(50)]
        assert all(ceiling / 2 <= delay <= ceiling for delay in delays)
        assert len(set(delays)) > 10


def test_advice_of_the_server_is_a_bounded_lower_bound(rng: random.Random) -> None:
    backoff = Backoff(0.02, 0.5)
    assert backoff.delay_s(1, rng, retry_after_s=0.3) == 0.3
    assert backoff.delay_s(1, rng, retry_after_s=3600) == 0.5
    assert backoff.delay_s(6, rng, retry_after_s=0.001) >= 0.25
