"""Leader election for applications: a lock whose holder has a value that everybody can see.

    election = client.election("scheduler")
    async with election.campaign("host-1") as term:
        while not term.lost.is_set():
            await client.set("schedule", plan(), fence=term)

The token works as a fence under the election's name: a leader that was paused and replaced meanwhile can't
write any more, whatever it believes.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import grpc

from replcache.client import status
from replcache.client.durations import Duration, from_proto, to_proto
from replcache.client.hold import AsyncHold
from replcache.client.lock import checked_name, checked_ttl_ms, checked_wait_s
from replcache.client.retry import Backoff
from replcache.client.tasks import is_task_cancelled
from replcache.client.types import Leader
from replcache.constants import LOCK_NOTE_BYTES_MAX
from replcache.errors import (
    ClientClosed,
    InvalidRequest,
    NotApplied,
    OutcomeUnknown,
    ReplcacheError,
    Unavailable,
    WatchTooSlow,
)
from replcache.pb.v1 import election_pb2

if TYPE_CHECKING:
    from replcache.client.cluster import AsyncClusterCalls

# An observed stream is asked anew after so long without a word: its node may be cut off from the others.
_OBSERVE_TURN_S = 10.0


def checked_value(value: str) -> str:
    if not isinstance(value, str) or len(value.encode()) > LOCK_NOTE_BYTES_MAX:
        raise InvalidRequest(f"value: text of at most {LOCK_NOTE_BYTES_MAX} bytes", field="value")
    return value


class AsyncTerm(AsyncHold):
    """One leadership (or the wait for it); see AsyncHold. `async with` waits for it and resigns."""

    _SERVICE = "election"
    _METHODS = ("Campaign", "Renew", "Resign")

    def __init__(
        self, client: "AsyncClusterCalls", name: str, ttl_ms: int, wait_s: float, value: str
    ) -> None:
        super().__init__(client, name, ttl_ms, wait_s)
        self._value = checked_value(value)

    @property
    def value(self) -> str:
        """What observers see, by the last word of this side."""
        return self._value

    async def proclaim(self, value: str, *, timeout: Duration | None = None) -> None:
        """Changes the value that observers see, without an election.

        Raises:
            LockLost: somebody else leads now.
        """
        self.check()
        request = election_pb2.ProclaimRequest(
            name=self.name, candidate=self._owner, token=self._token, value=checked_value(value)
        )
        await self._core.unary("election", "Proclaim", request, self._client._timeout_s(timeout))
        self._value = value

    async def resign(self) -> bool:
        """Ends the leadership; the next candidate leads. False: there was nothing to end."""
        return await self.release()

    def _acquire_request(self) -> election_pb2.CampaignRequest:
        return election_pb2.CampaignRequest(
            name=self.name, candidate=self._owner, ttl=to_proto(self._ttl_ms), value=self._value
        )

    def _renew_request(self) -> election_pb2.RenewCampaignRequest:
        return election_pb2.RenewCampaignRequest(
            name=self.name, candidate=self._owner, token=self._token, ttl=to_proto(self._ttl_ms)
        )

    def _release_request(self, owner: bytes, token: int) -> election_pb2.ResignRequest:
        return election_pb2.ResignRequest(name=self.name, candidate=owner, token=token)

    def _was_released(self, response: Any) -> bool:
        return bool(response.resigned)


class AsyncElection:
    """One election by name. Makes no calls by itself."""

    def __init__(self, client: "AsyncClusterCalls", name: str, ttl: Duration) -> None:
        self._client = client
        self._core = client._core
        self._name = checked_name(name)
        self._ttl_ms = checked_ttl_ms(ttl)

    @property
    def name(self) -> str:
        return self._name

    def campaign(self, value: str = "", *, wait: Duration | None = "1h") -> AsyncTerm:
        """A term to be entered: `async with election.campaign("host-1") as term`.

        Args:
            value: what observers see, up to 256 bytes.
            wait: how long to stay a candidate (LockTimeout after that), at most 1 h; None: not at all.
        """
        return AsyncTerm(self._client, self._name, self._ttl_ms, checked_wait_s(wait), value)

    async def leader(self, *, timeout: Duration | None = None) -> Leader | None:
        """Who leads now; None: nobody."""
        self._client._waiter()
        request = election_pb2.LeaderRequest(name=self._name)
        timeout_s = self._client._timeout_s(timeout)
        response = await self._core.unary("election", "Leader", request, timeout_s, is_write=False)
        return _leader(response)

    async def observe(self, *, stall_timeout: Duration = "30s") -> AsyncGenerator[Leader | None, None]:
        """The leader now, then every new leader and value as they are seen; None: nobody leads.

        Goes on at another node when a connection breaks or a node stops, and anew when the caller was too
        slow; what came and went meanwhile is left out, and nothing is told twice in a row.

        Raises:
            Unavailable: no node answered for `stall_timeout`.
        """
        self._client._waiter()
        stall_s = self._client._timeout_s(stall_timeout)
        core, backoff, failures = self._core, Backoff(), 0
        heard_at = core.clock.now()
        seen: tuple[int, str] | None = None
        newest = 0
        while True:
            if core.is_closed:
                raise ClientClosed("the client is closed")
            endpoint = core.router.pick(False, core.clock.now())
            stub = core.connection(endpoint).election
            call = stub.Observe(election_pb2.LeaderRequest(name=self._name))
            turn_s = min(_OBSERVE_TURN_S, stall_s)
            has_answered = False
            try:
                while (response := await self._next(call, turn_s)) is not None:
                    has_answered, turn_s = True, _OBSERVE_TURN_S
                    core.note_header(endpoint, response.header)
                    heard_at, failures = core.clock.now(), 0
                    leader = _leader(response)
                    key = (0, "") if leader is None else (leader.token, leader.value)
                    # A node that lags behind the one before tells of the past: left out.
                    if key != seen and (leader is None or leader.token >= newest):
                        seen, newest = key, max(newest, key[0])
                        yield leader
                if has_answered:
                    continue
                # A node that is well says at once who leads.
                error: ReplcacheError = Unavailable("a node takes the call and says nothing")
                core.router.note_failure(endpoint, core.clock.now())
            except grpc.aio.AioRpcError as err:
                error = status.from_rpc_error(err)
                if isinstance(error, WatchTooSlow):
                    # The caller's doing, not the node's: asked anew, it says who leads by now.
                    continue
                core.router.note_failure(endpoint, core.clock.now())
            finally:
                call.cancel()
            if not isinstance(error, NotApplied | OutcomeUnknown):
                raise error
            silent_s = core.clock.now() - heard_at
            if silent_s > stall_s:
                raise Unavailable(f"no node answered for {silent_s:.0f} s: {error}") from error
            failures += 1
            await asyncio.sleep(backoff.delay_s(failures, core.rng, error.retry_after_s))

    async def _next(self, call: Any, turn_s: float) -> election_pb2.LeaderResponse | None:
        """The next message; None: a long silence, which is no failure of itself: ask anew."""
        try:
            async with asyncio.timeout(turn_s):
                message = await call.read()
        except TimeoutError:
            return None
        except asyncio.CancelledError:
            # grpc.aio says so too when the channel was closed under the call.
            if self._core.is_closed and not is_task_cancelled():
                raise ClientClosed("the client was closed") from None
            raise
        if message is grpc.aio.EOF:
            raise grpc.aio.AioRpcError(
                grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "the stream ended"
            )
        found: election_pb2.LeaderResponse = message
        return found


def _leader(response: election_pb2.LeaderResponse) -> Leader | None:
    if not response.HasField("leader"):
        return None
    leader = response.leader
    return Leader(leader.candidate, leader.token, leader.value, from_proto(leader.expires_in))
