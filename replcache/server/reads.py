"""How a read is served: LINEARIZABLE, SESSION or ONE, and what the header says about it.

LINEARIZABLE: one ReadIndex round (Raft dissertation 6.4), then the local state. SESSION: the local state once
it has reached the caller's revision. ONE: the local state at once; a bound on its staleness is honoured, with
one round if need be, or the read is refused. No clocks of two hosts are ever compared: the bound is counted
from the beginning of the node's own last round.
"""

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from replcache.errors import InvalidRequest, NotApplied, StalenessUnavailable, Unavailable
from replcache.pb.v1 import common_pb2
from replcache.raft.port import Role
from replcache.server import status_map, validate
from replcache.server.accesses import Accesses
from replcache.server.backend import Backend
from replcache.server.deadlines import Deadline
from replcache.statemachine.commands import Command, Get
from replcache.statemachine.entries import IDLE, META, READS, Entry
from replcache.statemachine.results import GetResult, Refusal

LINEARIZABLE = int(common_pb2.READ_LEVEL_LINEARIZABLE)
SESSION = int(common_pb2.READ_LEVEL_SESSION)
ONE = int(common_pb2.READ_LEVEL_ONE)
_KNOWN_LEVELS = frozenset(common_pb2.ReadLevel.values())


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Checked ReadOptions. max_staleness_s None: no bound asked for."""

    level: int = LINEARIZABLE
    min_revision: int = 0
    max_staleness_s: float | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """The state may be read now, until the next await. staleness_s is only stated for ONE."""

    level: int
    staleness_s: float | None = None


@dataclass(slots=True)
class Fetched:
    """Entries of one state, in the order of the keys, and how they were served."""

    entries: list[Entry | None]
    served: Served
    revision: int
    clock_ms: int


DEFAULT_PLAN = ReadPlan()
_AS_LINEARIZABLE = Served(LINEARIZABLE)
_AS_SESSION = Served(SESSION)


def read_plan(options: common_pb2.ReadOptions, field: str = "read") -> ReadPlan:
    """Checks ReadOptions; a field that would have no effect at the level is an error, not ignored."""
    level = validate.known_enum(options.level, _KNOWN_LEVELS, f"{field}.level") or LINEARIZABLE
    min_revision = options.min_revision
    if min_revision and level != SESSION:
        raise InvalidRequest(
            f"{field}.min_revision belongs to READ_LEVEL_SESSION", field=f"{field}.min_revision"
        )
    if not options.HasField("max_staleness"):
        return DEFAULT_PLAN if level == LINEARIZABLE else ReadPlan(level, min_revision)
    if level != ONE:
        raise InvalidRequest(
            f"{field}.max_staleness belongs to READ_LEVEL_ONE", field=f"{field}.max_staleness"
        )
    return ReadPlan(level, 0, _seconds(options.max_staleness, f"{field}.max_staleness"))


def _seconds(duration: Duration, field: str) -> float:
    return validate.duration_nanos(duration, field) / 1e9


class Reader:
    """Waits until the local state may be read at the asked level."""

    def __init__(self, backend: Backend, accesses: Accesses) -> None:
        self._backend = backend
        self._accesses = accesses

    async def prepare(self, plan: ReadPlan, deadline: Deadline) -> Served:
        """Returns when the local state is good enough; it must be read before the next await.

        Raises:
            NoLeader: LINEARIZABLE, and no majority answered in time.
            StalenessUnavailable: the revision or the bound was not reached in time.
            Unavailable: the node has no part in a cluster yet.
        """
        port = self._backend.port
        if plan.level == LINEARIZABLE:
            await port.read_index(deadline.work)
            return _AS_LINEARIZABLE
        if self._backend.standing().role is Role.JOINING:
            raise Unavailable("this node has not joined its cluster yet and knows no data")
        if plan.level == SESSION:
            if port.machine.revision < plan.min_revision:
                await port.wait_revision(plan.min_revision, deadline.work)
            return _AS_SESSION
        return await self._one(plan.max_staleness_s, deadline)

    async def fetch(self, keys: list[bytes], plan: ReadPlan, deadline: Deadline) -> Fetched:
        """Reads keys from one state and counts hits and misses.

        Where reads of an entry are counted, the whole request goes through the log at every level, because
        the count must be exact.
        """
        served = await self.prepare(plan, deadline)
        machine = self._backend.machine
        fetched = Fetched(machine.peek_many(keys), served, machine.revision, machine.clock_ms)
        if self._has_counted(keys, fetched.entries):
            fetched = await self._fetch_through_log(keys, deadline)
        missing = fetched.entries.count(None)
        metrics = self._backend.metrics
        metrics.misses += missing
        metrics.hits += len(keys) - missing
        self._backend.activity.read(keys, fetched.entries, missing)
        return fetched

    def _has_counted(self, keys: list[bytes], entries: list[Entry | None]) -> bool:
        """Notes accesses of entries that live on by being read, on the way."""
        counted = False
        for key, entry in zip(keys, entries, strict=True):
            if entry is None or (meta := entry.row[META]) is None:
                continue
            if meta[READS]:
                counted = True
            elif meta[IDLE]:
                self._accesses.note(key)
        return counted

    async def _fetch_through_log(self, keys: list[bytes], deadline: Deadline) -> Fetched:
        command = Command(ops=tuple(map(Get, keys)))
        results = await self._backend.execute(command, deadline)
        assert type(results) is tuple
        assert len(results) == len(keys)
        entries: list[Entry | None] = []
        revision = clock_ms = 0
        for result in results:
            if isinstance(result, Refusal):
                error = status_map.refusal_error(result)
                error.may_have_executed = True  # those before it are counted
                raise error
            assert type(result) is GetResult
            entries.append(result.entry)
            revision = max(revision, result.revision)
            clock_ms = max(clock_ms, result.clock_ms)
        return Fetched(entries, _AS_LINEARIZABLE, revision, clock_ms)

    async def _one(self, bound_s: float | None, deadline: Deadline) -> Served:
        port = self._backend.port
        staleness_s = port.staleness_s()
        if bound_s is None or (staleness_s is not None and staleness_s <= bound_s):
            return Served(ONE, staleness_s)
        known = "nothing is known" if staleness_s is None else f"{staleness_s:.3f} s"
        try:
            await port.read_index(deadline.work)
        except NotApplied as err:
            raise StalenessUnavailable(
                f"staleness of at most {bound_s} s can't be shown here now ({known})",
                metadata={"staleness": known},
            ) from err
        # The round made it better than asked: it holds every write acknowledged before the read began.
        return _AS_LINEARIZABLE
