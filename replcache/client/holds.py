"""Locks, terms and leases for threads: the asynchronous ones, with a threading.Event as `lost`."""

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from replcache.client.durations import Duration
from replcache.client.election import AsyncElection, AsyncTerm
from replcache.client.hold import AsyncHold, AsyncKept
from replcache.client.lease import AsyncLease
from replcache.client.lock import AsyncLock, LockOptions
from replcache.client.part import BlockingPart
from replcache.client.requests import Held
from replcache.client.types import Leader, LeaseView
from replcache.constants import CLIENT_CLOSE_TIMEOUT_S


class Kept:
    """What all of them share.

    Attributes:
        lost: set as soon as this side can't be sure any more that it still has it.
    """

    def __init__(self, client: BlockingPart, kept: AsyncKept) -> None:
        self.lost = threading.Event()
        self._client = client
        self._kept = kept
        kept.on_lost.append(lambda: self.lost.set())

    def _begin(self, start: Any, extra_s: float) -> Any:
        lost = threading.Event()

        async def begin() -> Any:
            answer = await start()
            # Also when it was lost in the same moment: the loop tells after this.
            self.lost = lost
            return answer

        return self._client._run(begin, None, extra_s)

    def _end(self, end: Any) -> bool:
        if self._client._core.is_closed or not self._client._core.is_started:
            return False
        ended: bool = self._client._run(end, None, CLIENT_CLOSE_TIMEOUT_S)
        return ended


class Hold(Kept):
    """AsyncHold for threads."""

    def __init__(self, client: BlockingPart, hold: AsyncHold) -> None:
        super().__init__(client, hold)
        self._hold = hold

    @property
    def name(self) -> str:
        return self._hold.name

    @property
    def token(self) -> int:
        return self._hold.token

    @property
    def is_held(self) -> bool:
        return self._hold.is_held

    @property
    def held(self) -> Held:
        """As AsyncHold.held."""
        return self._hold.held

    def check(self) -> None:
        """As AsyncHold.check."""
        self._hold.check()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> int:
        """As AsyncHold.acquire. Interrupting gives the place in the queue, or the lock, back."""
        token: int = self._begin(self._hold.acquire, self._hold.acquire_s)
        return token

    def release(self) -> bool:
        """As AsyncHold.release."""
        return self._end(self._hold.release)


class Lock(Hold):
    """AsyncLock for threads; `lost` is a threading.Event. See client/lock.py."""

    def __init__(self, client: BlockingPart, options: LockOptions) -> None:
        super().__init__(client, AsyncLock(client._aio, options))
        self.options = options


class RWLock:
    """AsyncRWLock for threads."""

    def __init__(self, client: BlockingPart, options: LockOptions) -> None:
        self._client = client
        self._options = options

    @property
    def name(self) -> str:
        return self._options.name

    def read(self) -> Lock:
        """As AsyncRWLock.read."""
        return Lock(self._client, self._options.as_mode(True))

    def write(self) -> Lock:
        """As AsyncRWLock.write."""
        return Lock(self._client, self._options.as_mode(False))


class Lease(Kept):
    """AsyncLease for threads. See client/lease.py."""

    def __init__(self, client: BlockingPart, ttl_ms: int) -> None:
        self._lease = AsyncLease(client._aio, ttl_ms)
        super().__init__(client, self._lease)

    @property
    def id(self) -> int:
        return self._lease.id

    @property
    def is_alive(self) -> bool:
        return self._lease.is_alive

    def check(self) -> None:
        """As AsyncLease.check."""
        self._lease.check()

    def __enter__(self) -> Self:
        self.grant()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.revoke()

    def grant(self) -> int:
        """As AsyncLease.grant."""
        lease_id: int = self._begin(self._lease.grant, 0.0)
        return lease_id

    def revoke(self) -> bool:
        """As AsyncLease.revoke."""
        return self._end(self._lease.revoke)

    def describe(self, *, timeout: Duration | None = None) -> LeaseView | None:
        """As AsyncLease.describe."""
        view: LeaseView | None = self._client._run(lambda: self._lease.describe(timeout=timeout), timeout)
        return view


class Term(Hold):
    """AsyncTerm for threads. See client/election.py."""

    def __init__(self, client: BlockingPart, term: AsyncTerm) -> None:
        super().__init__(client, term)
        self._term = term

    @property
    def value(self) -> str:
        return self._term.value

    def proclaim(self, value: str, *, timeout: Duration | None = None) -> None:
        """As AsyncTerm.proclaim."""
        self._client._run(lambda: self._term.proclaim(value, timeout=timeout), timeout)

    def resign(self) -> bool:
        """As AsyncTerm.resign."""
        return self.release()


class Election:
    """AsyncElection for threads."""

    def __init__(self, client: BlockingPart, election: AsyncElection) -> None:
        self._client = client
        self._election = election

    @property
    def name(self) -> str:
        return self._election.name

    def campaign(self, value: str = "", *, wait: Duration | None = "1h") -> Term:
        """As AsyncElection.campaign."""
        return Term(self._client, self._election.campaign(value, wait=wait))

    def leader(self, *, timeout: Duration | None = None) -> Leader | None:
        """As AsyncElection.leader."""
        found: Leader | None = self._client._run(lambda: self._election.leader(timeout=timeout), timeout)
        return found

    def observe(self, *, stall_timeout: Duration = "30s") -> Iterator[Leader | None]:
        """As AsyncElection.observe, as a plain iterator. Ctrl-C and closing the client end it."""
        self._client._ready()
        leaders = self._election.observe(stall_timeout=stall_timeout)
        return self._client._iterate(leaders)
