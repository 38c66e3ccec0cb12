"""google.rpc.Status and gRPC errors -> the exceptions of replcache/errors.py.

The reason of ErrorInfo decides; a reason that this version does not know falls back to the code, so that a
newer server's errors still have the right meaning (retry or not, executed or not).
"""

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from replcache import errors

_DETAILS_TRAILER = "grpc-status-details-bin"
_ERROR_INFO = error_details_pb2.ErrorInfo.DESCRIPTOR.full_name
_RETRY_INFO = error_details_pb2.RetryInfo.DESCRIPTOR.full_name
# The errors of the asyncio API, and those of the blocking one: these are calls as well.
_WITH_STATUS = (grpc.aio.AioRpcError, grpc.Call)


def _tree(base: type[errors.ReplcacheError]) -> dict[str, type[errors.ReplcacheError]]:
    found = {base.reason: base}
    for cls in base.__subclasses__():
        found.update(_tree(cls))
    return found


BY_REASON = _tree(errors.ReplcacheError)

BY_CODE: dict[int, type[errors.ReplcacheError]] = {
    code.value[0]: cls
    for code, cls in {
        grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
        grpc.StatusCode.NOT_FOUND: errors.NotFound,
        grpc.StatusCode.ALREADY_EXISTS: errors.ConditionFailed,
        grpc.StatusCode.FAILED_PRECONDITION: errors.Refused,
        grpc.StatusCode.ABORTED: errors.Refused,
        grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRange,
        grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
        grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
        grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
        # Without details nobody said whether it was executed. Callers of reads turn this into Unavailable.
        grpc.StatusCode.UNAVAILABLE: errors.OutcomeUnknown,
        grpc.StatusCode.DEADLINE_EXCEEDED: errors.OutcomeUnknown,
        grpc.StatusCode.CANCELLED: errors.OutcomeUnknown,
        grpc.StatusCode.UNKNOWN: errors.OutcomeUnknown,
        grpc.StatusCode.INTERNAL: errors.OutcomeUnknown,
    }.items()
}


def from_status(status: status_pb2.Status) -> errors.ReplcacheError:
    """The exception that a google.rpc.Status describes. A detail that can't be read counts as not there."""
    reason = ""
    metadata: dict[str, str] = {}
    retry_after_s: float | None = None
    for detail in status.details:
        kind = detail.type_url.rpartition("/")[2]
        try:
            if kind == _ERROR_INFO:
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                reason = info.reason
                metadata = dict(info.metadata)
            elif kind == _RETRY_INFO:
                delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                retry_after_s = delay.seconds + delay.nanos * 1e-9
        except DecodeError:
            # The code still tells what to do; without details it is taken for the more cautious meaning.
            continue
    executed = metadata.pop("may_have_executed", "")
    cls = BY_REASON.get(reason) or BY_CODE.get(status.code, errors.ReplcacheError)
    error = cls(status.message, retry_after_s=retry_after_s, metadata=metadata)
    if reason:
        error.reason = reason
    if executed:
        error.may_have_executed = executed == "true"
    return error


def from_rpc_error(error: grpc.RpcError) -> errors.ReplcacheError:
    """The exception that a failed call describes: from its details, else from its code."""
    if not isinstance(error, _WITH_STATUS):
        return errors.OutcomeUnknown(str(error))
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS_TRAILER:
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    code: int = error.code().value[0]
    return from_status(status_pb2.Status(code=code, message=f"{error.code().name}: {error.details()}"))


def is_from_server(error: grpc.RpcError) -> bool:
    """Whether a server answered with details, rather than the transport failing."""
    if not isinstance(error, _WITH_STATUS):
        return False
    return any(name == _DETAILS_TRAILER for name, _ in error.trailing_metadata() or ())
