"""Atomic read-modify-write: Update of an existing value, and Increment, which also creates."""

from typing import TYPE_CHECKING

from replcache.constants import COMMAND_WORK_MERGE, COMMAND_WORK_REPLY, MANIFEST_TYPE, VALUE_BYTES_MAX
from replcache.statemachine.commands import Increment, Update
from replcache.statemachine.entries import Meta, Row, as_entry, earliest, make_meta, slide, typed_meta
from replcache.statemachine.json_merge import JSON_BYTES_MAX, NotJson, merge_patch
from replcache.statemachine.keyops import check, missing
from replcache.statemachine.numbers import add_decimal, is_in_range, parse_decimal, parse_integer
from replcache.statemachine.results import IncrementResult, Refusal, RefusalCode, UpdateResult
from replcache.statemachine.writers import Writer

if TYPE_CHECKING:
    from replcache.statemachine.machine import StateMachine

_NOT_INTEGER = Refusal(RefusalCode.WRONG_TYPE, "the value is not a decimal 64-bit integer")
_NOT_DECIMAL = Refusal(RefusalCode.WRONG_TYPE, "the value is not a decimal number")
_IN_PARTS = Refusal(
    RefusalCode.WRONG_TYPE, "the value is stored in parts: it can only be replaced as a whole"
)
_NOT_OBJECT = Refusal(
    RefusalCode.WRONG_TYPE, f"the value is not a JSON object of at most {JSON_BYTES_MAX} bytes"
)


def apply_update(machine: "StateMachine", writer: Writer, op: Update) -> UpdateResult | Refusal:
    row = writer.get(op.key)
    refusal = check(machine, op.key, op.fence, op.condition, row)
    if refusal is not None:
        return refusal
    if row is None:
        return missing("update")
    if op.replace is None and _is_in_parts(row):
        return _IN_PARTS
    if (refusal := machine.turn.spend(_work(op, row[0]))) is not None:
        return refusal
    value = _new_value(op, row[0])
    if isinstance(value, Refusal):
        return value
    if machine.store.namespaces.active:
        refusal = machine.store.check_quota(op.key, len(value), row, writer)
        if refusal is not None:
            return refusal
    meta = _updated_meta(row[4], op, writer.clock_ms)
    updated: Row = (value, row[1], writer.revision, row[3] + 1, meta)
    writer.put(op.key, updated)
    return UpdateResult(as_entry(updated), writer.revision)


def _is_in_parts(row: Row) -> bool:
    """Its bytes are a manifest: patching them would lose the value that they mean."""
    meta = row[4]
    return meta is not None and meta[0] == MANIFEST_TYPE


def _work(op: Update, value: bytes) -> int:
    """The new value goes into the store and into the reply; a merge also parses the old one and the patch."""
    if op.merge_json is not None:
        return (len(value) + len(op.merge_json)) * (COMMAND_WORK_REPLY + COMMAND_WORK_MERGE)
    size = len(op.replace) if op.replace is not None else len(value) + len(op.append or b"")
    return size * (1 + COMMAND_WORK_REPLY)


def _new_value(op: Update, value: bytes) -> bytes | Refusal:
    if op.replace is not None:
        return op.replace
    if op.append is not None:
        size = len(value) + len(op.append)
        if size > VALUE_BYTES_MAX:
            return _too_large(size)
        return value + op.append
    if op.add_integer is not None:
        number = parse_integer(value)
        if number is None:
            return _NOT_INTEGER
        total = number + op.add_integer
        if not is_in_range(total):
            return Refusal(RefusalCode.OUT_OF_RANGE, f"add {op.add_integer}: beyond 64 bits")
        return b"%d" % total
    if op.add_decimal is not None:
        return _add_decimal(value, op.add_decimal)
    if op.merge_json is not None:
        return _merge_json(value, op.merge_json)
    return Refusal(RefusalCode.INVALID, "update: no change is given")


def _too_large(size: int) -> Refusal:
    return Refusal(RefusalCode.QUOTA_EXCEEDED, f"the value would have {size} bytes, limit {VALUE_BYTES_MAX}")


def _add_decimal(value: bytes, delta_text: str) -> bytes | Refusal:
    delta = parse_decimal(delta_text.encode("utf-8"))
    if delta is None:
        return Refusal(
            RefusalCode.INVALID, f"add_decimal: {delta_text[:40]!a} is not a finite decimal number"
        )
    number = parse_decimal(value)
    if number is None:
        return _NOT_DECIMAL
    total = add_decimal(number, delta)
    if total is None:
        return Refusal(RefusalCode.OUT_OF_RANGE, f"add {delta_text[:40]}: beyond a 64-bit float")
    return total


def _merge_json(value: bytes, patch: bytes) -> bytes | Refusal:
    try:
        merged = merge_patch(value, patch)
    except NotJson as error:
        return Refusal(RefusalCode.INVALID, f"merge_json: {error}")
    if merged is None:
        return _NOT_OBJECT
    return merged if len(merged) <= VALUE_BYTES_MAX else _too_large(len(merged))


def _updated_meta(old: Meta | None, op: Update, clock_ms: int) -> Meta | None:
    """The old meta with what the update replaces; a write is an access, so a sliding expiry starts anew."""
    if op.ttl_ms is None and not op.content_type:
        return slide(old, clock_ms)
    if old is None:
        return make_meta(op.content_type, clock_ms, op.ttl_ms or 0, 0)
    content_type = op.content_type or old[0]
    hard_due = old[2]
    if op.ttl_ms is not None:
        hard_due = clock_ms + op.ttl_ms if op.ttl_ms else 0
    if not (hard_due or old[3] or old[4] or old[5] or old[6]):
        return typed_meta(content_type)
    due = earliest(hard_due, clock_ms + old[3] if old[3] else 0)
    return (content_type, due, hard_due, old[3], old[4], old[5], old[6], old[7])


def apply_increment(machine: "StateMachine", writer: Writer, op: Increment) -> IncrementResult | Refusal:
    row = writer.get(op.key)
    refusal = check(machine, op.key, op.fence, None, row)
    if refusal is not None:
        return refusal
    if row is None:
        number: int | None = op.initial
    elif _is_in_parts(row):
        return _IN_PARTS
    else:
        number = parse_integer(row[0])
    if number is None:
        return _NOT_INTEGER
    total = number + op.delta
    if not is_in_range(total):
        return Refusal(RefusalCode.OUT_OF_RANGE, f"add {op.delta}: beyond 64 bits")
    if op.minimum is not None and total < op.minimum:
        return Refusal(RefusalCode.OUT_OF_RANGE, f"add {op.delta}: below the minimum {op.minimum}")
    if op.maximum is not None and total > op.maximum:
        return Refusal(RefusalCode.OUT_OF_RANGE, f"add {op.delta}: above the maximum {op.maximum}")
    value = b"%d" % total
    if machine.store.namespaces.active:
        refusal = machine.store.check_quota(op.key, len(value), row, writer)
        if refusal is not None:
            return refusal
    revision = writer.revision
    if row is None:
        # Decimal text is JSON, and clients decode it as the number that it is.
        created = make_meta("application/json", writer.clock_ms, op.ttl_ms, 0)
        writer.put(op.key, (value, revision, revision, 1, created))
        return IncrementResult(total, 1, revision)
    writer.put(op.key, (value, row[1], revision, row[3] + 1, slide(row[4], writer.clock_ms)))
    return IncrementResult(total, row[3] + 1, revision)
