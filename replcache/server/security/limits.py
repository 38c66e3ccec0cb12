"""How much one client may ask for: operations and bytes a second, and calls at once.

Token buckets (Turner 1986) that may go into debt: a request is let in while its bucket is not empty and is
charged in full, so one that is larger than the bucket passes once and is paid for afterwards. A bucket holds
one second's worth. Clients are told apart by their user, without authentication by their address.
"""

from collections import OrderedDict

from replcache.clock import Clock
from replcache.errors import RateLimited
from replcache.server.security.auth_file import LimitSettings

# Advice to a client that has too many calls under way: nobody knows when one ends.
CALLS_RETRY_S = 0.1


class Bucket:
    """rate: units a second. Invariant: level <= rate."""

    __slots__ = ("_at", "_level", "_rate", "_what")

    def __init__(self, what: str, rate: float, now: float) -> None:
        self._what = what
        self._rate = rate
        self._level = rate
        self._at = now

    def _fill(self, now: float) -> float:
        self._level = min(self._rate, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def check(self, now: float) -> None:
        """Raises RateLimited while the bucket is empty; says when it is not any more."""
        if self._fill(now) <= 0:
            wait_s = (1.0 - self._level) / self._rate
            raise RateLimited(
                f"more than {self._rate:g} {self._what} a second",
                retry_after_s=wait_s,
                metadata={"limit": f"{self._rate:g}", "unit": self._what},
            )

    def charge(self, amount: float) -> None:
        self._level -= amount


class ClientLimits:
    """What is left to one client. All of it is 0 cost when nothing is limited."""

    __slots__ = ("_bytes", "_calls", "_calls_max", "_clock", "_operations", "settings")

    def __init__(self, settings: LimitSettings, clock: Clock) -> None:
        now = clock.now()
        self.settings = settings
        self._clock = clock
        self._operations = Bucket("operations", settings.ops_per_s, now) if settings.ops_per_s else None
        self._bytes = Bucket("bytes", settings.bytes_per_s, now) if settings.bytes_per_s else None
        self._calls_max = settings.calls or 0
        self._calls = 0

    @property
    def counts_bytes(self) -> bool:
        """Whether the size of requests and answers is wanted at all."""
        return self._bytes is not None

    @property
    def is_idle(self) -> bool:
        return self._calls == 0

    def admit(self, operations: int, size: int) -> None:
        """Charges a request, or raises RateLimited and charges nothing."""
        counted, weighed = self._operations, self._bytes
        if counted is None and weighed is None:
            return
        now = self._clock.now()
        if counted is not None:
            counted.check(now)
        if weighed is not None:
            weighed.check(now)
            weighed.charge(size)
        if counted is not None:
            counted.charge(operations)

    def charge_answer(self, size: int) -> None:
        if self._bytes is not None:
            self._bytes.charge(size)

    def begin_call(self) -> None:
        """Raises RateLimited when too many are under way; otherwise end_call() must follow."""
        if self._calls_max and self._calls >= self._calls_max:
            raise RateLimited(
                f"{self._calls} calls of this client are under way",
                retry_after_s=CALLS_RETRY_S,
                metadata={"limit": str(self._calls_max), "unit": "calls"},
            )
        self._calls += 1

    def end_call(self) -> None:
        self._calls -= 1
        assert self._calls >= 0


class Limits:
    """The limits of all clients by identity; the least recently seen idle ones are forgotten."""

    def __init__(self, general: LimitSettings, clock: Clock, clients_max: int) -> None:
        self.general = general
        self._clock = clock
        self._clients_max = clients_max
        self._clients: OrderedDict[str, ClientLimits] = OrderedDict()

    def of(self, identity: str, own: LimitSettings) -> ClientLimits:
        """own: None in it means as for everybody. Changed settings begin with full buckets."""
        wanted = own.over(self.general)
        found = self._clients.get(identity)
        if found is None or found.settings != wanted:
            # Calls under way end on the object that they began on.
            found = self._clients[identity] = ClientLimits(wanted, self._clock)
            self._forget_some()
        self._clients.move_to_end(identity)
        return found

    def _forget_some(self) -> None:
        while len(self._clients) > self._clients_max:
            idle = next((name for name, one in self._clients.items() if one.is_idle), None)
            if idle is None:
                return
            del self._clients[idle]
