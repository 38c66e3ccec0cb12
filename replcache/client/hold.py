"""What locks, elections and leases have in common: something that is ours for a time, renewed in the
background, and knowing when it is lost.

Validity is counted on this process's own monotonic clock, from BEFORE the request was sent whose answer
granted or renewed it: the cluster starts its ttl after that moment, so what this side believes ends first,
whatever the network did in between. Clocks of two hosts are never compared; their rates are taken to be
equal to within a hundredth (docs/guarantees.md, P5). What really protects data is the fencing token: pass
the lock as `fence=` to the writes, and the servers refuse them once the lock is not held any more.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from replcache.client.durations import from_proto, to_proto
from replcache.client.ids import unique_id
from replcache.client.requests import Held
from replcache.client.retry import Backoff
from replcache.constants import CLIENT_ATTEMPT_TIMEOUT_S, CLIENT_CLOSE_TIMEOUT_S
from replcache.errors import InvalidRequest, LockLost, LockTimeout, OutcomeUnknown, ReplcacheError

if TYPE_CHECKING:
    from replcache.client.cluster import AsyncClusterCalls
    from replcache.client.lease import AsyncLease

# An answer needs this much more time than the wait itself.
_ANSWER_MARGIN_S = 1.0
_RENEW_TRY_S_MIN = 0.1
# Part of the ttl by which this side gives up earlier: covers clocks that run at different rates.
_DRIFT_FRACTION = 0.01


class AsyncKept:
    """Valid for a ttl from the last renewal, and renewed every ttl/3.

    Attributes:
        lost: set as soon as this side can't be sure any more that it still has it.
    """

    def __init__(self, client: "AsyncClusterCalls", what: str, ttl_s: float) -> None:
        self.lost = asyncio.Event()
        # Called when `lost` is set: by the blocking client's event, and by what hangs on a lease.
        self.on_lost: list[Callable[[], None]] = []
        self._client = client
        self._core = client._core
        self._what = what
        self._ttl_s = ttl_s
        self._valid_until = 0.0
        self._keeper: asyncio.Task[Any] | None = None

    async def _renew_once(self, timeout_s: float, attempt_s: float, sent: Callable[..., None]) -> None:
        """Asks the cluster for another ttl. Raises LockLost when there is nothing left to renew."""
        raise NotImplementedError

    async def _renew(self, timeout_s: float) -> None:
        sent: list[float] = []
        # A node that hangs must not use up the validity.
        attempt_s = min(CLIENT_ATTEMPT_TIMEOUT_S, max(self._ttl_s / 4, _RENEW_TRY_S_MIN))
        await self._renew_once(timeout_s, attempt_s, lambda now, _: sent.append(now))
        # Of the successful try: earlier ones may have failed without reaching the cluster.
        self._extend(sent[-1], self._ttl_s)

    def _extend(self, sent_at: float, ttl_s: float) -> None:
        self._valid_until = sent_at + ttl_s * (1 - _DRIFT_FRACTION)

    def _start_keeping(self) -> None:
        self._keeper = self._core.tasks.start(self._keep(), f"replcache {self._what}")
        self._keeper.add_done_callback(self._on_kept)

    def _stop_keeping(self) -> None:
        self._valid_until = 0.0
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()

    def _on_kept(self, keeper: asyncio.Task[Any]) -> None:
        """Nobody renews it any more once the client is closed: whoever waits for the loss is told."""
        if keeper is self._keeper and self._core.is_closed:
            self._valid_until = 0.0
            if not self.lost.is_set():
                self._set_lost()

    async def _keep(self) -> None:
        """Renews every ttl/3, and again and again when that fails, until the validity is over."""
        clock, ttl_s, backoff = self._core.clock, self._ttl_s, Backoff()
        failures = 0
        next_at = self._valid_until - ttl_s * 2 / 3
        while True:
            now = clock.now()
            if now >= self._valid_until:
                self._set_lost()
                return
            if now < next_at:
                await asyncio.sleep(min(next_at, self._valid_until) - now)
                continue
            try:
                await self._renew(self._valid_until - now)
            except LockLost:
                self._set_lost()
                return
            except ReplcacheError as err:
                failures += 1
                next_at = clock.now() + backoff.delay_s(failures, self._core.rng, err.retry_after_s)
            else:
                failures = 0
                next_at = self._valid_until - ttl_s * 2 / 3

    def _set_lost(self) -> None:
        self.lost.set()
        for tell in list(self.on_lost):
            tell()


class AsyncHold(AsyncKept):
    """A place at a lock: waited for on the server, first come first served. Not reentrant; can be acquired
    again after release()."""

    # The rpcs; see lock.proto and election.proto.
    _SERVICE: ClassVar[str]
    _METHODS: ClassVar[tuple[str, str, str]]

    def __init__(
        self,
        client: "AsyncClusterCalls",
        name: str,
        ttl_ms: int,
        wait_s: float,
        lease: "AsyncLease | None" = None,
    ) -> None:
        """ttl_ms 0: as long as the lease."""
        super().__init__(client, f"{self._SERVICE} {name}", ttl_ms / 1000)
        self._name = name
        self._ttl_ms = ttl_ms
        self._wait_s = wait_s
        self._lease = lease
        self._token = 0
        self._owner = b""

    @property
    def name(self) -> str:
        return self._name

    @property
    def token(self) -> int:
        """The fencing token, strictly increasing for each name; 0: not acquired."""
        return self._token

    @property
    def is_held(self) -> bool:
        """Held, as far as this side can be sure at this moment. Needs no network."""
        if not self._token or self.lost.is_set():
            return False
        if self._lease is not None:
            return self._lease.is_alive
        return self._core.clock.now() < self._valid_until

    @property
    def held(self) -> Held:
        """For Txn.require: true while this very holding lasts, as the cluster sees it."""
        return Held(self.name, self._token)

    @property
    def acquire_s(self) -> float:
        """Seconds that acquire() may take beyond those of any call."""
        return self._wait_s + max(self._ttl_s, _ANSWER_MARGIN_S)

    def check(self) -> None:
        """Raises LockLost unless is_held; cheap enough for every step of a long piece of work."""
        if not self.is_held:
            raise LockLost(f"the {self._SERVICE} {self.name!r} is not (or no longer) held by this holder")

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    # --- requests ---

    def _acquire_request(self) -> Any:
        raise NotImplementedError

    def _renew_request(self) -> Any:
        raise NotImplementedError

    def _release_request(self, owner: bytes, token: int) -> Any:
        raise NotImplementedError

    # --- acquire ---

    async def acquire(self) -> int:
        """Waits in the queue, first come first served, and returns the fencing token.

        Raises:
            LockTimeout: not granted within `wait`.
            InvalidRequest: this object holds it already.
            LockLost: the lease that it should hang on is gone.
            Unavailable, OutcomeUnknown: no node answered; the place in the queue, or the lock if it was
                granted meanwhile, is given back in the background, or freed by its ttl.
        Cancellation: as the errors above.
        """
        if self._token:
            raise InvalidRequest(f"{self.name!r} is already held by this object", field="name")
        self._client._waiter()
        clock, lease = self._core.clock, self._lease
        self.lost = asyncio.Event()
        end = clock.now() + self._wait_s
        while True:
            if lease is not None:
                lease.check()
            # Unique to this attempt: an answer meant for an earlier one can never be taken for it.
            self._owner = unique_id()
            if token := await self._acquire_or_give_up(end):
                break
            if clock.now() >= end:
                raise LockTimeout(f"{self.name!r} was granted, but lost before it could be used")
        self._token = token
        if lease is not None:
            lease.on_lost.append(self._set_lost)
        else:
            self._start_keeping()
        return token

    async def _acquire_or_give_up(self, end: float) -> int:
        """The token; 0: what was granted was over before it could be used."""
        try:
            token = await self._acquire(end)
            if await self._is_fresh(token):
                return token
        except LockTimeout:
            raise
        except (ReplcacheError, asyncio.CancelledError):
            self._give_up()
            raise
        self._give_up()
        return 0

    def _give_up(self) -> None:
        """The request may still be in the queue, or granted: nobody else would ever release it."""
        self._core.tasks.start(self._release(self._owner, 0), f"replcache {self._what} give-up")

    async def _acquire(self, end: float) -> int:
        request = self._acquire_request()

        def on_send(now: float, _: object) -> None:
            # A try after the first keeps its place in the queue, and waits only for what is left.
            self._valid_until = now
            wait_ms = max(0, int((end - now) * 1000))
            if wait_ms:
                request.wait.CopyFrom(to_proto(wait_ms))
            else:
                request.ClearField("wait")

        # One try may last as long as the wait; without a wait, as long as any call.
        timeout_s = self._wait_s + max(_ANSWER_MARGIN_S, self._client.settings.timeout_s)
        response = await self._core.unary(
            self._SERVICE,
            self._METHODS[0],
            request,
            timeout_s,
            attempt_s=self._wait_s + _ANSWER_MARGIN_S,
            on_send=on_send,
        )
        # The rest of the ttl was measured by the server after the request was sent.
        granted_s = min(from_proto(response.expires_in) or self._ttl_s, self._ttl_s)
        self._extend(self._valid_until, granted_s)
        token: int = response.token
        return token

    async def _is_fresh(self, token: int) -> bool:
        """After a long wait little or nothing of the validity is left, counted from the send: renew first."""
        if self._lease is not None:
            return self._lease.is_alive
        left_s = self._valid_until - self._core.clock.now()
        if left_s > self._ttl_s / 2:
            return True
        try:
            self._token = token
            await self._renew(max(self._ttl_s, _ANSWER_MARGIN_S))
        except LockLost:
            return False
        finally:
            self._token = 0
        return self._valid_until > self._core.clock.now()

    async def _renew_once(self, timeout_s: float, attempt_s: float, sent: Callable[..., None]) -> None:
        request = self._renew_request()
        await self._core.unary(
            self._SERVICE, self._METHODS[1], request, timeout_s, attempt_s=attempt_s, on_send=sent
        )

    # --- release ---

    async def release(self) -> bool:
        """Gives it back; False: there was nothing to give back. May be called any number of times.

        Never raises because the cluster can't be reached: then the ttl frees it. The object does not hold
        it any more as soon as this was called.
        """
        token, owner = self._token, self._owner
        self._token = 0
        self._stop_keeping()
        if self._lease is not None and self._set_lost in self._lease.on_lost:
            self._lease.on_lost.remove(self._set_lost)
        if not token or self._core.is_closed:
            return False
        return await self._release(owner, token)

    async def _release(self, owner: bytes, token: int) -> bool:
        request = self._release_request(owner, token)
        timeout_s = max(CLIENT_CLOSE_TIMEOUT_S, min(self._ttl_s, self._client.settings.timeout_s))
        try:
            response = await self._core.unary(self._SERVICE, self._METHODS[2], request, timeout_s)
        except (LockLost, OutcomeUnknown):
            return False
        except ReplcacheError:
            # Not reachable: the ttl frees it.
            return False
        return self._was_released(response)

    def _was_released(self, response: Any) -> bool:
        raise NotImplementedError
