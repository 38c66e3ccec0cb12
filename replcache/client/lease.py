"""Leases: one lifetime for many keys and locks. When it ends, everything on it is gone in the same moment.

    async with client.lease("10s") as lease:
        await client.set("members/a", "here", lease=lease)

It ends when it is revoked (at the end of the block), or when nobody kept it alive for its ttl. Validity is
counted as that of a lock (hold.py): this side believes in its end before the cluster acts on it.
"""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from replcache.client.durations import Duration, from_proto, parse_ttl_ms, to_proto
from replcache.client.hold import AsyncKept
from replcache.client.types import LeaseView
from replcache.constants import CLIENT_CLOSE_TIMEOUT_S, LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN
from replcache.errors import InvalidRequest, LockLost, ReplcacheError
from replcache.pb.v1 import lease_pb2

if TYPE_CHECKING:
    from replcache.client.cluster import AsyncClusterCalls


def checked_lease_ttl_ms(ttl: Duration) -> int:
    ttl_ms = parse_ttl_ms(ttl, "ttl", LEASE_TTL_MS_MAX)
    if ttl_ms < LEASE_TTL_MS_MIN:
        raise InvalidRequest(f"ttl={ttl!r} is below {LEASE_TTL_MS_MIN} ms", field="ttl")
    return ttl_ms


def checked_lease_id(lease_id: int) -> int:
    if isinstance(lease_id, bool) or not isinstance(lease_id, int) or not 0 < lease_id < 2**64:
        raise InvalidRequest(f"lease_id={lease_id!r} is no lease", field="lease_id")
    return lease_id


class AsyncLease(AsyncKept):
    """A lease that is kept alive in the background until it is revoked. See the module."""

    def __init__(self, client: "AsyncClusterCalls", ttl_ms: int) -> None:
        super().__init__(client, "lease", ttl_ms / 1000)
        self._ttl_ms = ttl_ms
        self._id = 0

    @property
    def id(self) -> int:
        """0: not granted yet, or revoked."""
        return self._id

    @property
    def is_alive(self) -> bool:
        """Alive, as far as this side can be sure at this moment. Needs no network."""
        return self._id != 0 and not self.lost.is_set() and self._core.clock.now() < self._valid_until

    def check(self) -> None:
        """Raises LockLost unless is_alive."""
        if not self.is_alive:
            raise LockLost(f"the lease {self._id or '(not granted)'} is not (or no longer) alive")

    async def __aenter__(self) -> Self:
        await self.grant()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.revoke()

    async def grant(self) -> int:
        """Asks for a new lease, keeps it alive from now on, and returns its id.

        Raises:
            InvalidRequest: this object has a lease already.
            Unavailable, OutcomeUnknown: no answer; a lease that was granted all the same ends with its ttl.
        """
        if self._id:
            raise InvalidRequest(f"this object has lease {self._id} already", field="lease_id")
        sent: list[float] = []
        self.lost.clear()
        response = await self._client._write(
            "lease",
            "Grant",
            lease_pb2.GrantLeaseRequest(ttl=to_proto(self._ttl_ms)),
            self._client.settings.timeout_s,
            on_send=lambda now, _: sent.append(now),
        )
        # From the FIRST try on: the cluster answers a repeated grant with what the first one got.
        self._extend(sent[0], from_proto(response.ttl) or self._ttl_s)
        self._id = response.lease_id
        self._start_keeping()
        return self._id

    async def _renew_once(self, timeout_s: float, attempt_s: float, sent: Callable[..., None]) -> None:
        request = lease_pb2.KeepLeaseRequest(lease_id=self._id)
        response = await self._core.unary(
            "lease", "KeepAlive", request, timeout_s, attempt_s=attempt_s, on_send=sent
        )
        if not response.alive:
            raise LockLost(f"the lease {self._id} is gone")

    async def revoke(self) -> bool:
        """Ends the lease and everything on it; False: there was nothing to end. May be called any number of
        times. Never raises because the cluster can't be reached: then the ttl ends it."""
        lease_id, self._id = self._id, 0
        self._stop_keeping()
        if not lease_id:
            return False
        # Locks that hang on it know at once.
        self._set_lost()
        if self._core.is_closed:
            return False
        timeout_s = max(CLIENT_CLOSE_TIMEOUT_S, min(self._ttl_s, self._client.settings.timeout_s))
        request = lease_pb2.RevokeLeaseRequest(lease_id=lease_id)
        try:
            response = await self._client._write("lease", "Revoke", request, timeout_s)
        except ReplcacheError:
            # Not reachable: the ttl ends it.
            return False
        return bool(response.revoked)

    async def describe(self, *, timeout: Duration | None = None) -> LeaseView | None:
        """What the cluster knows about it; None: there is no such lease."""
        return await describe_lease(self._client, self._id, self._client._timeout_s(timeout))


async def describe_lease(client: "AsyncClusterCalls", lease_id: int, timeout_s: float) -> LeaseView | None:
    client._waiter()
    request = lease_pb2.DescribeLeaseRequest(lease_id=checked_lease_id(lease_id))
    response = await client._core.unary("lease", "Describe", request, timeout_s, is_write=False)
    if not response.alive:
        return None
    return LeaseView(
        lease_id,
        from_proto(response.ttl),
        from_proto(response.expires_in),
        tuple(response.keys),
        tuple(response.locks),
    )
