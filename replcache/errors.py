"""The public exception tree, shared by server and client.

    ReplcacheError
    +-- InvalidRequest            bad field; names field and limit
    |   +-- TooLarge              key, value, batch or message above its limit
    +-- Refused                   the state machine said no; nothing changed
    |   +-- NotFound              update or touch of a missing key
    |   +-- ConditionFailed       a condition of the write (if_absent, if_version, ...) does not hold
    |   +-- FenceRejected         the write's fencing token is no longer (or never was) the lock's
    |   +-- WrongType             the value is not a number / not a JSON object
    |   +-- OutOfRange            a number would leave its bounds
    |   +-- LockTimeout           not granted within `wait`
    |   +-- LockLost              the lock is no longer held under this token
    |   +-- SessionExpired        unknown session: whether an earlier try executed is not known
    |   +-- BatchAborted          an atomic batch was undone by one of its operations
    |   +-- QuotaExceeded         memory, disk or another quota is used up
    |   +-- Compacted             the events that a watch asks for are no longer kept
    |   +-- WatchTooSlow          the reader of a watch fell behind and was cut off
    +-- NotApplied                certainly not executed; safe to send again
    |   +-- Unavailable           no leader, starting, stopping, or overloaded
    |   |   +-- NoLeader
    |   |   +-- Overloaded
    |   |       +-- RateLimited   this client is above its limit, the node has room
    |   +-- StalenessUnavailable  a bounded read can't be honoured now
    |   +-- DeadlineExceeded      the deadline passed before the request went anywhere
    |   +-- ClientClosed          the client object is closed, or belongs to another process or loop
    +-- OutcomeUnknown            may or may not be executed; retry only under the same session sequence
    +-- Unauthenticated
    +-- PermissionDenied
    +-- NodeHalted                this node stopped: its state or disk can't be trusted
    +-- ConfigError               all problems of a configuration at once
    +-- StorageError              the data directory can't be used; names file, offset and what to do
        +-- CorruptLog
        +-- CorruptSnapshot

Three endings of a write, never blurred: a value (also a refusal), NotApplied, OutcomeUnknown.
`may_have_executed` says the same as an attribute. `reason` is the ErrorInfo reason on the wire.
"""

from collections.abc import Mapping


class ReplcacheError(Exception):
    """Base of all errors that replcache raises on purpose.

    Attributes:
        reason: UPPER_SNAKE name on the wire (google.rpc.ErrorInfo.reason).
        may_have_executed: whether the write that failed may have taken effect.
        retry_after_s: seconds after which a new try makes sense; None: no advice.
        metadata: more facts, as strings (field, limit, key of a batch, ...).
    """

    reason = "INTERNAL"
    may_have_executed = False

    def __init__(
        self,
        message: str = "",
        *,
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or type(self).__doc__ or self.reason)
        self.retry_after_s = retry_after_s
        self.metadata: dict[str, str] = dict(metadata or {})


class InvalidRequest(ReplcacheError):
    """A field of the request is not acceptable. metadata: field, and limit where there is one."""

    reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str = "",
        *,
        field: str = "",
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, metadata=metadata)
        if field:
            self.metadata["field"] = field

    @property
    def field(self) -> str:
        return self.metadata.get("field", "")


class TooLarge(InvalidRequest):
    """A key, value, batch or message is above its limit."""

    reason = "TOO_LARGE"


class Refused(ReplcacheError):
    """The state machine refused the operation; nothing changed."""

    reason = "REFUSED"


class NotFound(Refused):
    """There is no such key."""

    reason = "NOT_FOUND"


class ConditionFailed(Refused):
    """A condition of the write does not hold."""

    reason = "CONDITION_FAILED"


class FenceRejected(Refused):
    """The fencing token is not the one under which the lock is held now."""

    reason = "FENCE_REJECTED"


class WrongType(Refused):
    """The stored value is not of the kind that the operation needs."""

    reason = "WRONG_TYPE"


class OutOfRange(Refused):
    """The result would leave its bounds."""

    reason = "OUT_OF_RANGE"


class LockTimeout(Refused):
    """The lock was not granted within the time to wait."""

    reason = "LOCK_TIMEOUT"


class LockLost(Refused):
    """The lock is no longer held under this token."""

    reason = "LOCK_LOST"


class SessionExpired(Refused):
    """The session is unknown or expired; whether an earlier try of this write executed is not known."""

    reason = "SESSION_EXPIRED"
    may_have_executed = True


class BatchAborted(Refused):
    """Another operation of the atomic batch failed; nothing of it took effect."""

    reason = "BATCH_ABORTED"


class QuotaExceeded(Refused):
    """A memory, disk or count quota is used up."""

    reason = "QUOTA_EXCEEDED"


class Compacted(Refused):
    """Events from the asked revision on are no longer kept. metadata: oldest_revision."""

    reason = "COMPACTED"


class WatchTooSlow(Refused):
    """The reader of a watch fell behind; it has everything up to metadata last_revision."""

    reason = "WATCH_TOO_SLOW"


class NotApplied(ReplcacheError):
    """Certainly not executed; safe to send again."""

    reason = "NOT_APPLIED"


class Unavailable(NotApplied):
    """The node can't serve this now."""

    reason = "UNAVAILABLE"


class NoLeader(Unavailable):
    """No leader was known within the deadline."""

    reason = "NO_LEADER"


class Overloaded(Unavailable):
    """A bounded queue is full; try again after retry_after_s."""

    reason = "OVERLOADED"


class RateLimited(Overloaded):
    """This client asks for more than it was granted; try again after retry_after_s."""

    reason = "RATE_LIMITED"


class StalenessUnavailable(NotApplied):
    """The bound of a READ_LEVEL_ONE read can't be honoured now."""

    reason = "STALENESS_UNAVAILABLE"


class DeadlineExceeded(NotApplied):
    """The deadline passed before the request could have had any effect."""

    reason = "DEADLINE_EXCEEDED"


class ClientClosed(NotApplied):
    """The client object was closed, or it belongs to another process or event loop."""

    reason = "CLIENT_CLOSED"


class OutcomeUnknown(ReplcacheError):
    """The write may or may not be executed. Retry only under the same session sequence or request id."""

    reason = "OUTCOME_UNKNOWN"
    may_have_executed = True


class Unauthenticated(ReplcacheError):
    """Who is calling could not be established."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(ReplcacheError):
    """The caller has no right to this."""

    reason = "PERMISSION_DENIED"


class NodeHalted(ReplcacheError):
    """This node stopped because its state or disk can't be trusted; the message says why."""

    reason = "NODE_HALTED"


class ConfigError(ReplcacheError):
    """The configuration has problems; the message lists all of them."""

    reason = "CONFIG"


class StorageError(ReplcacheError):
    """The data directory can't be used; the message names the file and what to do."""

    reason = "STORAGE"


class CorruptLog(StorageError):
    """A log record before the tail is damaged; the message names file and offset."""

    reason = "CORRUPT_LOG"


class CorruptSnapshot(StorageError):
    """A snapshot is damaged; the message names file and offset."""

    reason = "CORRUPT_SNAPSHOT"
