"""One verification from the first call to the verdict, and the same verdict again from a recorded history.

A run has phases, as the fault suites of etcd and TigerBeetle have: a quiet start, faults while the processes
go on, healing, and last a linearizable read of every key, by a deadline. So a write that was lost for good
is found even if nobody looked at it before, and a cluster that does not come back is not taken for a
correct one.
"""

import asyncio
import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final, Protocol

from replcache.clock import Clock, SystemClock
from replcache.verify.checker import TIME_BUDGET_S, CheckResult, Verdict, check
from replcache.verify.explain import Explanation, explain
from replcache.verify.history import History, HistoryError, Recorder, Value, broken_assumptions, read_history
from replcache.verify.levels import check_levels, is_weak
from replcache.verify.models import Model, model_named
from replcache.verify.port import OpenPort, ReadLevel
from replcache.verify.workload import Run, RunOptions, Workload
from replcache.verify.workloads import workload_named

# Time for the cluster to answer again after the last fault: elections and restarts included.
RECOVERY_S: Final = 30.0
# Part of the run before the first fault.
_QUIET_SHARE: Final = 0.15


class Faults(Protocol):
    """Somebody who breaks the cluster while it is used (kills, partitions, pauses)."""

    async def inject(self, rng: random.Random) -> str:
        """Breaks something; returns what, for the report."""
        ...

    async def heal(self) -> None:
        """Repairs all that is broken."""
        ...

    def pause_s(self, rng: random.Random) -> float:
        """Time until the next fault."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict and what it is based on.

    problems: reasons for INVALID (broken assumptions, calls that hang, keys that can't be read after the
        faults), and violations by weak reads.
    errors: number of calls that ended with each error reason.
    """

    verdict: Verdict
    workload: str
    history: History
    result: CheckResult | None
    explanation: Explanation | None = None
    problems: tuple[str, ...] = ()
    errors: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    keys_left: int = 0
    path: Path | None = None

    @property
    def exit_code(self) -> int:
        return self.verdict.exit_code

    def text(self) -> str:
        """For a terminal: verdict, figures, and for a violation the explanation."""
        counts = self.history.counts()
        lines = [f"{self.workload}: {self.verdict.value}"]
        figures = ", ".join(f"{count} {name}" for name, count in counts.items())
        lines.append(f"  {len(self.history)} calls: {figures}")
        if self.result is not None:
            lines.append(
                f"  {len(self.result.partitions)} keys judged as {self.result.model} in "
                f"{self.result.seconds:.2f} s, {self.result.configurations} configurations"
            )
        if self.errors:
            lines.append("  errors: " + ", ".join(f"{n} {name}" for name, n in sorted(self.errors.items())))
        lines += [f"  fault: {what}" for what in self.faults]
        lines += [f"  problem: {problem}" for problem in self.problems]
        if self.path is not None:
            lines.append(f"  history: {self.path}")
        if self.keys_left:
            lines.append(f"  {self.keys_left} keys of the run could not be removed from the cluster")
        if self.explanation is not None:
            lines += ["  " + line for line in self.explanation.text().splitlines()]
        return "\n".join(lines)


async def verify(
    url: str | None = None,
    workload: str = "register",
    seconds: float = 10.0,
    processes: int = 10,
    seed: int | None = None,
    read_level: ReadLevel = "linearizable",
    faults: Faults | None = None,
    history_path: Path | None = None,
    *,
    rate: float = 0.0,
    ops_per_key: int = 200,
    timeout_s: float = 5.0,
    workload_options: Mapping[str, Value] | None = None,
    time_budget_s: float = TIME_BUDGET_S,
    recovery_s: float = RECOVERY_S,
    clean_up: bool = True,
    open_port: OpenPort | None = None,
    clock: Clock | None = None,
    strict: bool = False,
) -> Report:
    """Runs a workload against a cluster and judges what it answered.

    Args:
        url: of the cluster, as for the client; None: REPLCACHE_URL. Not used with `open_port`.
        workload: one of workloads.WORKLOADS.
        seconds: of the workload itself; checking comes after it.
        seed: of all choices; None: drawn, and part of the report (history.meta).
        read_level: of the register workload's reads; weaker ones are judged by what they promise.
        faults: breaks the cluster meanwhile.
        history_path: the history is written there while it grows; may be replayed with `replay`.
        rate: calls a second of all processes together; 0: no limit.
        timeout_s, recovery_s: deadline of each call; time for the cluster to answer again at the end.
        clean_up: remove the keys of the run, unless it found a violation.
        open_port, clock: another way to a store than the client, and another clock for the calls; for tests.
        strict: weak reads are judged as if they were linearizable: shows what the level gives up.

    Raises:
        ValueError: no such workload, or one that can't have this read level.
        ReplcacheError: the cluster can't be reached at all.
        OSError: the history can't be written.
    """
    work = workload_named(workload, workload_options)
    if read_level not in work.read_levels:
        raise ValueError(
            f"workload {workload!r} reads {', '.join(work.read_levels)} only, not {read_level!r}"
        )
    drawn = random.SystemRandom()
    seed = drawn.randrange(1 << 32) if seed is None else seed
    options = RunOptions(
        seconds=seconds,
        processes=processes,
        seed=seed,
        rate=rate,
        ops_per_key=ops_per_key,
        read_level=read_level,
        timeout_s=timeout_s,
        is_strict=strict,
        # Fresh keys for each run, also with the same seed: what an earlier run left must not be read.
        prefix=f"verify/{workload}/{seed}-{drawn.randrange(1 << 32):08x}/",
    )
    with ExitStack() as stack:
        sink: IO[str] | None = None
        if history_path is not None:
            sink = stack.enter_context(history_path.open("w", encoding="utf-8"))
        recorder = Recorder(_meta(work, options), sink)
        ports = open_port or _client_ports(url, timeout_s)
        run = Run(work, options, recorder, clock or SystemClock(), ports)
        report = await _executed(run, faults, recovery_s, time_budget_s, clean_up)
    return replace(report, path=history_path)


def _meta(work: Workload, options: RunOptions) -> dict[str, Value]:
    """What a replay needs, and what people want to know."""
    model = work.model()
    return {
        "workload": work.name,
        "model": model.name,
        "model_options": work.model_options(),
        "seed": options.seed,
        "seconds": options.seconds,
        "processes": options.processes,
        "rate": options.rate,
        "read_level": options.read_level,
        "prefix": options.prefix,
    }


async def _executed(
    run: Run, faults: Faults | None, recovery_s: float, time_budget_s: float, clean_up: bool
) -> Report:
    try:
        await run.start()
        broken = await _phases(run, faults, recovery_s)
        history = run.recorder.history()
        problems = [*broken_assumptions(history, run.workload.assumptions), *_run_problems(run)]
        # In a thread: the loop keeps the clients' connections and sessions alive meanwhile.
        report = await asyncio.to_thread(_judged, history, run.workload.model(), problems, time_budget_s)
        left = 0
        if clean_up and report.verdict is Verdict.LINEARIZABLE:
            left = await run.remove_keys()
    finally:
        await run.close()
    return replace(report, errors=dict(run.errors), faults=tuple(broken), keys_left=left)


def _client_ports(url: str | None, timeout_s: float) -> OpenPort:
    # Only here: the client brings grpc, which replays and in-memory runs do without.
    from replcache.verify.client_port import client_ports

    return client_ports(url, timeout_s)


async def _phases(run: Run, faults: Faults | None, recovery_s: float) -> list[str]:
    """Work with faults, healing, final reads; what was broken, with times."""
    broken: list[str] = []
    start_s = run.clock.now()
    async with asyncio.TaskGroup() as group:
        work = group.create_task(run.work(), name="work")
        if faults is not None:
            group.create_task(_break(run, faults, work, broken, start_s), name="faults")
    await run.final_reads(run.clock.now() + recovery_s)
    return broken


async def _break(
    run: Run, faults: Faults, work: "asyncio.Task[None]", broken: list[str], start_s: float
) -> None:
    """Faults until the work is over; whatever happens, everything is healed at the end."""
    rng = random.Random(f"{run.options.seed}/faults")
    pause_s = run.options.seconds * _QUIET_SHARE
    try:
        while True:
            done, _ = await asyncio.wait({work}, timeout=pause_s)
            if done:
                return
            what = await faults.inject(rng)
            broken.append(f"{run.clock.now() - start_s:.1f} s: {what}")
            pause_s = faults.pause_s(rng)
    finally:
        await faults.heal()


def _run_problems(run: Run) -> list[str]:
    problems = [f"{run.hangs} calls did not end by their deadline"] if run.hangs else []
    if run.unread:
        names = ", ".join(run.unread[:3])
        problems.append(f"{len(run.unread)} keys could not be read at the end, e.g. {names}")
    return problems


def replay(history_path: Path, *, time_budget_s: float = TIME_BUDGET_S) -> Report:
    """The verdict on a history that `verify` recorded.

    Raises:
        HistoryError: not such a file, or it does not say its model.
        OSError: it can't be opened.
    """
    history = read_history(history_path)
    name = str(history.meta.get("model", ""))
    try:
        model = model_named(name, history.meta.get("model_options"))
        assumptions = workload_named(str(history.meta.get("workload", ""))).assumptions
    except ValueError as err:
        raise HistoryError(f"{history_path}: {err}") from err
    problems = broken_assumptions(history, assumptions)
    return replace(_judged(history, model, problems, time_budget_s), path=history_path)


def _judged(history: History, model: Model, problems: list[str], time_budget_s: float) -> Report:
    """A violation is one whatever else is wrong; otherwise problems make the run invalid."""
    strong = [operation for operation in history.operations if not is_weak(operation)]
    result = check(strong, model, time_budget_s=time_budget_s)
    explanation = None
    weak = check_levels(history)
    verdict = result.verdict
    if result.verdict is Verdict.VIOLATION and result.bad is not None:
        explanation = explain(result.bad, model)
    elif weak:
        verdict = Verdict.VIOLATION
    elif problems:
        verdict = Verdict.INVALID
    workload = str(history.meta.get("workload", model.name))
    return Report(verdict, workload, history, result, explanation, (*weak, *problems))
