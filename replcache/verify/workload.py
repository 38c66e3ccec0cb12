"""Processes that call a cluster and record what they were told.

A run has N processes (asyncio tasks), each with its own port and its own random numbers from the seed, so
equal seeds make equal decisions as far as the cluster's replies are equal. A process does one call at a time
and takes a new number after a call with unknown outcome (history.Recorder). Keys rotate: a key that has had
`ops_per_key` operations is left alone, because the time to check one key grows fast with its operations.
"""

import asyncio
import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

from replcache.clock import Clock
from replcache.errors import ReplcacheError
from replcache.verify.history import Assumptions, Outcome, Recorder, Value
from replcache.verify.models import Model
from replcache.verify.port import OpenPort, Port, ReadLevel

# A call must end by its deadline; this much later it counts as hanging.
HANG_GRACE_S: Final = 1.0
# Pause after a call that certainly had no effect: a cluster without leader is not asked thousands of times.
NOT_APPLIED_PAUSE_S: Final = 0.05


class Answer(NamedTuple):
    """What a call told, in the words of the model. output None may mean: not told (see the model)."""

    output: Value = None
    revision: int = 0
    staleness_s: float | None = None
    node: str = ""


class Ended(NamedTuple):
    """How a recorded call ended."""

    outcome: Outcome
    output: Value

    @property
    def is_ok(self) -> bool:
        return self.outcome is Outcome.OK


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a workload is driven.

    rate: calls a second of all processes together; 0: as fast as replies come.
    active_keys: keys in use at a time; 0: as the workload likes it.
    timeout_s: deadline of one call, which the ports were opened with.
    is_strict: weak reads are judged as if they were linearizable.
    """

    seconds: float = 10.0
    processes: int = 10
    seed: int = 0
    rate: float = 0.0
    ops_per_key: int = 200
    active_keys: int = 0
    read_level: ReadLevel = "linearizable"
    timeout_s: float = 5.0
    prefix: str = "verify/"
    is_strict: bool = False


class Process:
    """One sequential client; made by Run."""

    def __init__(self, run: "Run", index: int, port: Port) -> None:
        self.run = run
        self.index = index
        self.port = port
        self.rng = random.Random(f"{run.options.seed}/{index}")
        self._number = run.recorder.new_process()

    async def call(
        self,
        op: str,
        key: str,
        value: Value,
        action: Callable[[], Awaitable[Answer]],
        *,
        refused: Mapping[type[ReplcacheError], Value] | None = None,
        is_read: bool = False,
        level: str = "",
    ) -> Ended:
        """Makes and records one call.

        Args:
            action: makes the call through the port.
            refused: refusals that are answers of the model, with the output that they mean.
            is_read: the call has no effect, so whatever fails can be forgotten.
        """
        run = self.run
        number = run.recorder.invoke(self._number, op, key, value, run.now_ns(), level)
        outcome, output, detail, answer = Outcome.UNKNOWN, None, "", Answer()
        try:
            async with asyncio.timeout(run.options.timeout_s + HANG_GRACE_S):
                answer = await action()
            outcome, output, detail = Outcome.OK, answer.output, answer.node
        except TimeoutError:
            detail = f"no answer {HANG_GRACE_S} s after the deadline"
            run.hangs += 1
        except ReplcacheError as err:
            detail = f"{err.reason}: {err}"
            run.errors[err.reason] = run.errors.get(err.reason, 0) + 1
            if refused is not None and type(err) in refused:
                outcome, output = Outcome.OK, refused[type(err)]
            elif not err.may_have_executed:
                outcome = Outcome.FAIL
        if is_read and outcome is Outcome.UNKNOWN:
            outcome = Outcome.FAIL
        staleness_ns = -1 if answer.staleness_s is None else int(answer.staleness_s * 1e9)
        run.recorder.complete(
            number,
            outcome,
            output,
            run.now_ns(),
            detail=detail,
            revision=answer.revision,
            staleness_ns=staleness_ns,
        )
        if outcome is Outcome.UNKNOWN:
            self._number = run.recorder.new_process()
        if outcome is Outcome.FAIL:
            await asyncio.sleep(NOT_APPLIED_PAUSE_S)
        return Ended(outcome, output)

    async def pause(self, seconds_max: float) -> None:
        await asyncio.sleep(self.rng.uniform(0, seconds_max))

    def unique(self) -> int:
        """A number that no other call of the run gets."""
        return next(self.run.numbers)


class Workload(ABC):
    """What the processes do. One object is used for one run."""

    name: ClassVar[str]
    # Most calls that one `step` makes on its key.
    calls_per_step: ClassVar[int] = 1
    # Keys in use at a time for each process; more keys mean fewer calls that meet each other.
    keys_per_process: ClassVar[float] = 0.2
    assumptions: ClassVar[Assumptions] = Assumptions(ok_min=20, ok_share_min=0.02)
    read_levels: ClassVar[tuple[ReadLevel, ...]] = ("linearizable",)

    @abstractmethod
    def model(self) -> Model:
        """What the cluster must behave like."""

    def model_options(self) -> dict[str, Value]:
        """Arguments that make the same model again from its name (for replays)."""
        return {}

    async def prepare(self, key: str, port: Port) -> None:  # noqa: B027  # most workloads need nothing
        """Makes a key ready; not part of the history, so it must not change what the model starts from."""

    @abstractmethod
    async def step(self, process: Process, key: str) -> None:
        """One or a few calls of one process on one key."""

    @abstractmethod
    async def final(self, process: Process, key: str) -> Ended:
        """A last linearizable read of a key, after all faults are healed."""

    def data_keys(self, key: str) -> tuple[str, ...]:
        """Cache keys to remove after the run."""
        return (key,)


@dataclass
class _Key:
    name: str
    left: int
    is_ready: bool = False
    # The first process prepares the key; the others wait. A failure is tried again by the next.
    preparing: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Run:
    """One run of a workload. `work` until the time is over, then `final_reads`."""

    workload: Workload
    options: RunOptions
    recorder: Recorder
    clock: Clock
    open_port: OpenPort
    errors: dict[str, int] = field(default_factory=dict)
    hangs: int = 0
    keys: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self._active: list[_Key] = []
        self._processes: list[Process] = []

    def now_ns(self) -> int:
        return int(self.clock.now() * 1e9)

    async def start(self) -> None:
        """Opens the ports.

        Raises:
            ReplcacheError: the cluster can't be reached.
        """
        for index in range(self.options.processes):
            self._processes.append(Process(self, index, await self.open_port(index)))
        liked = int(self.options.processes * self.workload.keys_per_process)
        count = self.options.active_keys or max(1, liked)
        self._active = [self._fresh_key() for _ in range(count)]

    async def close(self) -> None:
        for process in self._processes:
            await process.port.close()

    async def work(self) -> None:
        """Lets all processes call until `seconds` are over; open calls are waited for."""
        end_s = self.clock.now() + self.options.seconds
        async with asyncio.TaskGroup() as group:
            for process in self._processes:
                group.create_task(self._process(process, end_s), name=f"process {process.index}")

    async def _process(self, process: Process, end_s: float) -> None:
        pause_s = self.options.processes / self.options.rate if self.options.rate else 0.0
        while self.clock.now() < end_s:
            key = await self._take(process, end_s)
            if key is None:
                continue
            await self.workload.step(process, key)
            if pause_s:
                await asyncio.sleep(process.rng.expovariate(1 / pause_s))
            else:
                await asyncio.sleep(0)

    async def final_reads(self, deadline_s: float) -> None:
        """Reads every key once more; keys that can't be read by the deadline (clock time) are in `unread`."""
        waiting = list(self.keys)

        async def read(process: Process) -> None:
            while waiting:
                key = waiting.pop()
                while not (await self.workload.final(process, key)).is_ok:
                    if self.clock.now() >= deadline_s:
                        self.unread.append(key)
                        break

        async with asyncio.TaskGroup() as group:
            for process in self._processes:
                group.create_task(read(process), name=f"final reads {process.index}")

    async def remove_keys(self) -> int:
        """Deletes what the run wrote, as far as the cluster lets it; returns how many keys are left."""
        left = 0
        names = [name for key in self.keys for name in self.workload.data_keys(key)]
        for index, name in enumerate(names):
            process = self._processes[index % len(self._processes)]
            try:
                await process.port.delete(name)
            except ReplcacheError:
                left += 1
        return left

    # --- keys ---

    def _fresh_key(self) -> _Key:
        name = f"{self.options.prefix}{len(self.keys)}"
        self.keys.append(name)
        return _Key(name, self.options.ops_per_key)

    async def _take(self, process: Process, end_s: float) -> str | None:
        """A ready key with room for one step; None: it could not be made ready now."""
        place = process.rng.randrange(len(self._active))
        key = self._active[place]
        calls = self.workload.calls_per_step
        # One operation is kept for the final read.
        if key.left - 1 < calls:
            key = self._active[place] = self._fresh_key()
        key.left -= calls
        try:
            async with key.preparing:
                if not key.is_ready:
                    await self.workload.prepare(key.name, process.port)
                    key.is_ready = True
        except ReplcacheError as err:
            self.errors[err.reason] = self.errors.get(err.reason, 0) + 1
            key.left += calls
            await asyncio.sleep(min(NOT_APPLIED_PAUSE_S, max(0.0, end_s - self.clock.now())))
            return None
        return key.name
