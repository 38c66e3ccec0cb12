"""The table of errors is total, and each status carries the details that its class promises."""

from collections.abc import Iterator

import grpc
import pytest

from replcache import errors
from replcache.server import status_map
from replcache.statemachine.results import Refusal, RefusalCode
from tests.helpers.serving import wire_error

S = grpc.StatusCode


def tree(cls: type[errors.ReplcacheError] = errors.ReplcacheError) -> Iterator[type[errors.ReplcacheError]]:
    yield cls
    for below in cls.__subclasses__():
        if below.__module__ == "replcache.errors":
            yield from tree(below)


# Written down once more on purpose: what clients in other languages rely on.
EXPECTED = {
    errors.ReplcacheError: S.INTERNAL,
    errors.InvalidRequest: S.INVALID_ARGUMENT,
    errors.TooLarge: S.INVALID_ARGUMENT,
    errors.Refused: S.FAILED_PRECONDITION,
    errors.NotFound: S.NOT_FOUND,
    errors.ConditionFailed: S.FAILED_PRECONDITION,
    errors.FenceRejected: S.FAILED_PRECONDITION,
    errors.WrongType: S.FAILED_PRECONDITION,
    errors.OutOfRange: S.OUT_OF_RANGE,
    errors.LockTimeout: S.ABORTED,
    errors.LockLost: S.FAILED_PRECONDITION,
    errors.SessionExpired: S.FAILED_PRECONDITION,
    errors.BatchAborted: S.ABORTED,
    errors.QuotaExceeded: S.RESOURCE_EXHAUSTED,
    errors.Compacted: S.OUT_OF_RANGE,
    errors.WatchTooSlow: S.RESOURCE_EXHAUSTED,
    errors.NotApplied: S.UNAVAILABLE,
    errors.Unavailable: S.UNAVAILABLE,
    errors.NoLeader: S.UNAVAILABLE,
    errors.Overloaded: S.RESOURCE_EXHAUSTED,
    errors.RateLimited: S.RESOURCE_EXHAUSTED,
    errors.StalenessUnavailable: S.UNAVAILABLE,
    errors.DeadlineExceeded: S.DEADLINE_EXCEEDED,
    errors.ClientClosed: S.UNAVAILABLE,
    errors.OutcomeUnknown: S.UNAVAILABLE,
    errors.Unauthenticated: S.UNAUTHENTICATED,
    errors.PermissionDenied: S.PERMISSION_DENIED,
    errors.NodeHalted: S.UNAVAILABLE,
    errors.ConfigError: S.INTERNAL,
    errors.StorageError: S.INTERNAL,
    errors.CorruptLog: S.DATA_LOSS,
    errors.CorruptSnapshot: S.DATA_LOSS,
}


def test_table_has_exactly_the_classes_of_the_tree() -> None:
    assert set(status_map.WIRE_FORMS) == set(tree()) == set(EXPECTED)


@pytest.mark.parametrize("cls", list(tree()), ids=lambda cls: cls.__name__)
def test_each_error_has_its_code_and_its_details(cls: type[errors.ReplcacheError]) -> None:
    wire = wire_error(status_map.to_status(cls("what happened", metadata={"key": "value"})))
    assert wire.code is EXPECTED[cls]
    assert (wire.message, wire.reason) == ("what happened", cls.reason)
    assert wire.may_have_executed is cls.may_have_executed
    assert wire.metadata == {"key": "value"}
    waits = issubclass(cls, errors.NotApplied | errors.QuotaExceeded) and cls not in (
        errors.DeadlineExceeded,
        errors.ClientClosed,
    )
    assert (wire.retry_after_s is not None) is waits
    assert wire.precondition == (cls.reason if cls in (errors.ConditionFailed, errors.FenceRejected) else "")


def test_outcome_unknown_gives_no_advice_to_retry() -> None:
    """RetryInfo would make generic clients send the write twice."""
    wire = wire_error(status_map.to_status(errors.OutcomeUnknown()))
    assert wire.retry_after_s is None
    assert wire.may_have_executed


def test_field_of_a_bad_request_is_named() -> None:
    wire = wire_error(status_map.to_status(errors.TooLarge("key: 2 bytes, limit 1", field="key")))
    assert wire.field == "key"


def test_advice_of_the_error_itself_wins() -> None:
    assert wire_error(status_map.to_status(errors.NoLeader(retry_after_s=1.5))).retry_after_s == 1.5


def test_subclass_of_another_module_is_mapped_like_its_base() -> None:
    class DiskFullHere(errors.Overloaded):
        """Made by a layer below."""

    assert status_map.wire_form(DiskFullHere()).code is S.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("code", list(RefusalCode))
def test_each_refusal_is_an_error(code: RefusalCode) -> None:
    error = status_map.refusal_error(Refusal(code, "said no"))
    assert isinstance(error, errors.Refused | errors.InvalidRequest)
    assert str(error) == "said no"


def test_aborted_batch_names_operation_and_cause() -> None:
    refusal = Refusal(RefusalCode.BATCH_ABORTED, "operation 3", 3, RefusalCode.NOT_FOUND)
    assert status_map.refusal_error(refusal).metadata == {"failed_operation": "3", "cause": "NOT_FOUND"}


def test_internal_error_says_whether_it_may_have_executed() -> None:
    assert wire_error(status_map.internal_status(True)).may_have_executed
    assert not wire_error(status_map.internal_status(False)).may_have_executed
