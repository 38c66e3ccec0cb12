"""The state behind the fake cluster: what a replicated state machine would hold, in the simplest form.

Sessions, conditions, versions, fences and FIFO locks as the client relies on them; no expiry, no Raft.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from replcache import errors
from replcache.pb.v1 import cache_pb2

CODES = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.LockTimeout: grpc.StatusCode.ABORTED,
    errors.BatchAborted: grpc.StatusCode.ABORTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
}


def to_status(error: errors.ReplcacheError) -> status_pb2.Status:
    code = next((c for cls, c in CODES.items() if isinstance(error, cls)), grpc.StatusCode.UNAVAILABLE)
    status = status_pb2.Status(code=code.value[0], message=str(error))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain="replcache", metadata=error.metadata)
    info.metadata["may_have_executed"] = "true" if error.may_have_executed else "false"
    status.details.add().Pack(info)
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


@dataclass
class Stored:
    value: bytes
    content_type: str = ""
    version: int = 1
    create_revision: int = 0
    mod_revision: int = 0
    ttl_ms: int = 0
    idle_ms: int = 0
    reads_left: int = 0
    tags: tuple[str, ...] = ()


@dataclass
class FakeLock:
    """holders and waiters: owner -> (token or future, request)."""

    holders: dict[bytes, int] = field(default_factory=dict)
    waiters: "dict[bytes, asyncio.Future[int]]" = field(default_factory=dict)
    permits: int = 1
    expiry: dict[bytes, asyncio.TimerHandle] = field(default_factory=dict)


class State:
    """What a replicated state machine would hold, and the one place where commands are executed."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Stored] = {}
        self.revision = 0
        self.sessions: dict[int, dict[int, bytes]] = {}
        self.acked: dict[int, int] = {}
        self.locks: dict[str, FakeLock] = {}
        self.next_session = 1
        # (revision, key) of every change, in order.
        self.events: list[tuple[int, bytes]] = []
        # Every executed write batch: (session, sequence), in order. Doubles would show here.
        self.executed: list[tuple[int, int]] = []

    # --- batches ---

    def execute(self, request: cache_pb2.BatchRequest) -> cache_pb2.BatchResponse:
        """Executes once by session and sequence; a repeated one gets the stored reply."""
        response = cache_pb2.BatchResponse()
        if request.HasField("get_columns"):
            self._get_columns(request.get_columns, response.get_columns)
            response.header.revision = self.revision
            return response
        if request.operations and all(op.WhichOneof("kind") == "get" for op in request.operations):
            self._operations(request, response)
            response.header.revision = self.revision
            return response
        idempotency = request.idempotency
        replies = None
        if idempotency.session_id:
            replies = self.sessions.get(idempotency.session_id)
            if replies is None:
                raise errors.SessionExpired(f"session {idempotency.session_id} is unknown")
            acked = max(self.acked.get(idempotency.session_id, 0), idempotency.acked_below)
            self.acked[idempotency.session_id] = acked
            for sequence in [s for s in replies if s < acked]:
                del replies[sequence]
            stored = replies.get(idempotency.sequence)
            if stored is not None:
                return cache_pb2.BatchResponse.FromString(stored)
            if idempotency.sequence < acked:
                raise errors.SessionExpired("the reply of this sequence is gone")
        self.executed.append((idempotency.session_id, idempotency.sequence))
        if request.HasField("set_columns"):
            self._set_columns(request.set_columns, response.set_columns)
        else:
            self._operations(request, response)
        response.header.revision = self.revision
        if replies is not None:
            replies[idempotency.sequence] = response.SerializeToString()
        return response

    def _set_columns(self, columns: cache_pb2.SetColumns, result: cache_pb2.SetColumnsResult) -> None:
        entries, revision = self.entries, self.revision
        result.first_revision = revision + 1
        ttl_ms = columns.ttl.ToMilliseconds() if columns.HasField("ttl") else 0
        versions = []
        for key, value in zip(columns.keys, columns.values, strict=True):
            revision += 1
            old = entries.get(key)
            version = 1 if old is None else old.version + 1
            created = revision if old is None else old.create_revision
            entries[key] = Stored(value, columns.content_type, version, created, revision, ttl_ms)
            self.events.append((revision, key))
            versions.append(version)
        self.revision = revision
        result.versions.extend(versions)

    def _get_columns(self, columns: cache_pb2.GetColumns, result: cache_pb2.GetColumnsResult) -> None:
        found = [self.entries.get(key) for key in columns.keys]
        result.values.extend([e.value if e else b"" for e in found])
        result.versions.extend([e.version if e else 0 for e in found])
        result.mod_revisions.extend([e.mod_revision if e else 0 for e in found])
        if any(e is not None and e.content_type for e in found):
            result.content_types.extend([e.content_type if e else "" for e in found])
        if any(e is not None and e.ttl_ms for e in found):
            result.expires_in_ms.extend([e.ttl_ms if e else 0 for e in found])

    def _operations(self, request: cache_pb2.BatchRequest, response: cache_pb2.BatchResponse) -> None:
        backup = dict(self.entries), self.revision
        for index, operation in enumerate(request.operations):
            result = response.results.add()
            kind = operation.WhichOneof("kind")
            try:
                getattr(self, f"_{kind}")(getattr(operation, kind), getattr(result, kind))
                getattr(result, kind).SetInParent()
            except errors.ReplcacheError as err:
                if request.atomic:
                    self.entries, self.revision = backup
                    metadata = {"failed_operation": str(index), "cause": err.reason}
                    raise errors.BatchAborted(f"operation {index}: {err}", metadata=metadata) from err
                result.error.CopyFrom(to_status(err))

    def _check(self, request: Any, stored: Stored | None) -> None:
        condition = request.condition
        if condition.if_absent and stored is not None:
            raise errors.ConditionFailed("the key exists")
        if condition.if_present and stored is None:
            raise errors.ConditionFailed("the key is missing")
        if condition.HasField("if_version") and condition.if_version != (stored.version if stored else 0):
            raise errors.ConditionFailed(f"the version is {stored.version if stored else 0}")
        if condition.HasField("if_value") and (stored is None or condition.if_value != stored.value):
            raise errors.ConditionFailed("the value is another")
        revision = stored.mod_revision if stored else 0
        if condition.HasField("if_mod_revision") and condition.if_mod_revision != revision:
            raise errors.ConditionFailed(f"the last change was at revision {revision}")
        self._check_fence(request)

    def _check_fence(self, request: Any) -> None:
        if request.HasField("fence"):
            lock = self.locks.get(request.fence.name)
            if lock is None or request.fence.token not in lock.holders.values():
                raise errors.FenceRejected("the lock is not held under this token")

    def _put(self, key: bytes, old: Stored | None, new: Stored) -> Stored:
        self.revision += 1
        new.version = 1 if old is None else old.version + 1
        new.create_revision = self.revision if old is None else old.create_revision
        new.mod_revision = self.revision
        self.entries[key] = new
        self.events.append((self.revision, key))
        return new

    def _set(self, request: cache_pb2.SetRequest, result: cache_pb2.SetResponse) -> None:
        old = self.entries.get(request.key)
        self._check(request, old)
        new = Stored(
            request.value,
            request.content_type,
            ttl_ms=old.ttl_ms if request.keep_ttl and old else request.ttl.ToMilliseconds(),
            idle_ms=request.idle_ttl.ToMilliseconds(),
            reads_left=request.max_reads,
            tags=tuple(request.tags),
        )
        if request.want_previous and old is not None:
            fill_entry(result.previous, request.key, old)
        stored = self._put(request.key, old, new)
        result.version, result.header.revision = stored.version, stored.mod_revision

    def _update(self, request: cache_pb2.UpdateRequest, result: cache_pb2.UpdateResponse) -> None:
        old = self.entries.get(request.key)
        if old is None:
            raise errors.NotFound(f"no key {request.key!r}")
        self._check(request, old)
        new = Stored(old.value, request.content_type or old.content_type, ttl_ms=old.ttl_ms, tags=old.tags)
        kind = request.WhichOneof("change")
        if kind == "replace":
            new.value = request.replace
        elif kind == "append":
            new.value = old.value + request.append
        elif kind == "merge_json":
            try:
                document = json.loads(old.value)
            except ValueError:
                raise errors.WrongType("the value is no JSON object") from None
            new.value = json.dumps(merge_patch(document, json.loads(request.merge_json))).encode()
        elif kind == "add_integer":
            new.value = str(as_integer(old.value) + request.add_integer).encode()
        else:
            new.value = repr(float(old.value) + request.add_float).encode()
        if request.HasField("ttl"):
            new.ttl_ms = request.ttl.ToMilliseconds()
        fill_entry(result.entry, request.key, self._put(request.key, old, new))

    def _delete(self, request: cache_pb2.DeleteRequest, result: cache_pb2.DeleteResponse) -> None:
        old = self.entries.get(request.key)
        self._check(request, old)
        if old is not None:
            self.revision += 1
            self.events.append((self.revision, request.key))
            del self.entries[request.key]
            result.deleted = True
            if request.want_previous:
                fill_entry(result.previous, request.key, old)

    def _touch(self, request: cache_pb2.TouchRequest, result: cache_pb2.TouchResponse) -> None:
        old = self.entries.get(request.key)
        if old is None:
            raise errors.NotFound(f"no key {request.key!r}")
        self._check(request, old)
        old.ttl_ms, old.idle_ms = request.ttl.ToMilliseconds(), request.idle_ttl.ToMilliseconds()
        result.version = old.version

    def _increment(self, request: cache_pb2.IncrementRequest, result: cache_pb2.IncrementResponse) -> None:
        old = self.entries.get(request.key)
        self._check_fence(request)
        value = (request.initial if old is None else as_integer(old.value)) + request.delta
        if (request.HasField("maximum") and value > request.maximum) or (
            request.HasField("minimum") and value < request.minimum
        ):
            raise errors.OutOfRange(f"{value} is out of bounds")
        content_type = "application/json" if old is None else old.content_type
        ttl_ms = request.ttl.ToMilliseconds() if old is None else old.ttl_ms
        new = self._put(request.key, old, Stored(str(value).encode(), content_type, ttl_ms=ttl_ms))
        result.value, result.version = value, new.version

    def _get(self, request: cache_pb2.GetRequest, result: cache_pb2.GetResponse) -> None:
        stored = self.entries.get(request.key)
        result.header.revision = self.revision
        if stored is not None:
            fill_entry(result.entry, request.key, stored)

    # --- locks ---

    def grant(self, name: str) -> None:
        """Gives free places to waiters, first come first served."""
        lock = self.locks[name]
        while lock.waiters and len(lock.holders) < lock.permits:
            owner, waiter = next(iter(lock.waiters.items()))
            del lock.waiters[owner]
            self.revision += 1
            lock.holders[owner] = self.revision
            if not waiter.done():
                waiter.set_result(self.revision)

    def start_ttl(self, name: str, owner: bytes, ttl_s: float) -> None:
        lock = self.locks[name]
        if owner in lock.expiry:
            lock.expiry.pop(owner).cancel()
        lock.expiry[owner] = asyncio.get_running_loop().call_later(ttl_s, self.free, name, owner, 0)

    def free(self, name: str, owner: bytes, token: int) -> bool:
        lock = self.locks.get(name)
        if lock is None:
            return False
        lock.waiters.pop(owner, None)
        if owner not in lock.holders or (token and lock.holders[owner] != token):
            return False
        del lock.holders[owner]
        if owner in lock.expiry:
            lock.expiry.pop(owner).cancel()
        self.grant(name)
        return True


def as_integer(value: bytes) -> int:
    try:
        return int(value)
    except ValueError:
        raise errors.WrongType("the value is no integer") from None


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge_patch(target.get(key), value)
    return target


def fill_entry(entry: cache_pb2.Entry, key: bytes, stored: Stored) -> None:
    entry.key, entry.value, entry.content_type = key, stored.value, stored.content_type
    entry.version, entry.create_revision = stored.version, stored.create_revision
    entry.mod_revision, entry.reads_left = stored.mod_revision, stored.reads_left
    entry.tags.extend(stored.tags)
    if stored.ttl_ms:
        entry.expires_in.FromMilliseconds(stored.ttl_ms)
    if stored.idle_ms:
        entry.idle_ttl.FromMilliseconds(stored.idle_ms)
