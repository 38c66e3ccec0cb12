"""Locks against the naive model, and the promise itself: who holds a lock is never shared by two tokens."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from replcache.statemachine.commands import Fence, LockAcquire, LockRelease, LockRenew, Set
from replcache.statemachine.events import LockEvent, LockEventKind
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import LockResult, Refusal, ReleaseResult, SetResult
from tests.helpers.machine import Driver
from tests.property.lock_model import LockModel

names = st.sampled_from(["a", "b"])
owners = st.sampled_from([b"1", b"2", b"3", b"4"])
times = st.sampled_from([1, 10, 64, 100, 300])


def plain(result: Any) -> Any:
    match result:
        case Refusal():
            return result.code.name
        case LockResult():
            return ("held", result.token) if result.token else ("waits", result.position)
        case ReleaseResult():
            return ("released", result.released)
    raise AssertionError(result)


class LocksAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.model = LockModel()
        self.tokens = [0]

    def follow(self) -> None:
        granted = [
            (event.name, event.owner, event.token)
            for event in self.driver.events
            if isinstance(event, LockEvent) and event.kind is LockEventKind.GRANTED
        ]
        assert granted == self.model.granted
        for _, _, token in granted:
            assert token > max(self.tokens)
            self.tokens.append(token)

    @rule(
        name=names,
        owner=owners,
        ttl=times,
        wait=st.sampled_from([0, 10, 100, 1000]),
        shared=st.booleans(),
        permits=st.sampled_from([0, 1, 1, 1, 2]),
        attempt=st.integers(0, 2),
    )
    def acquire(self, **request: Any) -> None:
        op = LockAcquire(
            request["name"],
            request["owner"],
            request["ttl"],
            request["wait"],
            request["shared"],
            request["permits"],
            "",
            request["attempt"],
        )
        self.model.granted = []
        assert plain(self.driver.one(op)) == self.model.acquire(op)
        self.follow()

    @rule(name=names, owner=owners, ttl=times, back=st.integers(0, 3))
    def renew(self, name: str, owner: bytes, ttl: int, back: int) -> None:
        op = LockRenew(name, owner, self.tokens[-1 - back % len(self.tokens)], ttl)
        self.model.granted = []
        assert plain(self.driver.one(op)) == self.model.renew(op)

    @rule(name=names, owner=owners, back=st.integers(-1, 3), attempt=st.sampled_from([0, 0, 1, 2]))
    def release(self, name: str, owner: bytes, back: int, attempt: int) -> None:
        token = 0 if back < 0 else self.tokens[-1 - back % len(self.tokens)]
        op = LockRelease(name, owner, token, attempt)
        self.model.granted = []
        assert plain(self.driver.one(op)) == self.model.release(op)
        self.follow()

    @rule(milliseconds=st.sampled_from([1, 9, 10, 50, 64, 100, 500]))
    def time_passes(self, milliseconds: int) -> None:
        self.driver.pass_ms(milliseconds)
        self.model.tick(self.driver.clock_ms)
        self.follow()

    @rule(name=names, back=st.integers(0, 5))
    def writes_with_a_token(self, name: str, back: int) -> None:
        """Accepted exactly when the lock is held under this token now."""
        token = self.tokens[-1 - back % len(self.tokens)]
        result = self.driver.one(Set(b"k", b"v", fence=Fence(name, token)))
        held = any(place.name == name and place.token == token for place in self.model.holders)
        assert isinstance(result, SetResult) == held
        self.model.revision += held

    @rule()
    def moves_to_another_node(self) -> None:
        self.driver.machine = StateMachine.restore(self.driver.machine.begin_snapshot().chunks())

    @invariant()
    def same_state(self) -> None:
        machine = self.driver.machine
        machine.check_invariants()
        assert machine.revision == self.model.revision
        for name in ("a", "b"):
            views = machine.describe_locks(name)
            holders = [place for view in views for place in view.holders]
            waiters = [place for view in views for place in view.waiters]
            clock = self.model.clock
            assert [(place.owner, place.token, place.expires_in_ms) for place in holders] == [
                (place.owner, place.token, place.due - clock)
                for place in self.model.of(self.model.holders, name)
            ]
            assert [(place.owner, place.expires_in_ms) for place in waiters] == [
                (place.owner, place.due - clock) for place in self.model.of(self.model.waiters, name)
            ]
            exclusive = [place for place in holders if not place.shared and views[0].permits == 1]
            assert len(exclusive) <= 1
            assert not exclusive or len(holders) == 1


LocksAgainstModel.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestLocksAgainstModel = LocksAgainstModel.TestCase
