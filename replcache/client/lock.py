"""Locks that hold: waiting on the server, renewal in the background, knowing when the lock is lost.

Validity is counted on this process's own monotonic clock, from BEFORE the request was sent whose answer
granted or renewed the lock: the cluster starts its ttl after that moment, so what this side believes ends
first, whatever the network did in between. Clocks of two hosts are never compared; their rates are taken to
be equal to within a hundredth (docs/guarantees.md, P5). What really protects data is the fencing token:
pass the lock as `fence=` to the writes, and the servers refuse them once the lock is not held any more.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from replcache.client.durations import Duration, from_proto, parse_seconds, parse_ttl_ms, to_proto
from replcache.client.retry import Backoff
from replcache.constants import (
    CLIENT_ATTEMPT_TIMEOUT_S,
    CLIENT_CLOSE_TIMEOUT_S,
    LOCK_NAME_BYTES_MAX,
    LOCK_NOTE_BYTES_MAX,
    LOCK_PERMITS_MAX,
    LOCK_TTL_MS_MAX,
    LOCK_TTL_MS_MIN,
    LOCK_WAIT_MS_MAX,
)
from replcache.errors import InvalidRequest, LockLost, LockTimeout, OutcomeUnknown, ReplcacheError
from replcache.pb.v1 import lock_pb2

if TYPE_CHECKING:
    from replcache.client.aio import AsyncClient

_OWNER_BYTES = 16
# An answer needs this much more time than the wait itself.
_ANSWER_MARGIN_S = 1.0
_RENEW_TRY_S_MIN = 0.1
# Part of the ttl by which this side gives the lock up earlier: covers clocks that run at different rates.
_DRIFT_FRACTION = 0.01


@dataclass(frozen=True, slots=True)
class LockOptions:
    """What a lock was asked for, checked."""

    name: str
    ttl_ms: int
    wait_s: float
    shared: bool
    permits: int
    note: str

    @classmethod
    def checked(
        cls, name: str, ttl: Duration, wait: Duration | None, shared: bool, permits: int, note: str
    ) -> "LockOptions":
        if not isinstance(name, str) or not 0 < len(name.encode()) <= LOCK_NAME_BYTES_MAX:
            raise InvalidRequest(f"name={name!r}: 1 to {LOCK_NAME_BYTES_MAX} bytes of text", field="name")
        ttl_ms = parse_ttl_ms(ttl, "ttl", LOCK_TTL_MS_MAX)
        if ttl_ms < LOCK_TTL_MS_MIN:
            raise InvalidRequest(f"ttl={ttl!r} is below {LOCK_TTL_MS_MIN} ms", field="ttl")
        wait_s = 0.0 if wait is None else parse_seconds(wait, "wait")
        if wait_s * 1000 > LOCK_WAIT_MS_MAX:
            raise InvalidRequest(f"wait={wait!r} is above {LOCK_WAIT_MS_MAX} ms", field="wait")
        if not 1 <= permits <= LOCK_PERMITS_MAX or (shared and permits != 1):
            raise InvalidRequest(
                f"permits={permits}: 1 to {LOCK_PERMITS_MAX}, and not together with shared", field="permits"
            )
        if len(note.encode()) > LOCK_NOTE_BYTES_MAX:
            raise InvalidRequest(f"note: at most {LOCK_NOTE_BYTES_MAX} bytes", field="note")
        return cls(name, ttl_ms, wait_s, shared, permits, note)

    @property
    def ttl_s(self) -> float:
        return self.ttl_ms / 1000


class AsyncLock:
    """One holding of a lock. Not reentrant; can be acquired again after release().

    Attributes:
        lost: set as soon as this side can't be sure any more that it holds the lock.
    """

    def __init__(self, client: "AsyncClient", options: LockOptions, rng: random.Random) -> None:
        self.options = options
        self._token = 0
        self.lost = asyncio.Event()
        # Called when `lost` is set; the blocking client mirrors it into a threading.Event.
        self.on_lost: Callable[[], None] | None = None
        self._client = client
        self._core = client._core
        self._rng = rng
        self._owner = b""
        self._valid_until = 0.0
        self._renewer: asyncio.Task[Any] | None = None

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def token(self) -> int:
        """The fencing token, strictly increasing for each lock name; 0: not acquired."""
        return self._token

    @property
    def is_held(self) -> bool:
        """Held, as far as this side can be sure at this moment. Needs no network."""
        return self._token != 0 and not self.lost.is_set() and self._core.clock.now() < self._valid_until

    def check(self) -> None:
        """Raises LockLost unless is_held; cheap enough for every step of a long piece of work."""
        if not self.is_held:
            raise LockLost(f"the lock {self.name!r} is not (or no longer) held by this holder")

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    # --- acquire ---

    async def acquire(self) -> int:
        """Waits in the lock's queue, first come first served, and returns the fencing token.

        Raises:
            LockTimeout: not granted within `wait`.
            InvalidRequest: this object holds the lock already.
            Unavailable, OutcomeUnknown: no node answered; the place in the queue, or the lock if it was
                granted meanwhile, is given back in the background, or freed by its ttl.
        Cancellation: as the errors above.
        """
        if self._token:
            raise InvalidRequest(f"the lock {self.name!r} is already held by this object", field="name")
        self._client._waiter()
        clock = self._core.clock
        self.lost = asyncio.Event()
        end = clock.now() + self.options.wait_s
        while True:
            # Unique to this attempt: an answer meant for an earlier one can never be taken for it.
            self._owner = self._rng.randbytes(_OWNER_BYTES)
            token = await self._acquire_or_give_up(end)
            if await self._is_fresh(token):
                break
            if clock.now() >= end:
                raise LockTimeout(f"the lock {self.name!r} was granted, but lost before it could be used")
        self._token = token
        self._renewer = self._core.tasks.start(self._keep(), f"replcache lock {self.name}")
        return token

    async def _acquire_or_give_up(self, end: float) -> int:
        try:
            return await self._acquire(end)
        except LockTimeout:
            raise
        except (ReplcacheError, asyncio.CancelledError):
            # The request may still be in the queue, or granted: nobody would ever release it.
            self._core.tasks.start(self._release(self._owner, 0), f"replcache lock {self.name} give-up")
            raise

    async def _acquire(self, end: float) -> int:
        options = self.options
        request = lock_pb2.AcquireRequest(
            name=options.name,
            owner=self._owner,
            ttl=to_proto(options.ttl_ms),
            mode=lock_pb2.LOCK_MODE_SHARED if options.shared else lock_pb2.LOCK_MODE_EXCLUSIVE,
            permits=options.permits if options.permits > 1 else 0,
            note=options.note,
        )

        def on_send(now: float, _: object) -> None:
            # A try after the first keeps its place in the queue, and waits only for what is left.
            self._valid_until = now
            wait_ms = max(0, int((end - now) * 1000))
            if wait_ms:
                request.wait.CopyFrom(to_proto(wait_ms))
            else:
                request.ClearField("wait")

        # One try may last as long as the wait; without a wait, as long as any call.
        timeout_s = options.wait_s + max(_ANSWER_MARGIN_S, self._client.settings.timeout_s)
        response = await self._core.unary(
            "lock",
            "Acquire",
            request,
            timeout_s,
            attempt_s=options.wait_s + _ANSWER_MARGIN_S,
            on_send=on_send,
        )
        # The rest of the ttl was measured by the server after the request was sent.
        granted_s = min(from_proto(response.expires_in) or options.ttl_s, options.ttl_s)
        self._extend(self._valid_until, granted_s)
        token: int = response.token
        return token

    async def _is_fresh(self, token: int) -> bool:
        """After a long wait little or nothing of the validity is left, counted from the send: renew first."""
        left_s = self._valid_until - self._core.clock.now()
        if left_s > self.options.ttl_s / 2:
            return True
        try:
            await self._renew(token, max(self.options.ttl_s, _ANSWER_MARGIN_S))
        except LockLost:
            return False
        return self._valid_until > self._core.clock.now()

    def _extend(self, sent_at: float, ttl_s: float) -> None:
        self._valid_until = sent_at + ttl_s * (1 - _DRIFT_FRACTION)

    # --- renew ---

    async def _keep(self) -> None:
        """Renews every ttl/3, and again and again when that fails, until the validity is over."""
        clock, ttl_s, backoff = self._core.clock, self.options.ttl_s, Backoff()
        token, failures = self._token, 0
        next_at = self._valid_until - ttl_s * 2 / 3
        while self._token == token:
            now = clock.now()
            if now >= self._valid_until:
                self._set_lost()
                return
            if now < next_at:
                await asyncio.sleep(min(next_at, self._valid_until) - now)
                continue
            try:
                await self._renew(token, self._valid_until - now)
            except LockLost:
                self._set_lost()
                return
            except ReplcacheError as err:
                failures += 1
                next_at = clock.now() + backoff.delay_s(failures, self._rng, err.retry_after_s)
            else:
                failures = 0
                next_at = self._valid_until - ttl_s * 2 / 3

    async def _renew(self, token: int, timeout_s: float) -> None:
        sent: list[float] = []
        request = lock_pb2.RenewRequest(
            name=self.name, owner=self._owner, token=token, ttl=to_proto(self.options.ttl_ms)
        )
        await self._core.unary(
            "lock",
            "Renew",
            request,
            timeout_s,
            # A node that hangs must not use up the validity.
            attempt_s=min(CLIENT_ATTEMPT_TIMEOUT_S, max(self.options.ttl_s / 4, _RENEW_TRY_S_MIN)),
            on_send=lambda now, _: sent.append(now),
        )
        # Of the successful try: earlier ones may have failed without reaching the cluster.
        self._extend(sent[-1], self.options.ttl_s)

    def _set_lost(self) -> None:
        self.lost.set()
        if self.on_lost is not None:
            self.on_lost()

    # --- release ---

    async def release(self) -> bool:
        """Gives the lock back; False: there was nothing to give back. May be called any number of times.

        Never raises because the cluster can't be reached: then the ttl frees the lock. The object does not
        hold the lock any more as soon as this was called.
        """
        token, owner = self._token, self._owner
        self._token = 0
        self._valid_until = 0.0
        renewer, self._renewer = self._renewer, None
        if renewer is not None:
            renewer.cancel()
        if not token or self._core.is_closed:
            return False
        return await self._release(owner, token)

    async def _release(self, owner: bytes, token: int) -> bool:
        request = lock_pb2.ReleaseRequest(name=self.name, owner=owner, token=token)
        timeout_s = max(CLIENT_CLOSE_TIMEOUT_S, min(self.options.ttl_s, self._client.settings.timeout_s))
        try:
            response = await self._core.unary("lock", "Release", request, timeout_s)
        except (LockLost, OutcomeUnknown):
            return False
        except ReplcacheError:
            # Not reachable: the ttl frees it.
            return False
        released: bool = response.released
        return released
