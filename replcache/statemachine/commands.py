"""Commands: what the log asks the state machine to do, as plain immutable data.

Nothing here knows protobuf or gRPC; `codec.py` turns these into bytes and back, and decode(encode(x)) == x.
All times are milliseconds on the cluster clock; 0 means "none" for every ttl.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Condition:
    """All that is given must hold. if_version=0 means: the key must be missing."""

    if_absent: bool = False
    if_present: bool = False
    if_version: int | None = None
    if_value: bytes | None = None
    # Of the last change; never the same again, while versions start over with a new key.
    if_mod_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Fence:
    """The write needs lock `name` to be held under `token` at the moment of applying."""

    name: str
    token: int


@dataclass(frozen=True, slots=True)
class Set:
    key: bytes
    value: bytes
    content_type: str = ""
    ttl_ms: int = 0
    idle_ttl_ms: int = 0
    max_reads: int = 0
    tags: tuple[str, ...] = ()
    lease_id: int = 0
    keep_ttl: bool = False
    condition: Condition | None = None
    fence: Fence | None = None
    want_previous: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Exactly one of the change fields is set. `add_decimal` is decimal text: floats never enter the log as
    binary floats; the result is the shortest text that reads back as the same IEEE 754 double."""

    key: bytes
    replace: bytes | None = None
    append: bytes | None = None
    add_integer: int | None = None
    add_decimal: str | None = None
    merge_json: bytes | None = None
    content_type: str = ""
    ttl_ms: int | None = None
    condition: Condition | None = None
    fence: Fence | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    key: bytes
    condition: Condition | None = None
    fence: Fence | None = None
    want_previous: bool = False


@dataclass(frozen=True, slots=True)
class Touch:
    key: bytes
    ttl_ms: int = 0
    idle_ttl_ms: int = 0
    condition: Condition | None = None
    fence: Fence | None = None


@dataclass(frozen=True, slots=True)
class Increment:
    key: bytes
    delta: int
    initial: int = 0
    ttl_ms: int = 0
    fence: Fence | None = None
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Get:
    """A read inside a batch that also writes: part of the log, so it sees exactly that point of it."""

    key: bytes


@dataclass(frozen=True, slots=True)
class InvalidateTags:
    """Everything that has one of the tags is gone at once, however much it is."""

    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteRange:
    """Deletes start <= key < end (b"": no end), at most `limit` keys (0: 2,000, which is also the most)."""

    start: bytes
    end: bytes = b""
    limit: int = 0
    fence: Fence | None = None


@dataclass(frozen=True, slots=True)
class Accessed:
    """Local reads of entries with a sliding expiry, collected by a node: their idle time starts anew."""

    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Evict:
    """Victims, chosen by the leader. A key that was written since has another mod_revision, and stays;
    without
    mod_revisions all go. `reason` is for the metrics of all nodes."""

    keys: tuple[bytes, ...]
    mod_revisions: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Compare:
    """The condition must hold for the key."""

    key: bytes
    condition: Condition


@dataclass(frozen=True, slots=True)
class Txn:
    """All compares hold, and all locks in `held` are held: then_ops, else else_ops; either list is atomic.
    Only
    operations on keys may be in them."""

    compares: tuple[Compare, ...] = ()
    held: tuple[Fence, ...] = ()
    then_ops: "tuple[Op, ...]" = ()
    else_ops: "tuple[Op, ...]" = ()


@dataclass(frozen=True, slots=True)
class GuardSet:
    """Writes below the prefix need a fence of this lock ("name*": of any lock whose name begins so)."""

    prefix: bytes
    lock: str


@dataclass(frozen=True, slots=True)
class GuardRemove:
    prefix: bytes


@dataclass(frozen=True, slots=True)
class NamespaceSet:
    """policy: namespaces.Policy. max_bytes 0: no limit. The empty prefix is the quota of everything."""

    name: str
    prefix: bytes
    max_bytes: int
    policy: int = 0


@dataclass(frozen=True, slots=True)
class NamespaceRemove:
    """The keys stay."""

    name: str


@dataclass(frozen=True, slots=True)
class LockAcquire:
    """`attempt` tells calls of the same owner apart (0: not told); the last one to ask has the place.

    With a lease the place ends with it; ttl_ms=0 then means: not before.
    """

    name: str
    owner: bytes
    ttl_ms: int
    wait_ms: int = 0
    shared: bool = False
    permits: int = 1
    note: str = ""
    attempt: int = 0
    lease_id: int = 0


@dataclass(frozen=True, slots=True)
class LockRenew:
    name: str
    owner: bytes
    token: int
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class LockRelease:
    """token=0: whatever this owner has, also its place in the queue.

    attempt != 0: only if that attempt was the owner's last. So what a caller left behind can be cleaned up
    without taking the lock from the same owner, who has asked again meanwhile.
    """

    name: str
    owner: bytes
    token: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class LockNote:
    """Replaces the holder's note; an election's leader proclaims its value with it."""

    name: str
    owner: bytes
    token: int
    note: str


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    ttl_ms: int


@dataclass(frozen=True, slots=True)
class LeaseKeep:
    lease_id: int


@dataclass(frozen=True, slots=True)
class LeaseRevoke:
    """Ends the lease and all that hangs on it."""

    lease_id: int


@dataclass(frozen=True, slots=True)
class SessionOpen:
    """secret_id: the id that it gets, drawn by the proposer so that nobody guesses it; 0: the revision."""

    ttl_ms: int
    secret_id: int = 0


@dataclass(frozen=True, slots=True)
class SessionKeep:
    session_id: int


@dataclass(frozen=True, slots=True)
class SessionClose:
    session_id: int


Op = (
    Set
    | Update
    | Delete
    | Touch
    | Increment
    | Get
    | LockAcquire
    | LockRenew
    | LockRelease
    | SessionOpen
    | SessionKeep
    | SessionClose
    | InvalidateTags
    | LockNote
    | LeaseGrant
    | LeaseKeep
    | LeaseRevoke
    | DeleteRange
    | Accessed
    | Evict
    | Txn
    | GuardSet
    | GuardRemove
    | NamespaceSet
    | NamespaceRemove
)


@dataclass(frozen=True, slots=True)
class SetMany:
    """Unconditional sets in columns: keys[i] gets values[i]. The hot path: one object for many writes."""

    keys: list[bytes]
    values: list[bytes]
    content_type: str = ""
    ttl_ms: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """The unit of exactly-once: one client request. Exactly one of `ops` and `set_many` is used.

    session_id 0 and request_id b"": no protection against double execution was asked for.
    """

    ops: tuple[Op, ...] = ()
    set_many: SetMany | None = None
    atomic: bool = False
    session_id: int = 0
    session_sequence: int = 0
    session_acked_below: int = 0
    request_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Group:
    """Commands that one node proposed together; (origin, boot, sequence) names it for ever."""

    origin: str
    boot: int
    sequence: int
    done_below: int = 0
    commands: tuple[Command, ...] = field(default=())
