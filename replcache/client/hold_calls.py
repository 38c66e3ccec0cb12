"""`lock`, `rwlock`, `semaphore`, `lease` and `election` of both clients."""

from replcache.client import convert
from replcache.client.cluster import AsyncClusterCalls
from replcache.client.durations import Duration
from replcache.client.election import AsyncElection
from replcache.client.holds import Election, Lease, Lock, RWLock
from replcache.client.lease import AsyncLease, checked_lease_id, checked_lease_ttl_ms, describe_lease
from replcache.client.lock import LOCK_TTL_DEFAULT, AsyncLock, AsyncRWLock, LockOptions
from replcache.client.part import BlockingPart
from replcache.client.types import LeaseView, LockView
from replcache.pb.v1 import lease_pb2, lock_pb2

LEASE_TTL_DEFAULT = "30s"


class AsyncHoldCalls(AsyncClusterCalls):
    """Part of AsyncClient."""

    def lock(
        self,
        name: str,
        *,
        ttl: Duration | None = None,
        wait: Duration | None = "5s",
        shared: bool = False,
        permits: int = 1,
        note: str = "",
        lease: AsyncLease | None = None,
    ) -> AsyncLock:
        """A lock for `async with`, or for acquire() and release(). See client/lock.py.

        Args:
            ttl: the lock is freed this long after the last renewal (default 10 s); it is renewed every ttl/3.
            wait: how long to queue (first come first served); None or 0: not at all.
            shared: beside other shared holders.
            permits: holders at once: a semaphore. All callers must say the same.
            note: shown by locks().
            lease: instead of a ttl: the lock lasts as long as this lease.
        """
        return AsyncLock(self, LockOptions.checked(name, ttl, wait, shared, permits, note, lease))

    def rwlock(
        self,
        name: str,
        *,
        ttl: Duration | None = None,
        wait: Duration | None = "5s",
        note: str = "",
        lease: AsyncLease | None = None,
    ) -> AsyncRWLock:
        """A lock of any number of readers or one writer: `.read()` and `.write()` make lock objects."""
        return AsyncRWLock(self, LockOptions.checked(name, ttl, wait, note=note, lease=lease))

    def semaphore(
        self,
        name: str,
        permits: int,
        *,
        ttl: Duration | None = None,
        wait: Duration | None = "5s",
        note: str = "",
        lease: AsyncLease | None = None,
    ) -> AsyncLock:
        """One of `permits` places, as a lock object. All callers must say the same number."""
        return AsyncLock(self, LockOptions.checked(name, ttl, wait, False, permits, note, lease))

    async def locks(self, name: str = "", *, timeout: Duration | None = None) -> tuple[LockView, ...]:
        """Holders and waiters of one lock, or of all (up to 1,000)."""
        self._waiter()
        response = await self._core.unary(
            "lock", "Describe", lock_pb2.DescribeRequest(name=name), self._timeout_s(timeout), is_write=False
        )
        return tuple(convert.lock_view(info) for info in response.locks)

    def lease(self, ttl: Duration = LEASE_TTL_DEFAULT) -> AsyncLease:
        """A lifetime for keys (`set(..., lease=lease)`) and locks. See client/lease.py.

        Args:
            ttl: it ends this long after the last renewal (it is renewed every ttl/3); 1 s to 24 h.
        """
        return AsyncLease(self, checked_lease_ttl_ms(ttl))

    async def describe_lease(self, lease_id: int, *, timeout: Duration | None = None) -> LeaseView | None:
        """Any lease by its id; None: there is no such lease."""
        return await describe_lease(self, lease_id, self._timeout_s(timeout))

    async def keep_lease(self, lease_id: int, *, timeout: Duration | None = None) -> bool:
        """Starts the ttl of any lease anew, once. False: it is gone, and so is what hung on it."""
        self._waiter()
        request = lease_pb2.KeepLeaseRequest(lease_id=checked_lease_id(lease_id))
        response = await self._core.unary("lease", "KeepAlive", request, self._timeout_s(timeout))
        return bool(response.alive)

    async def revoke_lease(self, lease_id: int, *, timeout: Duration | None = None) -> bool:
        """Ends any lease and everything on it. False: there is no such lease."""
        request = lease_pb2.RevokeLeaseRequest(lease_id=checked_lease_id(lease_id))
        response = await self._write("lease", "Revoke", request, self._timeout_s(timeout))
        return bool(response.revoked)

    def election(self, name: str, *, ttl: Duration = LOCK_TTL_DEFAULT) -> AsyncElection:
        """An election by name; makes no call by itself. See client/election.py.

        Args:
            ttl: of a leadership that is not renewed any more (it is renewed every ttl/3).
        """
        return AsyncElection(self, name, ttl)


class HoldCalls(BlockingPart):
    """Part of Client."""

    def lock(
        self,
        name: str,
        *,
        ttl: Duration | None = None,
        wait: Duration | None = "5s",
        shared: bool = False,
        permits: int = 1,
        note: str = "",
        lease: Lease | None = None,
    ) -> Lock:
        under = None if lease is None else lease._lease
        return Lock(self, LockOptions.checked(name, ttl, wait, shared, permits, note, under))

    def rwlock(
        self,
        name: str,
        *,
        ttl: Duration | None = None,
        wait: Duration | None = "5s",
        note: str = "",
        lease: Lease | None = None,
    ) -> RWLock:
        under = None if lease is None else lease._lease
        return RWLock(self, LockOptions.checked(name, ttl, wait, note=note, lease=under))

    def semaphore(
        self,
        name: str,
        permits: int,
        *,
        ttl: Duration | None = None,
        wait: Duration | None = "5s",
        note: str = "",
        lease: Lease | None = None,
    ) -> Lock:
        under = None if lease is None else lease._lease
        return Lock(self, LockOptions.checked(name, ttl, wait, False, permits, note, under))

    def locks(self, name: str = "", *, timeout: Duration | None = None) -> tuple[LockView, ...]:
        views: tuple[LockView, ...] = self._run(lambda: self._aio.locks(name, timeout=timeout), timeout)
        return views

    def lease(self, ttl: Duration = LEASE_TTL_DEFAULT) -> Lease:
        return Lease(self, checked_lease_ttl_ms(ttl))

    def describe_lease(self, lease_id: int, *, timeout: Duration | None = None) -> LeaseView | None:
        view: LeaseView | None = self._run(
            lambda: self._aio.describe_lease(lease_id, timeout=timeout), timeout
        )
        return view

    def keep_lease(self, lease_id: int, *, timeout: Duration | None = None) -> bool:
        alive: bool = self._run(lambda: self._aio.keep_lease(lease_id, timeout=timeout), timeout)
        return alive

    def revoke_lease(self, lease_id: int, *, timeout: Duration | None = None) -> bool:
        revoked: bool = self._run(lambda: self._aio.revoke_lease(lease_id, timeout=timeout), timeout)
        return revoked

    def election(self, name: str, *, ttl: Duration = LOCK_TTL_DEFAULT) -> Election:
        return Election(self, self._aio.election(name, ttl=ttl))
