"""THE table from the error tree (replcache/errors.py) to gRPC status codes and details.

Total over the tree: a class without an entry here is a programmer's error that a test finds. Every status
carries exactly one google.rpc.ErrorInfo (AIP-193) with the reason, the domain and `may_have_executed`;
RetryInfo where waiting helps, BadRequest where a field is at fault, PreconditionFailure where the state is.
Nothing else in the server chooses a status code.
"""

from dataclasses import dataclass
from typing import TypeAlias

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from replcache import errors
from replcache.statemachine.results import Refusal, RefusalCode

DOMAIN = "replcache"
# How grpcio names the trailer that carries google.rpc.Status (grpcio-status uses the same).
STATUS_DETAILS_TRAILER = "grpc-status-details-bin"
TYPE_URL_PREFIX = "type.googleapis.com/"


@dataclass(frozen=True, slots=True)
class WireForm:
    """How a class of errors looks on the wire; retry_after_s counts when the error gives no advice itself."""

    code: grpc.StatusCode
    retry_after_s: float | None = None


_PRECONDITION = WireForm(grpc.StatusCode.FAILED_PRECONDITION)
_INVALID = WireForm(grpc.StatusCode.INVALID_ARGUMENT)
_INTERNAL = WireForm(grpc.StatusCode.INTERNAL)
# An election takes 0.5 to 1 s; a tenth of it wastes neither tries nor time.
_ELECTION_RETRY_S = 0.1
_OVERLOAD_RETRY_S = 0.05
_QUOTA_RETRY_S = 1.0

WIRE_FORMS: dict[type[errors.ReplcacheError], WireForm] = {
    errors.ReplcacheError: _INTERNAL,
    errors.InvalidRequest: _INVALID,
    errors.TooLarge: _INVALID,
    errors.Refused: _PRECONDITION,
    errors.NotFound: WireForm(grpc.StatusCode.NOT_FOUND),
    errors.ConditionFailed: _PRECONDITION,
    errors.FenceRejected: _PRECONDITION,
    errors.WrongType: _PRECONDITION,
    errors.OutOfRange: WireForm(grpc.StatusCode.OUT_OF_RANGE),
    errors.LockTimeout: WireForm(grpc.StatusCode.ABORTED),
    errors.LockLost: _PRECONDITION,
    errors.SessionExpired: _PRECONDITION,
    errors.BatchAborted: WireForm(grpc.StatusCode.ABORTED),
    errors.QuotaExceeded: WireForm(grpc.StatusCode.RESOURCE_EXHAUSTED, _QUOTA_RETRY_S),
    errors.Compacted: WireForm(grpc.StatusCode.OUT_OF_RANGE),
    errors.WatchTooSlow: WireForm(grpc.StatusCode.RESOURCE_EXHAUSTED),
    errors.NotApplied: WireForm(grpc.StatusCode.UNAVAILABLE, _ELECTION_RETRY_S),
    errors.Unavailable: WireForm(grpc.StatusCode.UNAVAILABLE, _ELECTION_RETRY_S),
    errors.NoLeader: WireForm(grpc.StatusCode.UNAVAILABLE, _ELECTION_RETRY_S),
    errors.Overloaded: WireForm(grpc.StatusCode.RESOURCE_EXHAUSTED, _OVERLOAD_RETRY_S),
    errors.RateLimited: WireForm(grpc.StatusCode.RESOURCE_EXHAUSTED, _OVERLOAD_RETRY_S),
    errors.StalenessUnavailable: WireForm(grpc.StatusCode.UNAVAILABLE, _ELECTION_RETRY_S),
    errors.DeadlineExceeded: WireForm(grpc.StatusCode.DEADLINE_EXCEEDED),
    # No RetryInfo: a plain retry may execute the write twice.
    errors.OutcomeUnknown: WireForm(grpc.StatusCode.UNAVAILABLE),
    errors.Unauthenticated: WireForm(grpc.StatusCode.UNAUTHENTICATED),
    errors.PermissionDenied: WireForm(grpc.StatusCode.PERMISSION_DENIED),
    errors.NodeHalted: WireForm(grpc.StatusCode.UNAVAILABLE),
    # Said by a client's library, never by a server.
    errors.ClientClosed: WireForm(grpc.StatusCode.UNAVAILABLE),
    # The following end a start, not a request; they are here because the table is total.
    errors.ConfigError: _INTERNAL,
    errors.StorageError: _INTERNAL,
    errors.CorruptLog: WireForm(grpc.StatusCode.DATA_LOSS),
    errors.CorruptSnapshot: WireForm(grpc.StatusCode.DATA_LOSS),
}

REFUSALS: dict[RefusalCode, type[errors.ReplcacheError]] = {
    RefusalCode.NOT_FOUND: errors.NotFound,
    RefusalCode.CONDITION_FAILED: errors.ConditionFailed,
    RefusalCode.FENCE_REJECTED: errors.FenceRejected,
    RefusalCode.WRONG_TYPE: errors.WrongType,
    RefusalCode.OUT_OF_RANGE: errors.OutOfRange,
    RefusalCode.LOCK_LOST: errors.LockLost,
    RefusalCode.SESSION_EXPIRED: errors.SessionExpired,
    RefusalCode.BATCH_ABORTED: errors.BatchAborted,
    RefusalCode.QUOTA_EXCEEDED: errors.QuotaExceeded,
    # Held by somebody else and the caller does not wait: the wait of 0 ms is over.
    RefusalCode.LOCK_BUSY: errors.LockTimeout,
    RefusalCode.INVALID: errors.InvalidRequest,
}

_Detail: TypeAlias = (
    error_details_pb2.ErrorInfo
    | error_details_pb2.RetryInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.PreconditionFailure
)
_PRECONDITION_FAILURES = (errors.ConditionFailed, errors.FenceRejected)


def refusal_error(refusal: Refusal) -> errors.ReplcacheError:
    """The exception that says what the state machine's refusal says."""
    metadata = {}
    if refusal.failed_op >= 0:
        metadata["failed_operation"] = str(refusal.failed_op)
    if refusal.cause is not None:
        metadata["cause"] = REFUSALS[refusal.cause].reason
    return REFUSALS[refusal.code](refusal.message, metadata=metadata)


def wire_form(error: errors.ReplcacheError) -> WireForm:
    """Looks the class up; a subclass that the table does not know is mapped like its nearest known base."""
    for cls in type(error).__mro__:
        form = WIRE_FORMS.get(cls)
        if form is not None:
            return form
    raise AssertionError(f"{type(error).__name__} is no ReplcacheError")


def to_status(error: errors.ReplcacheError) -> status_pb2.Status:
    """google.rpc.Status with all details; also used inside BatchResponse and OperationResult."""
    form = wire_form(error)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    info.metadata["may_have_executed"] = "true" if error.may_have_executed else "false"
    message = str(error)
    status = status_pb2.Status(code=form.code.value[0], message=message)
    _add_detail(status, info)
    retry_after_s = form.retry_after_s if error.retry_after_s is None else error.retry_after_s
    if retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(retry_after_s * 1e9))
        _add_detail(status, error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, errors.InvalidRequest) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=message)
        _add_detail(status, error_details_pb2.BadRequest(field_violations=[violation]))
    elif isinstance(error, _PRECONDITION_FAILURES):
        failure = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason, subject=error.metadata.get("subject", ""), description=message
        )
        _add_detail(status, error_details_pb2.PreconditionFailure(violations=[failure]))
    return status


def internal_status(may_have_executed: bool) -> status_pb2.Status:
    """For a bug of ours: what happened is in the log of the node, not on the wire."""
    error = errors.ReplcacheError("internal error; the node's log has the details")
    error.may_have_executed = may_have_executed
    return to_status(error)


def trailers(status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    return ((STATUS_DETAILS_TRAILER, status.SerializeToString()),)


def _add_detail(status: status_pb2.Status, detail: _Detail) -> None:
    status.details.append(
        any_pb2.Any(type_url=TYPE_URL_PREFIX + detail.DESCRIPTOR.full_name, value=detail.SerializeToString())
    )
