"""Results: what each operation answered. A refusal is a value, equal on every node.

A Command's result is a tuple with one OpResult per op, or one SetManyResult, or one Refusal for the whole
command (unknown session, atomic batch undone: then `failed_op` says which operation did it).
"""

from dataclasses import dataclass
from enum import IntEnum

from replcache.statemachine.entries import Entry


class RefusalCode(IntEnum):
    """Why an operation was refused. Numbers are stored in snapshots (session replies): never reuse one."""

    NOT_FOUND = 1
    CONDITION_FAILED = 2
    FENCE_REJECTED = 3
    WRONG_TYPE = 4
    OUT_OF_RANGE = 5
    LOCK_LOST = 6
    SESSION_EXPIRED = 7
    BATCH_ABORTED = 8
    QUOTA_EXCEEDED = 9
    LOCK_BUSY = 10
    INVALID = 11


@dataclass(frozen=True, slots=True)
class Refusal:
    """`message` names what did not hold, with values that are safe to show (never the stored value).

    BATCH_ABORTED: `failed_op` is the operation that did it and `cause` what it was refused with.
    """

    code: RefusalCode
    message: str
    failed_op: int = -1
    cause: RefusalCode | None = None


@dataclass(frozen=True, slots=True)
class SetResult:
    version: int
    revision: int
    previous: Entry | None = None


@dataclass(frozen=True, slots=True)
class UpdateResult:
    entry: Entry
    revision: int


@dataclass(frozen=True, slots=True)
class DeleteResult:
    deleted: bool
    revision: int
    previous: Entry | None = None


@dataclass(frozen=True, slots=True)
class TouchResult:
    version: int
    revision: int


@dataclass(frozen=True, slots=True)
class IncrementResult:
    value: int
    version: int
    revision: int


@dataclass(frozen=True, slots=True)
class GetResult:
    """clock_ms is the cluster time of the read: remaining ttl = entry.expires_at_ms - clock_ms."""

    entry: Entry | None
    revision: int
    clock_ms: int


@dataclass(frozen=True, slots=True)
class CountResult:
    """How many entries an operation on many met. `more`: it stopped at its limit, send it again."""

    count: int
    revision: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class LockResult:
    """token 0: queued (position counts from 1)."""

    token: int
    revision: int
    expires_in_ms: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    released: bool
    revision: int


@dataclass(frozen=True, slots=True)
class SessionResult:
    """alive=False: no such session (keep). session_id 0 then."""

    session_id: int
    alive: bool
    revision: int
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True)
class LeaseResult:
    """alive=False: no such lease (keep, revoke); lease_id 0 then."""

    lease_id: int
    alive: bool
    revision: int
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True)
class TxnResult:
    """succeeded: the compares held, so `results` are those of then_ops; otherwise of else_ops."""

    succeeded: bool
    results: "tuple[OpResult, ...]"
    revision: int


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """Of a setting (guard, namespace). changed=False: it was so already."""

    changed: bool
    revision: int


OpResult = (
    Refusal
    | SetResult
    | UpdateResult
    | DeleteResult
    | TouchResult
    | IncrementResult
    | GetResult
    | LockResult
    | ReleaseResult
    | SessionResult
    | CountResult
    | LeaseResult
    | TxnResult
    | ChangeResult
)


@dataclass(frozen=True, slots=True)
class SetManyResult:
    """versions[i] belongs to keys[i]; revision of keys[i] is first_revision + i (atomic: first_revision)."""

    versions: list[int]
    first_revision: int


CommandResult = tuple[OpResult, ...] | SetManyResult | Refusal
