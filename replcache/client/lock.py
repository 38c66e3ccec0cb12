"""Locks that hold: an exclusive or shared place at a lock, or one of a semaphore's permits (hold.py)."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from replcache.client.durations import Duration, parse_seconds, parse_ttl_ms, to_proto
from replcache.client.hold import AsyncHold
from replcache.constants import (
    LOCK_NAME_BYTES_MAX,
    LOCK_NOTE_BYTES_MAX,
    LOCK_PERMITS_MAX,
    LOCK_TTL_MS_MAX,
    LOCK_TTL_MS_MIN,
    LOCK_WAIT_MS_MAX,
)
from replcache.errors import InvalidRequest
from replcache.pb.v1 import lock_pb2

if TYPE_CHECKING:
    from replcache.client.cluster import AsyncClusterCalls
    from replcache.client.lease import AsyncLease

LOCK_TTL_DEFAULT = "10s"


def checked_name(name: str) -> str:
    if not isinstance(name, str) or not 0 < len(name.encode()) <= LOCK_NAME_BYTES_MAX:
        raise InvalidRequest(f"name={name!r}: 1 to {LOCK_NAME_BYTES_MAX} bytes of text", field="name")
    return name


def checked_ttl_ms(ttl: Duration) -> int:
    ttl_ms = parse_ttl_ms(ttl, "ttl", LOCK_TTL_MS_MAX)
    if ttl_ms < LOCK_TTL_MS_MIN:
        raise InvalidRequest(f"ttl={ttl!r} is below {LOCK_TTL_MS_MIN} ms", field="ttl")
    return ttl_ms


def checked_wait_s(wait: Duration | None) -> float:
    wait_s = 0.0 if wait is None else parse_seconds(wait, "wait")
    if wait_s * 1000 > LOCK_WAIT_MS_MAX:
        raise InvalidRequest(f"wait={wait!r} is above {LOCK_WAIT_MS_MAX} ms", field="wait")
    return wait_s


@dataclass(frozen=True, slots=True)
class LockOptions:
    """What a lock was asked for, checked. ttl_ms 0: as long as its lease."""

    name: str
    ttl_ms: int
    wait_s: float
    shared: bool
    permits: int
    note: str
    lease: "AsyncLease | None" = None

    @classmethod
    def checked(
        cls,
        name: str,
        ttl: Duration | None,
        wait: Duration | None,
        shared: bool = False,
        permits: int = 1,
        note: str = "",
        lease: "AsyncLease | None" = None,
    ) -> "LockOptions":
        checked_name(name)
        if lease is not None and ttl is not None:
            raise InvalidRequest("ttl and lease exclude each other: the lock lasts as long as its lease")
        ttl_ms = checked_ttl_ms(LOCK_TTL_DEFAULT if ttl is None else ttl) if lease is None else 0
        wait_s = checked_wait_s(wait)
        if not 1 <= permits <= LOCK_PERMITS_MAX or (shared and permits != 1):
            raise InvalidRequest(
                f"permits={permits}: 1 to {LOCK_PERMITS_MAX}, and not together with shared", field="permits"
            )
        if len(note.encode()) > LOCK_NOTE_BYTES_MAX:
            raise InvalidRequest(f"note: at most {LOCK_NOTE_BYTES_MAX} bytes", field="note")
        return cls(name, ttl_ms, wait_s, shared, permits, note, lease)

    def as_mode(self, shared: bool) -> "LockOptions":
        return replace(self, shared=shared)


class AsyncLock(AsyncHold):
    """One holding of a lock; see AsyncHold. `async with` acquires and releases it."""

    _SERVICE = "lock"
    _METHODS = ("Acquire", "Renew", "Release")

    def __init__(self, client: "AsyncClusterCalls", options: LockOptions) -> None:
        super().__init__(client, options.name, options.ttl_ms, options.wait_s, options.lease)
        self.options = options

    def _acquire_request(self) -> lock_pb2.AcquireRequest:
        options = self.options
        return lock_pb2.AcquireRequest(
            name=options.name,
            owner=self._owner,
            ttl=to_proto(options.ttl_ms) if options.ttl_ms else None,
            mode=lock_pb2.LOCK_MODE_SHARED if options.shared else lock_pb2.LOCK_MODE_EXCLUSIVE,
            permits=options.permits if options.permits > 1 else 0,
            note=options.note,
            lease_id=options.lease.id if options.lease is not None else 0,
        )

    def _renew_request(self) -> lock_pb2.RenewRequest:
        return lock_pb2.RenewRequest(
            name=self.name, owner=self._owner, token=self._token, ttl=to_proto(self._ttl_ms)
        )

    def _release_request(self, owner: bytes, token: int) -> lock_pb2.ReleaseRequest:
        return lock_pb2.ReleaseRequest(name=self.name, owner=owner, token=token)

    def _was_released(self, response: Any) -> bool:
        return bool(response.released)


class AsyncRWLock:
    """Any number of readers, or one writer; first come first served, so that neither side starves.

    async with client.rwlock("index").write() as lock: ...
    """

    def __init__(self, client: "AsyncClusterCalls", options: LockOptions) -> None:
        self._client = client
        self._options = options

    @property
    def name(self) -> str:
        return self._options.name

    def read(self) -> AsyncLock:
        """A new lock object that is held beside other readers."""
        return AsyncLock(self._client, self._options.as_mode(True))

    def write(self) -> AsyncLock:
        """A new lock object that is held by nobody else."""
        return AsyncLock(self._client, self._options.as_mode(False))
