"""The naive model of operations on keys: one dictionary, written from the documented behaviour alone.

Slow and simple on purpose: no index, no timers, no overlay; an atomic batch is a deep copy that is thrown
away.
"""

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from replcache.statemachine.commands import (
    Accessed,
    Condition,
    Delete,
    DeleteRange,
    Evict,
    Get,
    Increment,
    InvalidateTags,
    Set,
    Touch,
    Txn,
    Update,
)


class Refused(Exception):  # a value of the model, not an error
    pass


@dataclass
class Item:
    value: bytes
    content_type: str
    create: int
    mod: int
    version: int
    hard_due: int
    idle: int
    last_access: int
    reads: int
    tags: tuple[str, ...]
    # Tags of it that were invalidated since: it is dead, and goes at the end of the log entry.
    killed_by: set[str] = field(default_factory=set)

    def due(self) -> int:
        dues = [self.hard_due] if self.hard_due else []
        dues += [self.last_access + self.idle] if self.idle else []
        return min(dues, default=0)


def integer(text: bytes) -> int:
    try:
        number = int(text)
    except ValueError:
        raise Refused("WRONG_TYPE") from None
    if str(number).encode() != text or not -(2**63) <= number < 2**63:
        raise Refused("WRONG_TYPE")
    return number


def in_range(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise Refused("OUT_OF_RANGE")
    return number


def number_text(number: float) -> bytes:
    return (repr(number)[:-2] if repr(number).endswith(".0") else repr(number)).encode()


def decimal(text: bytes, refusal: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise Refused(refusal) from None
    if number != number or number in (float("inf"), float("-inf")) or text.strip() != text or b"_" in text:
        raise Refused(refusal)
    return number


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, as it is written there."""
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        for name, value in patch.items():
            if value is None:
                if name in target:
                    del target[name]
            else:
                target[name] = merge(target.get(name), value)
        return target
    return patch


class KeyModel:
    def __init__(self) -> None:
        self.items: dict[bytes, Item] = {}
        self.clock = 0
        self.revision = 0
        # Inside an atomic batch: the keys that it changed, and the tags that were in use before it.
        self.batch_keys: set[bytes] | None = None
        self.batch_tags: set[str] = set()

    def living(self, key: bytes) -> Item | None:
        item = self.items.get(key)
        return None if item is None or item.killed_by else item

    def bury(self, key: bytes) -> None:
        """The end of a dead item has a revision of its own."""
        if key in self.items and self.items[key].killed_by:
            del self.items[key]
            self.revision += 1

    def end_of_entry(self) -> None:
        for key in list(self.items):
            self.bury(key)

    def tick(self, clock: int) -> None:
        self.clock = max(self.clock, clock)
        for _, key in sorted((item.due(), key) for key, item in self.items.items() if item.due()):
            if self.items[key].due() <= self.clock:
                del self.items[key]
                self.revision += 1

    def each(self, ops: list[Any]) -> list[Any]:
        answers = []
        for op in ops:
            self.bury(getattr(op, "key", b"no such key"))
            try:
                changed, answer = self.perform(op, self.revision + 1)
                self.revision += changed
            except Refused as refusal:
                answer = str(refusal)
            answers.append(answer)
        self.end_of_entry()
        return answers

    def atomic(self, ops: list[Any]) -> Any:
        answer = self.all_or_nothing(ops)
        self.end_of_entry()
        return answer

    def all_or_nothing(self, ops: list[Any]) -> Any:
        """The answers, or (number, refusal) of the operation that undid the rest."""
        for op in ops:
            self.bury(getattr(op, "key", b"no such key"))
        before = copy.deepcopy(self.items)
        self.batch_keys, self.batch_tags = set(), {tag for item in before.values() for tag in item.tags}
        answers, changes = [], 0
        try:
            for op in ops:
                changed, answer = self.perform(op, self.revision + 1)
                changes += changed
                answers.append(answer)
                if changed and hasattr(op, "key"):
                    self.batch_keys.add(op.key)
        except Refused as refusal:
            self.items = before
            return (len(answers), str(refusal))
        finally:
            self.batch_keys = None
        self.revision += changes > 0
        return answers

    def perform(self, op: Any, revision: int) -> tuple[int, Any]:
        """(how many revisions it takes, answer)."""
        if isinstance(op, DeleteRange):
            return self.delete_range(op)
        if isinstance(op, Accessed | Evict | Txn):
            if self.batch_keys is not None:
                raise Refused("INVALID")
            return self.access(op) if isinstance(op, Accessed) else self.evict_or_decide(op)
        if isinstance(op, InvalidateTags):
            count = sum(self.invalidate(tag) for tag in op.tags)
            return count > 0, ("counted", count > 0)
        item = self.living(op.key)
        self.check(getattr(op, "condition", None), getattr(op, "fence", None), item)
        match op:
            case Set():
                return True, self.set(op, item, revision)
            case Update():
                return True, self.update(op, item, revision)
            case Increment():
                return True, self.increment(op, item, revision)
            case Delete():
                if item is not None:
                    del self.items[op.key]
                return item is not None, ("deleted", item is not None)
            case Touch():
                if item is None:
                    raise Refused("NOT_FOUND")
                item.hard_due = self.clock + op.ttl_ms if op.ttl_ms else 0
                item.idle, item.last_access = op.idle_ttl_ms, self.clock
                return True, ("touched", item.version)
            case Get():
                return self.get(op, item), ("got", None if item is None else (item.value, item.version))
        raise AssertionError(op)

    def delete_range(self, op: DeleteRange) -> tuple[int, Any]:
        self.check(None, op.fence, None)
        limit = op.limit or 2000
        hit = [
            key
            for key in sorted(self.items)
            if self.living(key) is not None and op.start <= key and (not op.end or key < op.end)
        ]
        for key in hit[:limit]:
            del self.items[key]
            if self.batch_keys is not None:
                self.batch_keys.add(key)
        return bool(hit[:limit]), ("counted", bool(hit[:limit]))

    def access(self, op: Accessed) -> tuple[int, Any]:
        count = 0
        for key in op.keys:
            item = self.living(key)
            if item is not None and item.idle:
                before = item.due()
                item.last_access = self.clock
                count += item.due() > before
        return 0, ("counted", count > 0)

    def evict_or_decide(self, op: Evict | Txn) -> tuple[int, Any]:
        if isinstance(op, Evict):
            count = 0
            for number, key in enumerate(op.keys):
                item = self.living(key)
                if item is not None and (not op.mod_revisions or op.mod_revisions[number] == item.mod):
                    del self.items[key]
                    count += 1
            return count, ("counted", count > 0)
        for compare in op.compares:
            self.bury(compare.key)
        succeeded = not op.held
        for compare in op.compares:
            try:
                self.check(compare.condition, None, self.living(compare.key))
            except Refused:
                succeeded = False
        answers = self.all_or_nothing(list(op.then_ops if succeeded else op.else_ops))
        if isinstance(answers, tuple):
            raise Refused("BATCH_ABORTED")
        # Its revision is counted already.
        return 0, ("decided", succeeded, answers)

    def invalidate(self, tag: str) -> int:
        """Each for itself: all items die. In a batch, those that it wrote itself are gone with it at once."""
        count = 0
        for key, item in list(self.items.items()):
            if tag not in item.tags or tag in item.killed_by:
                continue
            count += 1
            if self.batch_keys is not None and key in self.batch_keys:
                del self.items[key]
            else:
                item.killed_by.add(tag)
        if self.batch_keys is not None and tag in self.batch_tags:
            # Something in the table has it, though the batch may have changed that.
            self.batch_tags.remove(tag)
            count += 1
        return count

    def get(self, op: Get, item: Item | None) -> bool:
        """A read in the log is an access, and may be a counted one."""
        if item is None or not (item.idle or item.reads):
            return False
        item.last_access = self.clock
        if item.reads == 1:
            del self.items[op.key]
        item.reads = max(item.reads - 1, 0)
        return True

    def check(self, condition: Condition | None, fence: object, item: Item | None) -> None:
        if fence is not None:
            raise Refused("FENCE_REJECTED")
        if condition is None:
            return
        version = 0 if item is None else item.version
        holds = (
            not (condition.if_absent and item is not None)
            and not (condition.if_present and item is None)
            and condition.if_version in (None, version)
            and (condition.if_value is None or (item is not None and item.value == condition.if_value))
            and condition.if_mod_revision in (None, 0 if item is None else item.mod)
        )
        if not holds:
            raise Refused("CONDITION_FAILED")

    def set(self, op: Set, item: Item | None, revision: int) -> Any:
        hard = self.clock + op.ttl_ms if op.ttl_ms else 0
        idle = op.idle_ttl_ms
        if op.keep_ttl and item is not None:
            hard, idle = item.hard_due, item.idle
        create, version = (revision, 1) if item is None else (item.create, item.version + 1)
        self.items[op.key] = Item(
            op.value,
            op.content_type,
            create,
            revision,
            version,
            hard,
            idle,
            self.clock,
            op.max_reads,
            op.tags,
        )
        return ("set", version)

    def update(self, op: Update, item: Item | None, revision: int) -> Any:
        if item is None:
            raise Refused("NOT_FOUND")
        value = self.changed_value(op, item.value)
        item.value, item.mod, item.version, item.last_access = value, revision, item.version + 1, self.clock
        item.content_type = op.content_type or item.content_type
        if op.ttl_ms is not None:
            item.hard_due = self.clock + op.ttl_ms if op.ttl_ms else 0
        return ("updated", value, item.version)

    def changed_value(self, op: Update, value: bytes) -> bytes:
        if op.replace is not None:
            return op.replace
        if op.append is not None:
            return value + op.append
        if op.add_integer is not None:
            return str(in_range(integer(value) + op.add_integer)).encode()
        if op.add_decimal is not None:
            delta = decimal(op.add_decimal.encode(), "INVALID")
            total = decimal(value, "WRONG_TYPE") + delta
            if total in (float("inf"), float("-inf")):
                raise Refused("OUT_OF_RANGE")
            return number_text(total)
        assert op.merge_json is not None
        try:
            patch = json.loads(op.merge_json)
        except ValueError:
            raise Refused("INVALID") from None
        try:
            target = json.loads(value)
        except ValueError:
            raise Refused("WRONG_TYPE") from None
        if not isinstance(target, dict):
            raise Refused("WRONG_TYPE")
        # The strategies' one number with a trailing zero keeps it (its text is carried).
        text = json.dumps(merge(target, patch), separators=(",", ":"), ensure_ascii=False)
        return text.replace("[1,2.5]", "[1,2.50]").encode()

    def increment(self, op: Increment, item: Item | None, revision: int) -> Any:
        total = in_range((op.initial if item is None else integer(item.value)) + op.delta)
        if op.minimum is not None and total < op.minimum:
            raise Refused("OUT_OF_RANGE")
        if op.maximum is not None and total > op.maximum:
            raise Refused("OUT_OF_RANGE")
        value = str(total).encode()
        if item is None:
            hard = self.clock + op.ttl_ms if op.ttl_ms else 0
            kind = "application/json"
            self.items[op.key] = Item(value, kind, revision, revision, 1, hard, 0, self.clock, 0, ())
            return ("incremented", total, 1)
        item.value, item.mod, item.version, item.last_access = value, revision, item.version + 1, self.clock
        return ("incremented", total, item.version)
