"""Whole runs against in-memory stores: the correct one passes, each wrong one is found."""

import random
from pathlib import Path

import pytest

from replcache.errors import NoLeader
from replcache.verify.checker import Verdict
from replcache.verify.port import Found, ReadLevel
from replcache.verify.run import Report, replay, verify
from replcache.verify.workloads import WORKLOADS
from tests.helpers import memory_store as stores
from tests.helpers.virtual_loop import VirtualClock, run_virtually


def run_against(
    kind: type[stores.MemoryStore], workload: str, seed: int, *, seconds: float = 30.0, **options: object
) -> Report:
    """A run in virtual time."""

    async def work(clock: VirtualClock) -> Report:
        store = kind(clock, random.Random(seed))
        return await verify(
            workload=workload,
            seconds=seconds,
            processes=10,
            seed=seed,
            rate=150,
            open_port=store.opener(),
            clock=clock,
            **options,  # type: ignore[arg-type]  # the arguments of verify
        )

    return run_virtually(work)


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_verify_correct_store_is_linearizable(workload: str, seed: int) -> None:
    report = run_against(stores.MemoryStore, workload, seed)
    assert report.verdict is Verdict.LINEARIZABLE, report.text()
    assert report.exit_code == 0
    assert report.history.counts()["ok"] > 500
    assert report.history.counts()["unknown"] >= 5


@pytest.mark.parametrize(
    ("workload", "kind"),
    [
        ("register", stores.StaleReads),
        ("register", stores.LostWrites),
        ("register", stores.AbortedWrites),
        ("register", stores.UncheckedConditions),
        ("counter", stores.StaleReads),
        ("counter", stores.LostWrites),
        ("counter", stores.DoubleEffects),
        ("exactly-once", stores.ForgottenRequests),
        ("exactly-once", stores.DoubleEffects),
        ("append", stores.StaleReads),
        ("append", stores.LostWrites),
        ("append", stores.AbortedWrites),
        ("append", stores.DoubleEffects),
        ("lock", stores.LockTwice),
        ("lock", stores.RepeatedTokens),
        ("lock", stores.IgnoredFence),
        ("lock", stores.EarlyExpiry),
        ("ttl", stores.EarlyExpiry),
        ("ttl", stores.Resurrection),
        ("ttl", stores.NeverExpires),
        ("ttl", stores.LostWrites),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_verify_wrong_store_is_found(workload: str, kind: type[stores.MemoryStore], seed: int) -> None:
    options = {"workload_options": {"late_tolerance_ns": 500_000_000}} if kind is stores.NeverExpires else {}
    report = run_against(kind, workload, seed, **options)
    assert report.verdict is Verdict.VIOLATION, report.text()
    assert report.exit_code == 1
    assert report.explanation is not None
    assert report.explanation.core
    print(report.text())


def test_verify_dead_store_is_invalid(seed: int) -> None:
    class Dead(stores.MemoryStore):
        """Answers nothing."""

        def get(self, key: str, level: ReadLevel) -> Found | None:
            raise NoLeader("none")

        def put(self, key: str, value: bytes, ttl_ms: int = 0) -> stores.Wrote:
            raise NoLeader("none")

    report = run_against(Dead, "register", seed, seconds=5.0)
    assert report.verdict is Verdict.INVALID
    assert report.exit_code == 2
    assert any("could not be read" in problem for problem in report.problems)
    assert any("succeeded" in problem for problem in report.problems)


@pytest.mark.parametrize("level", ["session", "one"])
def test_verify_weak_reads_of_correct_store_pass(level: ReadLevel, seed: int) -> None:
    report = run_against(stores.MemoryStore, "register", seed, read_level=level)
    assert report.verdict is Verdict.LINEARIZABLE, report.text()


@pytest.mark.parametrize("level", ["session", "one"])
def test_verify_weak_reads_that_break_their_promise_are_found(level: ReadLevel, seed: int) -> None:
    report = run_against(stores.StaleReads, "register", seed, read_level=level)
    assert report.verdict is Verdict.VIOLATION
    assert report.problems


def test_verify_level_that_the_workload_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="reads linearizable only"):
        run_against(stores.MemoryStore, "counter", 1, read_level="one")


@pytest.mark.parametrize(
    ("kind", "verdict"), [(stores.MemoryStore, Verdict.LINEARIZABLE), (stores.LostWrites, Verdict.VIOLATION)]
)
def test_replay_gives_the_same_verdict(
    kind: type[stores.MemoryStore], verdict: Verdict, seed: int, tmp_path: Path
) -> None:
    path = tmp_path / "history.jsonl"
    first = run_against(kind, "register", seed, history_path=path)
    again = replay(path)
    assert first.verdict is again.verdict is verdict
    assert again.history.operations == first.history.operations


class Breaker:
    """Faults that make the store refuse everything for a while."""

    def __init__(self) -> None:
        self.is_broken = False
        self.heals = 0

    async def inject(self, rng: random.Random) -> str:
        self.is_broken = not self.is_broken
        return "down" if self.is_broken else "up"

    async def heal(self) -> None:
        self.is_broken = False
        self.heals += 1

    def pause_s(self, rng: random.Random) -> float:
        return rng.uniform(1, 2)


def test_verify_with_faults_heals_before_the_final_reads(seed: int) -> None:
    breaker = Breaker()

    class Broken(stores.MemoryStore):
        """Down while the breaker says so."""

        def put(self, key: str, value: bytes, ttl_ms: int = 0) -> stores.Wrote:
            if breaker.is_broken:
                raise NoLeader("down")
            return super().put(key, value, ttl_ms)

    report = run_against(Broken, "append", seed, faults=breaker)
    assert report.verdict is Verdict.LINEARIZABLE, report.text()
    assert breaker.heals == 1
    assert len(report.faults) > 5
    assert report.errors["NO_LEADER"] > 20
