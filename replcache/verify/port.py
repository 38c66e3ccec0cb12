"""What a workload asks of a cluster: a few calls with plain values. Implemented by client_port.py for a real
cluster, and by in-memory stores, correct and buggy ones, in the tests.

Every call ends in one of three ways: it returns (the operation took effect), it raises a `Refused` (the
state machine said no; nothing changed), or it raises another ReplcacheError, whose `may_have_executed` tells
an unknown outcome from "certainly not executed". Anything else is a bug of the port and ends the run.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

ReadLevel = Literal["linearizable", "session", "one"]
READ_LEVELS: tuple[ReadLevel, ...] = ("linearizable", "session", "one")


class Found(NamedTuple):
    """An entry. version, revision 0: not told. staleness_s: bound of a read with level one; None: not told.

    revision: of the state that the reply was taken from (reads), or that the write created.
    """

    value: bytes
    version: int = 0
    revision: int = 0
    staleness_s: float | None = None
    node: str = ""


class Wrote(NamedTuple):
    version: int = 0
    revision: int = 0
    node: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """At most one is given. version 0: the key must be missing."""

    absent: bool = False
    present: bool = False
    version: int | None = None
    value: bytes | None = None


class Fence(NamedTuple):
    name: str
    token: int


class Port(Protocol):
    """One client. A call must end within the time-out that the port was opened with."""

    async def get(self, key: str, level: ReadLevel) -> Found | None:
        """None: missing. Raises StalenessUnavailable where a bound can't be honoured."""
        ...

    async def set(
        self, key: str, value: bytes, *, ttl_ms: int = 0, condition: Condition | None = None
    ) -> Wrote:
        """Raises ConditionFailed."""
        ...

    async def append(self, key: str, value: bytes, fence: Fence | None = None) -> Found:
        """Puts bytes behind an existing value; the entry after it. Raises NotFound, FenceRejected."""
        ...

    async def add(self, key: str, delta: int) -> int:
        """The value after it; a missing key counts from 0. Executed at most once."""
        ...

    async def add_once(self, key: str, delta: int, request_id: str) -> int:
        """One try of the addition that request_id names; calls with the same id are tries of the same one."""
        ...

    async def delete(self, key: str) -> bool:
        """Whether there was something."""
        ...

    async def touch(self, key: str, ttl_ms: int) -> None:
        """Raises NotFound."""
        ...

    async def acquire(self, name: str, owner: str, ttl_ms: int, wait_ms: int) -> int:
        """The fencing token. Raises LockTimeout."""
        ...

    async def renew(self, name: str, owner: str, token: int, ttl_ms: int) -> None:
        """Raises LockLost."""
        ...

    async def release(self, name: str, owner: str, token: int) -> bool:
        """False: had nothing to give back."""
        ...

    async def close(self) -> None: ...


# Opens the port of the n-th process.
OpenPort = Callable[[int], Awaitable[Port]]
