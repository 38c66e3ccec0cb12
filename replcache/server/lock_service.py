"""The Lock service. Acquire waits on the server for its turn (lock_queue.py)."""

from google.protobuf.duration_pb2 import Duration

from replcache import constants
from replcache.errors import InvalidRequest
from replcache.pb.v1 import lock_pb2
from replcache.server import convert, validate
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.server.interceptors import Method
from replcache.server.lock_queue import LockQueue
from replcache.server.reads import DEFAULT_PLAN, Reader
from replcache.statemachine.commands import LockAcquire, LockRelease, LockRenew
from replcache.statemachine.locks import PlaceView
from replcache.statemachine.results import LockResult, ReleaseResult

NAME = "replcache.v1.Lock"
_KNOWN_MODES = frozenset(lock_pb2.LockMode.values())


class LockService:
    def __init__(self, backend: Backend, reader: Reader, queue: LockQueue) -> None:
        self._backend = backend
        self._reader = reader
        self._queue = queue

    def methods(self) -> list[Method]:
        return [
            Method("Acquire", lock_pb2.AcquireRequest, self.acquire, writes=True),
            Method("Renew", lock_pb2.RenewRequest, self.renew, writes=True),
            Method("Release", lock_pb2.ReleaseRequest, self.release, writes=True),
            Method("Describe", lock_pb2.DescribeRequest, self.describe, writes=False),
        ]

    async def acquire(self, request: lock_pb2.AcquireRequest, deadline: Deadline) -> lock_pb2.AcquireResponse:
        """Raises what LockQueue.acquire raises."""
        granted = await self._queue.acquire(_acquire_op(request), deadline)
        response = lock_pb2.AcquireResponse(
            header=self._backend.header(granted.revision), token=granted.token
        )
        if granted.expires_in_ms:
            convert.set_duration_ms(response.expires_in, granted.expires_in_ms)
        return response

    async def renew(self, request: lock_pb2.RenewRequest, deadline: Deadline) -> lock_pb2.RenewResponse:
        op = LockRenew(
            validate.lock_name(request.name, "name"),
            validate.lock_owner(request.owner, "owner"),
            validate.not_zero(request.token, "token"),
            lock_ttl_ms(request.HasField("ttl"), request.ttl),
        )
        result = await self._backend.execute_op(op, deadline)
        assert type(result) is LockResult
        response = lock_pb2.RenewResponse(header=self._backend.header(result.revision))
        convert.set_duration_ms(response.expires_in, result.expires_in_ms)
        return response

    async def release(self, request: lock_pb2.ReleaseRequest, deadline: Deadline) -> lock_pb2.ReleaseResponse:
        op = LockRelease(
            validate.lock_name(request.name, "name"),
            validate.lock_owner(request.owner, "owner"),
            request.token,
        )
        result = await self._backend.execute_op(op, deadline)
        assert type(result) is ReleaseResult
        return lock_pb2.ReleaseResponse(
            header=self._backend.header(result.revision), released=result.released
        )

    async def describe(
        self, request: lock_pb2.DescribeRequest, deadline: Deadline
    ) -> lock_pb2.DescribeResponse:
        if request.name:
            validate.lock_name(request.name, "name")
        served = await self._reader.prepare(DEFAULT_PLAN, deadline)
        machine = self._backend.machine
        response = lock_pb2.DescribeResponse(header=self._backend.header(machine.revision, served.level))
        for view in machine.describe_locks(request.name)[: constants.LOCKS_DESCRIBED_MAX]:
            lock = response.locks.add(name=view.name, permits=view.permits)
            for person in view.holders:
                _describe(lock.holders.add(), person)
            for person in view.waiters:
                _describe(lock.waiters.add(), person)
        return response


def _acquire_op(request: lock_pb2.AcquireRequest) -> LockAcquire:
    mode = validate.known_enum(request.mode, _KNOWN_MODES, "mode")
    shared = mode == lock_pb2.LOCK_MODE_SHARED
    permits = validate.lock_permits(request.permits, "permits")
    if shared and permits > 1:
        raise InvalidRequest(
            f"permits: {permits} permits and a shared lock exclude each other", field="permits"
        )
    ttl_ms = 0
    if not request.lease_id or request.HasField("ttl"):
        ttl_ms = lock_ttl_ms(request.HasField("ttl"), request.ttl)
    return LockAcquire(
        validate.lock_name(request.name, "name"),
        validate.lock_owner(request.owner, "owner"),
        ttl_ms,
        lock_wait_ms(request.HasField("wait"), request.wait),
        shared,
        permits,
        validate.text(request.note, "note", constants.LOCK_NOTE_BYTES_MAX),
        0,
        request.lease_id,
    )


def lock_ttl_ms(given: bool, ttl: Duration) -> int:
    validate.present(given, "ttl")
    return validate.duration_ms(ttl, "ttl", constants.LOCK_TTL_MS_MIN, constants.LOCK_TTL_MS_MAX)


def lock_wait_ms(given: bool, wait: Duration) -> int:
    """0: does not wait."""
    return validate.duration_ms(wait, "wait", 0, constants.LOCK_WAIT_MS_MAX) if given else 0


def _describe(target: lock_pb2.LockHolder, place: PlaceView) -> None:
    target.owner = place.owner
    target.token = place.token
    target.note = place.note
    target.mode = lock_pb2.LOCK_MODE_SHARED if place.shared else lock_pb2.LOCK_MODE_EXCLUSIVE
    if place.expires_in_ms:
        convert.set_duration_ms(target.expires_in, place.expires_in_ms)
