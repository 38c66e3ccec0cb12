"""google.rpc.Status -> exceptions."""

from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from replcache import errors
from replcache.client.batches import copy_error
from replcache.client.status import BY_REASON, from_rpc_error, from_status, is_from_server


def make(code: grpc.StatusCode, reason: str = "", **metadata: str) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message="words")
    if reason:
        status.details.add().Pack(
            error_details_pb2.ErrorInfo(reason=reason, domain="replcache", metadata=metadata)
        )
    return status


def all_classes(base: type[errors.ReplcacheError]) -> list[type[errors.ReplcacheError]]:
    """The public tree: what other packages derive from it for their own use never reaches the wire."""
    public = [sub for sub in base.__subclasses__() if sub.__module__ == errors.__name__]
    return [base, *(cls for sub in public for cls in all_classes(sub))]


def test_rpc_error_of_a_blocking_call() -> None:
    class BlockingError(grpc.RpcError, grpc.Call):
        """As grpc._channel raises them: the error is the call."""

        def trailing_metadata(self) -> Any:
            status = make(grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE")
            return (("grpc-status-details-bin", status.SerializeToString()),)

    BlockingError.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    error = BlockingError()
    assert type(from_rpc_error(error)) is errors.OutOfRange
    assert is_from_server(error)


@pytest.mark.parametrize("cls", all_classes(errors.ReplcacheError), ids=lambda cls: cls.reason)
def test_every_error_of_the_tree_is_found_by_its_reason(cls: type[errors.ReplcacheError]) -> None:
    error = from_status(make(grpc.StatusCode.UNKNOWN, cls.reason, key="k"))
    assert type(error) is BY_REASON[cls.reason]
    assert error.reason == cls.reason
    assert error.metadata == {"key": "k"}
    assert str(error) == "words"


def test_reasons_are_unique() -> None:
    classes = all_classes(errors.ReplcacheError)
    assert len({cls.reason for cls in classes}) == len(classes)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.Refused),
        (grpc.StatusCode.ABORTED, errors.Refused),
        (grpc.StatusCode.OUT_OF_RANGE, errors.OutOfRange),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
        (grpc.StatusCode.UNAVAILABLE, errors.OutcomeUnknown),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.OutcomeUnknown),
        (grpc.StatusCode.UNIMPLEMENTED, errors.ReplcacheError),
    ],
)
@pytest.mark.parametrize("reason", ["", "FROM_THE_FUTURE"])
def test_unknown_reason_falls_back_to_the_code(
    code: grpc.StatusCode, cls: type[errors.ReplcacheError], reason: str
) -> None:
    error = from_status(make(code, reason))
    assert type(error) is cls
    assert error.reason == (reason or cls.reason)


def test_what_the_server_says_about_execution_wins() -> None:
    status = make(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", may_have_executed="true")
    assert from_status(status).may_have_executed
    status = make(grpc.StatusCode.UNAVAILABLE, "FROM_THE_FUTURE", may_have_executed="false")
    assert not from_status(status).may_have_executed


def test_retry_info() -> None:
    status = make(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    delay = duration_pb2.Duration(seconds=1, nanos=500_000_000)
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    assert from_status(status).retry_after_s == 1.5


def test_rpc_error_with_and_without_readable_details() -> None:
    def rpc(code: grpc.StatusCode, trailer: bytes | None) -> grpc.aio.AioRpcError:
        trailers = grpc.aio.Metadata()
        if trailer is not None:
            trailers.add("grpc-status-details-bin", trailer)
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, "words")

    details = make(grpc.StatusCode.FAILED_PRECONDITION, "LOCK_LOST").SerializeToString()
    assert type(from_rpc_error(rpc(grpc.StatusCode.FAILED_PRECONDITION, details))) is errors.LockLost
    for trailer in (None, b"\xff\xff\xff"):
        error = from_rpc_error(rpc(grpc.StatusCode.UNAVAILABLE, trailer))
        assert type(error) is errors.OutcomeUnknown


@pytest.mark.parametrize("cls", all_classes(errors.ReplcacheError), ids=lambda cls: cls.reason)
def test_copies_say_the_same(cls: type[errors.ReplcacheError]) -> None:
    error = cls("words", retry_after_s=2.0, metadata={"field": "key"})
    error.may_have_executed = True
    twin = copy_error(error)
    assert twin is not error
    assert type(twin) is cls
    assert str(twin) == "words"
    assert (twin.reason, twin.retry_after_s, twin.metadata) == (cls.reason, 2.0, {"field": "key"})
    assert twin.may_have_executed
