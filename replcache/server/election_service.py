"""The Election service: a lock whose holder has a value, and everybody can see who it is.

Candidates wait in the lock's queue (lock_queue.py); the lock's note is the leader's value.
"""

import asyncio
from typing import Any

import grpc

from replcache import constants
from replcache.errors import NoLeader, ReplcacheError
from replcache.pb.v1 import common_pb2, election_pb2
from replcache.server import convert, deadlines, status_map, validate
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.server.health import can_serve
from replcache.server.interceptors import Method, Undecodable, abort, decoder, undecodable_error
from replcache.server.leader_watches import Leader, LeaderWatches, Observer, leader_now
from replcache.server.lock_queue import LockQueue
from replcache.server.lock_service import lock_ttl_ms, lock_wait_ms
from replcache.server.reads import DEFAULT_PLAN, Reader
from replcache.statemachine.commands import LockAcquire, LockNote, LockRelease, LockRenew
from replcache.statemachine.results import LockResult, ReleaseResult

NAME = "replcache.v1.Election"
Context = grpc.aio.ServicerContext[Any, Any]


class ElectionService:
    def __init__(self, backend: Backend, reader: Reader, queue: LockQueue, watches: LeaderWatches) -> None:
        self._backend = backend
        self._reader = reader
        self._queue = queue
        self._watches = watches

    def methods(self) -> list[Method]:
        """All but Observe, which is a stream."""
        pb = election_pb2
        return [
            Method("Campaign", pb.CampaignRequest, self.campaign, writes=True),
            Method("Renew", pb.RenewCampaignRequest, self.renew, writes=True),
            Method("Proclaim", pb.ProclaimRequest, self.proclaim, writes=True),
            Method("Resign", pb.ResignRequest, self.resign, writes=True),
            Method("Leader", pb.LeaderRequest, self.leader, writes=False),
        ]

    def observe_handler(self) -> "grpc.RpcMethodHandler[Any, Any]":
        return grpc.unary_stream_rpc_method_handler(
            self.observe,
            request_deserializer=decoder(election_pb2.LeaderRequest),
            response_serializer=election_pb2.LeaderResponse.SerializeToString,
        )

    async def campaign(
        self, request: election_pb2.CampaignRequest, deadline: Deadline
    ) -> election_pb2.CampaignResponse:
        """Raises what LockQueue.acquire raises."""
        wanted = LockAcquire(
            validate.lock_name(request.name, "name"),
            validate.lock_owner(request.candidate, "candidate"),
            lock_ttl_ms(request.HasField("ttl"), request.ttl),
            lock_wait_ms(request.HasField("wait"), request.wait),
            note=validate.text(request.value, "value", constants.LOCK_NOTE_BYTES_MAX),
        )
        granted = await self._queue.acquire(wanted, deadline)
        response = election_pb2.CampaignResponse(
            header=self._backend.header(granted.revision), token=granted.token
        )
        convert.set_duration_ms(response.expires_in, granted.expires_in_ms)
        return response

    async def renew(
        self, request: election_pb2.RenewCampaignRequest, deadline: Deadline
    ) -> election_pb2.RenewCampaignResponse:
        op = LockRenew(
            validate.lock_name(request.name, "name"),
            validate.lock_owner(request.candidate, "candidate"),
            validate.not_zero(request.token, "token"),
            lock_ttl_ms(request.HasField("ttl"), request.ttl),
        )
        result = await self._backend.execute_op(op, deadline)
        assert type(result) is LockResult
        response = election_pb2.RenewCampaignResponse(header=self._backend.header(result.revision))
        convert.set_duration_ms(response.expires_in, result.expires_in_ms)
        return response

    async def proclaim(
        self, request: election_pb2.ProclaimRequest, deadline: Deadline
    ) -> election_pb2.ProclaimResponse:
        op = LockNote(
            validate.lock_name(request.name, "name"),
            validate.lock_owner(request.candidate, "candidate"),
            validate.not_zero(request.token, "token"),
            validate.text(request.value, "value", constants.LOCK_NOTE_BYTES_MAX),
        )
        result = await self._backend.execute_op(op, deadline)
        assert type(result) is LockResult
        return election_pb2.ProclaimResponse(header=self._backend.header(result.revision))

    async def resign(
        self, request: election_pb2.ResignRequest, deadline: Deadline
    ) -> election_pb2.ResignResponse:
        op = LockRelease(
            validate.lock_name(request.name, "name"),
            validate.lock_owner(request.candidate, "candidate"),
            request.token,
        )
        result = await self._backend.execute_op(op, deadline)
        assert type(result) is ReleaseResult
        return election_pb2.ResignResponse(
            header=self._backend.header(result.revision), resigned=result.released
        )

    async def leader(
        self, request: election_pb2.LeaderRequest, deadline: Deadline
    ) -> election_pb2.LeaderResponse:
        name = validate.lock_name(request.name, "name")
        served = await self._reader.prepare(DEFAULT_PLAN, deadline)
        return self._response(name, leader_now(self._backend.machine, name), served.level)

    async def observe(self, request: election_pb2.LeaderRequest | Undecodable, context: Context) -> None:
        """One observer, until the client cancels it or it can't go on."""
        try:
            if isinstance(request, Undecodable):
                raise undecodable_error("Election.Observe", request)
            name = validate.lock_name(request.name, "name")
            # A deadline of the call is that of the whole stream; the first answer has the default's time.
            deadline = deadlines.from_remaining(self._backend.clock, None)
            served = await self._reader.prepare(DEFAULT_PLAN, deadline)
            with self._watches.observing(name) as observer:
                await self._follow(observer, served.level, context)
        except grpc.aio.InternalError:
            return  # the connection broke: nobody reads any more
        except ReplcacheError as error:
            await abort(context, status_map.to_status(error))

    async def _follow(self, observer: Observer, level: int, context: Context) -> None:
        blind_since: float | None = None
        clock = self._backend.clock
        while True:
            if not observer.queue and observer.error is None:
                observer.wake.clear()
                try:
                    async with asyncio.timeout(constants.LOCK_RECHECK_INTERVAL_S):
                        await observer.wake.wait()
                except TimeoutError:
                    # No look at the leader: is this node still one that hears of leaders at all?
                    self._watches.check_machine()
                    if can_serve(self._backend.port):
                        blind_since = None
                    elif blind_since is None:
                        blind_since = clock.now()
                    elif clock.now() - blind_since > constants.OBSERVER_BLIND_S_MAX:
                        observer.end(NoLeader("this node is cut off from its cluster; observe at another"))
            if observer.error is not None:
                raise observer.error
            while observer.queue:
                await context.write(self._response(observer.name, observer.queue.popleft(), level))
                level = common_pb2.READ_LEVEL_UNSPECIFIED

    def _response(self, name: str, leader: Leader, level: int) -> election_pb2.LeaderResponse:
        response = election_pb2.LeaderResponse(header=self._backend.header(leader.revision, level))
        if leader.token:
            response.leader.candidate = leader.candidate
            response.leader.token = leader.token
            response.leader.value = leader.value
            for place in self._backend.machine.lock_holders(name):
                if place.token == leader.token and place.expires_in_ms:
                    convert.set_duration_ms(response.leader.expires_in, place.expires_in_ms)
        return response
