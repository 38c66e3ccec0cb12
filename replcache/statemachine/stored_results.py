"""Stored replies in plain form: what a session's retry gets again survives snapshots to the last field.

One table: class -> number and kinds of its fields, in their order. Numbers are stored: never reuse one, and
never change the fields of one; a changed result gets a new number.
"""

from collections.abc import Callable
from typing import Final

from replcache.statemachine.entries import Entry, as_entry
from replcache.statemachine.invariants import UnknownFormat, require
from replcache.statemachine.plain import PlainReader, PlainWriter, read_row, write_row
from replcache.statemachine.results import (
    ChangeResult,
    CommandResult,
    CountResult,
    DeleteResult,
    GetResult,
    IncrementResult,
    LeaseResult,
    LockResult,
    OpResult,
    Refusal,
    RefusalCode,
    ReleaseResult,
    SessionResult,
    SetManyResult,
    SetResult,
    TouchResult,
    TxnResult,
    UpdateResult,
)

_SET_MANY: Final = 100
_TUPLE: Final = 101

# Kinds of fields: u unsigned, s signed, f flag, t text, e entry or None, c refusal code or None (0),
# r results of operations.
_LAYOUTS: Final[dict[type, tuple[int, str, Callable[..., OpResult]]]] = {
    Refusal: (1, "ctsc", Refusal),
    SetResult: (2, "uue", SetResult),
    UpdateResult: (3, "eu", UpdateResult),
    DeleteResult: (4, "fue", DeleteResult),
    TouchResult: (5, "uu", TouchResult),
    IncrementResult: (6, "suu", IncrementResult),
    GetResult: (7, "euu", GetResult),
    LockResult: (8, "uuuu", LockResult),
    ReleaseResult: (9, "fu", ReleaseResult),
    SessionResult: (10, "ufuu", SessionResult),
    CountResult: (11, "uuf", CountResult),
    LeaseResult: (12, "ufuu", LeaseResult),
    TxnResult: (13, "fru", TxnResult),
    ChangeResult: (14, "fu", ChangeResult),
}
_BY_NUMBER: Final = {number: (kinds, make) for number, kinds, make in _LAYOUTS.values()}
# What a reply costs besides the values in it.
REPLY_OVERHEAD_BYTES: Final = 200


def reply_size(result: CommandResult) -> int:
    """Bytes of memory that keeping `result` holds on to, about."""
    if isinstance(result, SetManyResult):
        return REPLY_OVERHEAD_BYTES + 16 * len(result.versions)
    if isinstance(result, Refusal):
        return REPLY_OVERHEAD_BYTES
    size = REPLY_OVERHEAD_BYTES
    for one in result:
        size += REPLY_OVERHEAD_BYTES
        if isinstance(one, UpdateResult | GetResult):
            size += 0 if one.entry is None else len(one.entry.value)
        elif isinstance(one, TxnResult):
            size += reply_size(one.results)
        elif isinstance(one, SetResult | DeleteResult):
            size += 0 if one.previous is None else len(one.previous.value)
    return size


def write_result(writer: PlainWriter, result: CommandResult) -> None:
    if isinstance(result, tuple):
        writer.unsigned(_TUPLE)
        writer.unsigned(len(result))
        for op_result in result:
            _write_op_result(writer, op_result)
    elif isinstance(result, SetManyResult):
        writer.unsigned(_SET_MANY)
        writer.unsigned(result.first_revision)
        writer.unsigned(len(result.versions))
        writer.unsigned_column(result.versions)
    else:
        _write_op_result(writer, result)


def read_result(reader: PlainReader) -> CommandResult:
    number = reader.unsigned()
    if number == _TUPLE:
        return tuple(_read_op_result(reader, reader.unsigned()) for _ in range(reader.unsigned()))
    if number == _SET_MANY:
        first_revision = reader.unsigned()
        return SetManyResult(list(reader.unsigned_column(reader.unsigned())), first_revision)
    result = _read_op_result(reader, number)
    require(isinstance(result, Refusal), f"stored result {number} is not one of a whole command")
    assert isinstance(result, Refusal)
    return result


def _write_op_result(writer: PlainWriter, result: OpResult) -> None:
    number, kinds, _ = _LAYOUTS[type(result)]
    writer.unsigned(number)
    for kind, name in zip(kinds, type(result).__slots__, strict=True):
        _write_field(writer, kind, getattr(result, name))


def _write_field(writer: PlainWriter, kind: str, value: object) -> None:
    if kind == "e":
        writer.flag(value is not None)
        if isinstance(value, Entry):
            write_row(writer, value.row)
    elif kind == "r":
        assert isinstance(value, tuple)
        writer.unsigned(len(value))
        for result in value:
            _write_op_result(writer, result)
    elif kind == "t":
        assert isinstance(value, str)
        writer.text(value)
    elif kind == "f":
        writer.flag(bool(value))
    elif kind == "s":
        assert isinstance(value, int)
        writer.signed(value)
    else:
        assert value is None or isinstance(value, int)
        writer.unsigned(value or 0)


def _read_op_result(reader: PlainReader, number: int) -> OpResult:
    layout = _BY_NUMBER.get(number)
    if layout is None:
        raise UnknownFormat(f"stored result {number} is not known to this version")
    kinds, make = layout
    return make(*[_read_field(reader, kind) for kind in kinds])


def _read_field(reader: PlainReader, kind: str) -> object:
    if kind == "e":
        return as_entry(read_row(reader)) if reader.flag() else None
    if kind == "r":
        return tuple(_read_op_result(reader, reader.unsigned()) for _ in range(reader.unsigned()))
    if kind == "t":
        return reader.text()
    if kind == "f":
        return reader.flag()
    if kind == "s":
        return reader.signed()
    number = reader.unsigned()
    if kind == "c":
        return RefusalCode(number) if number else None
    return number
