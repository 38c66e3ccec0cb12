"""The Lease service: lifetimes that keys and locks hang on."""

from replcache import constants
from replcache.pb.v1 import lease_pb2
from replcache.server import convert, validate
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.server.interceptors import Method
from replcache.server.reads import DEFAULT_PLAN, Reader
from replcache.statemachine.commands import LeaseGrant, LeaseKeep, LeaseRevoke
from replcache.statemachine.results import LeaseResult

NAME = "replcache.v1.Lease"


class LeaseService:
    def __init__(self, backend: Backend, reader: Reader) -> None:
        self._backend = backend
        self._reader = reader

    def methods(self) -> list[Method]:
        return [
            Method("Grant", lease_pb2.GrantLeaseRequest, self.grant, writes=True),
            Method("KeepAlive", lease_pb2.KeepLeaseRequest, self.keep_alive, writes=True),
            Method("Revoke", lease_pb2.RevokeLeaseRequest, self.revoke, writes=True),
            Method("Describe", lease_pb2.DescribeLeaseRequest, self.describe, writes=False),
        ]

    async def grant(
        self, request: lease_pb2.GrantLeaseRequest, deadline: Deadline
    ) -> lease_pb2.GrantLeaseResponse:
        """Without an Idempotency, a retry after an unknown outcome makes another lease; the first one
        expires unused."""
        validate.present(request.HasField("ttl"), "ttl")
        ttl_ms = validate.duration_ms(
            request.ttl, "ttl", constants.LEASE_TTL_MS_MIN, constants.LEASE_TTL_MS_MAX
        )
        result = await self._backend.execute_one(convert.command(LeaseGrant(ttl_ms), request), deadline)
        assert type(result) is LeaseResult
        response = lease_pb2.GrantLeaseResponse(
            header=self._backend.header(result.revision), lease_id=result.lease_id
        )
        convert.set_duration_ms(response.ttl, result.ttl_ms)
        return response

    async def keep_alive(
        self, request: lease_pb2.KeepLeaseRequest, deadline: Deadline
    ) -> lease_pb2.KeepLeaseResponse:
        lease_id = validate.not_zero(request.lease_id, "lease_id")
        result = await self._backend.execute_op(LeaseKeep(lease_id), deadline)
        assert type(result) is LeaseResult
        response = lease_pb2.KeepLeaseResponse(
            header=self._backend.header(result.revision), alive=result.alive
        )
        if result.alive:
            convert.set_duration_ms(response.ttl, result.ttl_ms)
        return response

    async def revoke(
        self, request: lease_pb2.RevokeLeaseRequest, deadline: Deadline
    ) -> lease_pb2.RevokeLeaseResponse:
        lease_id = validate.not_zero(request.lease_id, "lease_id")
        result = await self._backend.execute_one(convert.command(LeaseRevoke(lease_id), request), deadline)
        assert type(result) is LeaseResult
        return lease_pb2.RevokeLeaseResponse(
            header=self._backend.header(result.revision), revoked=result.alive
        )

    async def describe(
        self, request: lease_pb2.DescribeLeaseRequest, deadline: Deadline
    ) -> lease_pb2.DescribeLeaseResponse:
        lease_id = validate.not_zero(request.lease_id, "lease_id")
        served = await self._reader.prepare(DEFAULT_PLAN, deadline)
        machine = self._backend.machine
        response = lease_pb2.DescribeLeaseResponse(
            header=self._backend.header(machine.revision, served.level)
        )
        view = machine.describe_lease(lease_id)
        if view is None:
            return response
        limit = constants.LEASE_THINGS_DESCRIBED_MAX
        response.alive = True
        convert.set_duration_ms(response.ttl, view.ttl_ms)
        convert.set_duration_ms(response.expires_in, max(view.expires_in_ms, 0))
        response.keys.extend(machine.lease_keys(lease_id, limit))
        # An owner may be at a lock once, several owners with the same lease at the same lock.
        response.locks.extend(list(dict.fromkeys(name for name, _ in view.places))[:limit])
        return response
