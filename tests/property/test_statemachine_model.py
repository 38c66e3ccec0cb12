"""The state machine against the naive model, step by step, also over snapshots."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from replcache.statemachine.commands import Command, Set, SetMany
from replcache.statemachine.events import Event, EventKind, TagEvent
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import (
    CountResult,
    DeleteResult,
    GetResult,
    IncrementResult,
    Refusal,
    RefusalCode,
    SetManyResult,
    SetResult,
    TouchResult,
    TxnResult,
    UpdateResult,
)
from tests.helpers.machine import Driver
from tests.property.key_model import KeyModel
from tests.property.strategies import KEYS, columns, modelled_ops

GONE = (EventKind.DELETE, EventKind.EXPIRE, EventKind.INVALIDATE, EventKind.EVICT)


def plain(result: Any) -> Any:
    """A result in the model's words."""
    match result:
        case Refusal():
            return result.code.name
        case SetResult():
            return ("set", result.version)
        case UpdateResult():
            return ("updated", result.entry.value, result.entry.version)
        case DeleteResult():
            return ("deleted", result.deleted)
        case TouchResult():
            return ("touched", result.version)
        case IncrementResult():
            return ("incremented", result.value, result.version)
        case TxnResult():
            return ("decided", result.succeeded, [plain(one) for one in result.results])
        case CountResult():
            return ("counted", result.count > 0)
        case GetResult():
            entry = result.entry
            return ("got", None if entry is None else (entry.value, entry.version))
    raise AssertionError(result)


class AgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.model = KeyModel()
        # What a watcher that sees every event believes to be stored.
        self.watched: dict[bytes, bytes] = {}

    def follow_events(self) -> None:
        for event in self.driver.events:
            if isinstance(event, TagEvent):
                continue
            assert isinstance(event, Event)
            if event.row is None:
                assert event.kind in GONE
                del self.watched[event.key]
            else:
                self.watched[event.key] = event.row[0]

    @rule(ops=st.lists(modelled_ops, min_size=1, max_size=5))
    def each_for_itself(self, ops: list[Any]) -> None:
        assert [plain(result) for result in self.driver.do(*ops)] == self.model.each(ops)
        self.follow_events()

    @rule(ops=st.lists(modelled_ops, min_size=1, max_size=5))
    def all_or_nothing(self, ops: list[Any]) -> None:
        revision = self.driver.machine.revision
        result = self.driver.atomic(*ops)
        expected = self.model.atomic(ops)
        if isinstance(result, Refusal):
            assert result.code is RefusalCode.BATCH_ABORTED
            assert result.cause is not None
            assert (result.failed_op, result.cause.name) == expected
            assert self.driver.machine.revision == revision
            assert self.driver.events == []
        else:
            assert isinstance(result, tuple)
            assert [plain(one) for one in result] == expected
        self.follow_events()

    @rule(many=columns(), atomic=st.booleans())
    def set_in_columns(self, many: SetMany, atomic: bool) -> None:
        result = self.driver.run(Command(set_many=many, atomic=atomic))[0]
        assert isinstance(result, SetManyResult)
        versions = []
        first = self.model.revision + 1
        for number, (key, value) in enumerate(zip(many.keys, many.values, strict=True)):
            revision = first if atomic else first + number
            item = self.model.items.get(key)
            self.model.bury(key)
            op = Set(key, value, many.content_type, many.ttl_ms)
            versions.append(self.model.set(op, item, revision)[1])
            self.model.revision = revision
        assert result.versions == versions
        if versions:
            assert result.first_revision == first
        self.follow_events()

    @rule(milliseconds=st.sampled_from([1, 2, 5, 60, 64, 70, 1000]))
    def time_passes(self, milliseconds: int) -> None:
        self.driver.pass_ms(milliseconds)
        self.model.tick(self.driver.clock_ms)
        self.follow_events()

    @rule()
    def moves_to_another_node(self) -> None:
        digest = self.driver.machine.digest()
        self.driver.machine = StateMachine.restore(self.driver.machine.begin_snapshot().chunks())
        assert self.driver.machine.digest() == digest

    @invariant()
    def same_state(self) -> None:
        machine = self.driver.machine
        machine.check_invariants()
        assert machine.revision == self.model.revision
        stored = {}
        for key in KEYS:
            entry, item = machine.peek(key), self.model.items.get(key)
            assert (entry is None) == (item is None)
            if entry is None or item is None:
                continue
            stored[key] = item.value
            assert entry.value == item.value
            assert entry.content_type == item.content_type
            assert (entry.create_revision, entry.mod_revision, entry.version) == (
                item.create,
                item.mod,
                item.version,
            )
            assert (entry.expires_at_ms, entry.idle_ttl_ms) == (item.due(), item.idle)
            assert (entry.reads_left, entry.tags) == (item.reads, item.tags)
        assert self.watched == stored
        for prefix in (b"", b"a", b"b\x00", b"\xff"):
            expected = sorted(key for key in self.model.items if key.startswith(prefix))
            assert [key for key, _ in machine.scan(prefix, b"", 100)[0]] == expected
        for tag in ("t1", "t2", "ü"):
            expected = sorted(key for key, item in self.model.items.items() if tag in item.tags)
            assert [key for key, _ in machine.find_page([tag], b"", 100)[0]] == expected
        both = [key for key in sorted(stored) if {"t1", "t2"} <= set(self.model.items[key].tags)]
        assert machine.find_page(["t1", "t2"], b"", 100) == ([(key, machine.peek(key)) for key in both], None)
        dues = [item.due() for item in self.model.items.values() if item.due()]
        next_due = machine.next_due_ms()
        if dues:
            assert next_due is not None
            assert self.driver.clock_ms < next_due <= min(dues)
        else:
            assert next_due is None


AgainstModel.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestAgainstModel = AgainstModel.TestCase
