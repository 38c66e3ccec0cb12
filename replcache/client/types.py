"""What the client's calls answer with. Plain data: no protobuf object reaches a caller."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from replcache.constants import MANIFEST_TYPE
from replcache.errors import WrongType

if TYPE_CHECKING:
    from replcache.client.codec import Codec


class Consistency(StrEnum):
    """How fresh a read must be (docs/guarantees.md, P2 and P4)."""

    # Sees every write acknowledged before the read began.
    LINEARIZABLE = "linearizable"
    # Never goes back behind what this client object has read or written.
    SESSION = "session"
    # The asked node's own copy, at once; the entry says how stale it can be.
    ONE = "one"


class ReadInfo(NamedTuple):
    """Who served a reply, and from which point of history; shared by all entries of one message.

    staleness_s: only for Consistency.ONE: every write acknowledged longer ago is included; None: no bound.
    """

    node: str
    revision: int
    term: int
    served_as: Consistency
    staleness_s: float | None


_UNDECODED = object()


class Entry:
    """One stored entry. Treat it as immutable.

    Attributes:
        key: as stored (str keys are UTF-8; `name` has them back).
        raw: the stored bytes; `value` decodes them by the content type.
        version: 1 for a new key, plus 1 for each change.
        mod_revision: revision of the last change.
        expires_in_s: seconds left when the entry was read; None: does not expire by time.
        served: how and where it was read.
        create_revision, idle_ttl_s, reads_left, tags, lease_id: filled by get(..., full=True), scan, update,
            and `previous` entries; a plain get is answered in compact columns without them (0, None, ()).
    """

    __slots__ = (
        "_codec", "_value", "content_type", "create_revision", "expires_in_s", "idle_ttl_s", "key",
        "lease_id", "mod_revision", "raw", "reads_left", "served", "tags", "version",
    )  # fmt: skip

    def __init__(
        self,
        codec: "Codec",
        key: bytes,
        raw: bytes,
        content_type: str,
        version: int,
        mod_revision: int,
        expires_in_s: float | None,
        served: ReadInfo,
        create_revision: int = 0,
        idle_ttl_s: float | None = None,
        reads_left: int = 0,
        tags: tuple[str, ...] = (),
        lease_id: int = 0,
    ) -> None:
        self._codec = codec
        self._value: Any = _UNDECODED
        self.key = key
        self.raw = raw
        self.content_type = content_type
        self.version = version
        self.mod_revision = mod_revision
        self.expires_in_s = expires_in_s
        self.served = served
        self.create_revision = create_revision
        self.idle_ttl_s = idle_ttl_s
        self.reads_left = reads_left
        self.tags = tags
        self.lease_id = lease_id

    @property
    def value(self) -> Any:
        """The decoded value.

        Raises:
            WrongType: the bytes do not fit their content type; or this is the manifest of a large value, as a
                watch, a batch or a transaction shows it: get() reads the value.
        """
        if self._value is _UNDECODED:
            if self.content_type == MANIFEST_TYPE:
                raise WrongType("this is a large value, stored in parts: read it with get()")
            self._value = self._codec.decode(self.raw, self.content_type)
        return self._value

    def with_value(self, raw: bytes, content_type: str) -> "Entry":
        """The same entry with other bytes."""
        return Entry(
            self._codec, self.key, raw, content_type, self.version, self.mod_revision, self.expires_in_s,
            self.served, self.create_revision, self.idle_ttl_s, self.reads_left, self.tags, self.lease_id,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The key as text; bytes that are no UTF-8 are kept as surrogates."""
        return self.key.decode("utf-8", "surrogateescape")

    @property
    def staleness_s(self) -> float | None:
        return self.served.staleness_s

    @property
    def served_by(self) -> str:
        return self.served.node

    @property
    def served_as(self) -> Consistency:
        return self.served.served_as

    def __repr__(self) -> str:
        expiry = "" if self.expires_in_s is None else f", expires_in_s={self.expires_in_s:.3f}"
        return f"Entry(key={self.key!r}, {len(self.raw)} bytes, version={self.version}{expiry})"


class SetResult(NamedTuple):
    """A write that was applied.

    version: of the entry now; pass it as if_version to change it only if nobody else did.
    revision: of the cluster's history.
    previous: the entry before, when asked for with want_previous and there was one.
    """

    version: int
    revision: int
    previous: Entry | None = None


class DeleteResult(NamedTuple):
    """True in a condition when something was deleted."""

    deleted: bool
    revision: int
    previous: Entry | None = None

    def __bool__(self) -> bool:
        return self.deleted


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    client_address: str
    peer_address: str
    voter: bool
    incarnation: int


@dataclass(frozen=True, slots=True)
class PeerProgress:
    name: str
    connected: bool
    match_index: int
    since_heard_s: float | None


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node's own view; see StatusResponse in cluster.proto."""

    node: str
    address: str
    cluster_id: bytes
    role: str
    leader: str
    term: int
    revision: int
    has_quorum: bool
    commit_index: int
    applied_index: int
    last_log_index: int
    snapshot_index: int
    keys: int
    value_bytes: int
    locks: int
    sessions: int
    uptime_s: float
    version: str
    leader_changes: int
    cluster_clock_ms: int
    peers: tuple[PeerProgress, ...]


@dataclass(frozen=True, slots=True)
class StateHash:
    """Equal digests at equal applied_index: equal state."""

    node: str
    applied_index: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class LockClaim:
    """A holder (token > 0) or a waiter (token 0) of a lock."""

    owner: bytes
    token: int
    expires_in_s: float
    note: str
    shared: bool


@dataclass(frozen=True, slots=True)
class LockView:
    name: str
    holders: tuple[LockClaim, ...]
    waiters: tuple[LockClaim, ...]
    permits: int


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """Counted since the client object was made.

    hits, misses: single and many-key reads, by key. calls: all operations asked for. messages: sent on
    Pipeline streams. retries: messages and unary calls sent once more.
    """

    hits: int
    misses: int
    calls: int
    messages: int
    retries: int
    failures: int
    reconnects: int
    sessions_opened: int
    in_flight: int
    queued: int

    @property
    def hit_rate(self) -> float:
        """hits / (hits + misses); 0 before the first read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A lease as the cluster sees it, with up to 1,000 of the keys and of the locks that hang on it."""

    lease_id: int
    ttl_s: float
    expires_in_s: float
    keys: tuple[bytes, ...]
    locks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads an election. token: the fence under the election's name."""

    candidate: bytes
    token: int
    value: str
    expires_in_s: float


class EvictionPolicy(StrEnum):
    """What happens to a write above the quota of its namespace."""

    # It is refused: QuotaExceeded.
    NONE = "none"
    # The least recently used go first.
    LRU = "lru"
    # The least frequently used go first, by a decaying estimate.
    LFU = "lfu"


@dataclass(frozen=True, slots=True)
class Namespace:
    """A named prefix with a quota. max_bytes: of keys and values together; 0: none.

    complete: False while the keys that were there before the namespace are still being counted.
    """

    name: str
    prefix: bytes
    max_bytes: int
    policy: EvictionPolicy
    keys: int
    bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Guard:
    """Writes below `prefix` need a fence of the lock `by` ("name*": of any lock whose name begins so)."""

    prefix: bytes
    by: str


@dataclass(frozen=True, slots=True)
class HotKey:
    """count: never below the truth, and above it by `error` at most."""

    key: bytes
    count: int
    error: int


@dataclass(frozen=True, slots=True)
class NamespaceStatistics:
    """name "": keys of no namespace."""

    name: str
    hits: int
    misses: int
    writes: int
    expired: int
    evicted: int

    @property
    def hit_rate(self) -> float:
        """hits / (hits + misses); 0 before the first read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """What one node has seen since it started."""

    node: str
    namespaces: tuple[NamespaceStatistics, ...]
    most_read: tuple[HotKey, ...]
    most_written: tuple[HotKey, ...]
