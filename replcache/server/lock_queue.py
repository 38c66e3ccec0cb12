"""Waiting for a lock: what Lock.Acquire and Election.Campaign share. All rules of the queue are in the state
machine.

Life of a waiting call: propose LockAcquire; queued: wait until the applied log says that this owner got the
lock; look at the lock itself before answering; wait over, caller gone or deadline near: take the place in the
queue back, so that nobody waits behind a ghost.
"""

import asyncio
import random
from dataclasses import dataclass, replace

from replcache import constants
from replcache.errors import LockTimeout, NotApplied, OutcomeUnknown, ReplcacheError
from replcache.observability.logs import get_logger
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.server.lock_waits import LockWaits
from replcache.statemachine.commands import LockAcquire, LockRelease
from replcache.statemachine.results import LockResult, OpResult
from replcache.tasks import Supervisor

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Granted:
    """The lock is held under this token. expires_in_ms 0: it has no ttl of its own."""

    token: int
    revision: int
    expires_in_ms: int


@dataclass(slots=True)
class _Attempt:
    """One Acquire call. wait_end: when it stops waiting, early enough to give the place up in time."""

    op: LockAcquire
    wait_end: float
    deadline: Deadline
    proposal: asyncio.Task[OpResult] | None = None

    def release(self) -> LockRelease:
        """Takes back what this call got or queued for; nothing when the same owner has asked again since,
        through this node or another, because then the place is that call's."""
        return LockRelease(self.op.name, self.op.owner, 0, self.op.attempt)


class LockQueue:
    """See the module docstring."""

    def __init__(
        self, backend: Backend, waits: LockWaits, supervisor: Supervisor, rng: random.Random
    ) -> None:
        self._backend = backend
        self._waits = waits
        self._supervisor = supervisor
        self._rng = rng

    async def acquire(self, wanted: LockAcquire, deadline: Deadline) -> Granted:
        """Waits until the lock is granted or its `wait_ms` is over.

        Raises:
            LockTimeout: not granted in time, and the place in the queue was given up.
            OutcomeUnknown: the lock may be held or queued for; asking again with the same owner is safe.
        Cancellation: the place, or the lock if it was granted meanwhile, is given back in the background.
        """
        op = replace(wanted, attempt=self._rng.getrandbits(63) | 1)
        wait_ms = op.wait_ms
        clock = self._backend.clock
        if not deadline.given:
            end = deadline.work + wait_ms / 1000
            deadline = Deadline(end, end, given=False)
        now = clock.now()
        margin = min(constants.LOCK_GIVE_UP_MARGIN_MAX_S, (deadline.work - now) / 4)
        wait_end = min(now + wait_ms / 1000, deadline.work - margin)
        attempt = _Attempt(op, wait_end, deadline)
        metrics = self._backend.metrics
        metrics.lock_waits += 1
        try:
            with self._waits.watching(op.name, op.owner) as wake:
                return await self._acquire(attempt, wake)
        except asyncio.CancelledError:
            self._supervisor.short("lock_give_up", self._clean_up(attempt))
            raise
        finally:
            metrics.lock_waits -= 1

    async def _acquire(self, attempt: "_Attempt", wake: asyncio.Event) -> Granted:
        clock = self._backend.clock
        while True:
            result = await self._propose(attempt)
            token = result.token or await self._wait_granted(attempt, wake)
            if token and self._held_token(attempt) == token:
                return self._granted(attempt, token, result)
            if clock.now() >= attempt.wait_end:
                break
            if self._waits.stopped:
                # The place in the queue stays: the same owner finds it again through another node.
                raise OutcomeUnknown("this node is stopping; ask another one, with the same owner")
            # Neither granted nor queued any more (the grant ran out before we saw it, or the cluster's
            # clock ended the wait first): ask again with what is left of the wait.
        return await self._end_wait(attempt)

    async def _propose(self, attempt: "_Attempt") -> LockResult:
        """Shielded: a cancelled caller must not leave the order of acquire and release to chance."""
        left_ms = int((attempt.wait_end - self._backend.clock.now()) * 1000)
        op = replace(attempt.op, wait_ms=min(max(left_ms, 0), attempt.op.wait_ms))
        attempt.proposal = self._supervisor.owned(
            "lock_acquire", self._backend.execute_op(op, attempt.deadline)
        )
        result = await asyncio.shield(attempt.proposal)
        assert type(result) is LockResult
        return result

    async def _wait_granted(self, attempt: "_Attempt", wake: asyncio.Event) -> int:
        """The token, or 0 when the wait is over or something else happened to the place in the queue."""
        clock = self._backend.clock
        while True:
            token = self._held_token(attempt)
            left_s = attempt.wait_end - clock.now()
            if token or left_s <= 0:
                return token
            wake.clear()
            try:
                async with asyncio.timeout(min(left_s, constants.LOCK_RECHECK_INTERVAL_S)):
                    await wake.wait()
            except TimeoutError:
                # An installed snapshot tells of no event: the place may have come and gone in it.
                if self._backend.machine.has_lock_place(attempt.op.name, attempt.op.owner):
                    continue
            return self._held_token(attempt)

    async def _end_wait(self, attempt: "_Attempt") -> Granted:
        try:
            await self._backend.execute_op(attempt.release(), attempt.deadline)
        except NotApplied as err:
            raise OutcomeUnknown(
                "the wait is over, but the place in the queue could not be given up"
            ) from err
        raise LockTimeout("the lock was not granted within the time to wait")

    async def _clean_up(self, attempt: "_Attempt") -> None:
        """For a caller who went away: first the end of what was proposed, then the release."""
        if attempt.proposal is not None:
            await asyncio.wait([attempt.proposal])
        deadline = self._backend.clock.now() + constants.LOCK_GIVE_UP_TIMEOUT_S
        try:
            await self._backend.execute_op(attempt.release(), Deadline(deadline, deadline))
        except ReplcacheError as err:
            # The queue forgets the place at the end of the wait, and a granted lock after its ttl.
            _log.info("lock_not_given_up", reason=err.reason)

    def _held_token(self, attempt: "_Attempt") -> int:
        return self._backend.machine.held_token(attempt.op.name, attempt.op.owner)

    def _granted(self, attempt: "_Attempt", token: int, result: LockResult) -> Granted:
        # After a wait the grant is as old as it took to wake up; the exact rest is not worth a walk through
        # a queue that may be 10,000 long.
        if result.token:
            return Granted(token, result.revision, result.expires_in_ms)
        return Granted(token, self._backend.machine.revision, attempt.op.ttl_ms)
