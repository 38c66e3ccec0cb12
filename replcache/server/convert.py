"""Requests to commands and results to responses. The checks of single fields are in validate.py.

Nothing here waits or talks to the node. `prefix` is the path of the operation inside a batch, such as
`operations[3].set.`, so that an error names the field as the caller wrote it; "" for single calls.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol

from google.protobuf.duration_pb2 import Duration

from replcache import constants
from replcache.errors import InvalidRequest
from replcache.pb.v1 import cache_pb2, common_pb2
from replcache.server import status_map, validate
from replcache.statemachine import commands
from replcache.statemachine.entries import Entry
from replcache.statemachine.results import (
    DeleteResult,
    GetResult,
    IncrementResult,
    OpResult,
    Refusal,
    SetResult,
    TouchResult,
    UpdateResult,
)

_MS_PER_S = 1000
_NANOS_PER_MS = 1_000_000

# --- requests ----------------------------------------------------------------------------------------------


def set_op(request: cache_pb2.SetRequest, prefix: str = "") -> commands.Set:
    ttl = idle = 0
    if request.HasField("ttl"):
        ttl = validate.ttl_ms(request.ttl, f"{prefix}ttl")
    if request.HasField("idle_ttl"):
        idle = validate.ttl_ms(request.idle_ttl, f"{prefix}idle_ttl")
    if request.keep_ttl and (ttl or idle):
        raise InvalidRequest(f"{prefix}keep_ttl contradicts a new ttl", field=f"{prefix}keep_ttl")
    return commands.Set(
        validate.key(request.key, f"{prefix}key"),
        validate.value(request.value, f"{prefix}value"),
        validate.content_type(request.content_type, f"{prefix}content_type"),
        ttl,
        idle,
        request.max_reads,
        validate.tags(request.tags, f"{prefix}tags") if request.tags else (),
        request.lease_id,
        request.keep_ttl,
        condition(request.condition, f"{prefix}condition") if request.HasField("condition") else None,
        validate.fence(request.fence, f"{prefix}fence") if request.HasField("fence") else None,
        request.want_previous,
    )


def update_op(request: cache_pb2.UpdateRequest, prefix: str = "") -> commands.Update:
    change = request.WhichOneof("change")
    if change is None:
        raise InvalidRequest(f"{prefix}change: exactly one must be given", field=f"{prefix}change")
    field = f"{prefix}{change}"
    replace = append = merge_json = None
    add_integer = None
    add_decimal = None
    if change == "replace":
        replace = validate.value(request.replace, field)
    elif change == "append":
        append = validate.value(request.append, field)
    elif change == "add_integer":
        add_integer = request.add_integer
    elif change == "add_float":
        # repr() is the shortest text that reads back as the same double on every machine.
        add_decimal = repr(validate.finite(request.add_float, field))
    else:
        merge_json = validate.value(request.merge_json, field)
    return commands.Update(
        validate.key(request.key, f"{prefix}key"),
        replace,
        append,
        add_integer,
        add_decimal,
        merge_json,
        validate.content_type(request.content_type, f"{prefix}content_type"),
        validate.ttl_ms(request.ttl, f"{prefix}ttl") if request.HasField("ttl") else None,
        _condition_of_existing(request, prefix),
        validate.fence(request.fence, f"{prefix}fence") if request.HasField("fence") else None,
    )


def delete_op(request: cache_pb2.DeleteRequest, prefix: str = "") -> commands.Delete:
    return commands.Delete(
        validate.key(request.key, f"{prefix}key"),
        condition(request.condition, f"{prefix}condition") if request.HasField("condition") else None,
        validate.fence(request.fence, f"{prefix}fence") if request.HasField("fence") else None,
        request.want_previous,
    )


def touch_op(request: cache_pb2.TouchRequest, prefix: str = "") -> commands.Touch:
    return commands.Touch(
        validate.key(request.key, f"{prefix}key"),
        validate.ttl_ms(request.ttl, f"{prefix}ttl") if request.HasField("ttl") else 0,
        validate.ttl_ms(request.idle_ttl, f"{prefix}idle_ttl") if request.HasField("idle_ttl") else 0,
        _condition_of_existing(request, prefix),
        validate.fence(request.fence, f"{prefix}fence") if request.HasField("fence") else None,
    )


def increment_op(request: cache_pb2.IncrementRequest, prefix: str = "") -> commands.Increment:
    minimum = request.minimum if request.HasField("minimum") else None
    maximum = request.maximum if request.HasField("maximum") else None
    if minimum is not None and maximum is not None and minimum > maximum:
        raise InvalidRequest(
            f"{prefix}minimum: {minimum} is above maximum {maximum}", field=f"{prefix}minimum"
        )
    return commands.Increment(
        validate.key(request.key, f"{prefix}key"),
        request.delta,
        request.initial,
        validate.ttl_ms(request.ttl, f"{prefix}ttl") if request.HasField("ttl") else 0,
        validate.fence(request.fence, f"{prefix}fence") if request.HasField("fence") else None,
        minimum,
        maximum,
    )


def get_op(request: cache_pb2.GetRequest, prefix: str = "") -> commands.Get:
    if prefix and request.HasField("read"):
        raise InvalidRequest(
            f"{prefix}read: a batch has one level for all its reads, in its own `read`",
            field=f"{prefix}read",
        )
    return commands.Get(validate.key(request.key, f"{prefix}key"))


_OPERATIONS: dict[str, Callable[[Any, str], commands.Op]] = {
    "set": set_op,
    "update": update_op,
    "delete": delete_op,
    "touch": touch_op,
    "increment": increment_op,
    "get": get_op,
}


def operation(message: cache_pb2.Operation, index: int, where: str = "operations") -> commands.Op:
    """where: name of the list that the operation is in."""
    kind = message.WhichOneof("kind")
    if kind is None:
        field = f"{where}[{index}]"
        raise InvalidRequest(f"{field}: no operation of a known kind is given", field=field)
    return _OPERATIONS[kind](getattr(message, kind), f"{where}[{index}].{kind}.")


def condition(message: cache_pb2.Condition, field: str) -> commands.Condition | None:
    """Refuses what can never hold; None when nothing is asked."""
    if_version = message.if_version if message.HasField("if_version") else None
    if_value = message.if_value if message.HasField("if_value") else None
    if_mod_revision = message.if_mod_revision if message.HasField("if_mod_revision") else None
    wants_absent = message.if_absent or if_version == 0
    wants_present = (
        message.if_present or bool(if_version) or if_value is not None or if_mod_revision is not None
    )
    if wants_absent and wants_present:
        raise InvalidRequest(f"{field}: asks for a missing and an existing key at once", field=field)
    if if_value is not None:
        validate.value(if_value, f"{field}.if_value")
    if not (wants_absent or wants_present):
        return None
    return commands.Condition(message.if_absent, message.if_present, if_version, if_value, if_mod_revision)


def _condition_of_existing(
    request: cache_pb2.UpdateRequest | cache_pb2.TouchRequest, prefix: str
) -> commands.Condition | None:
    if not request.HasField("condition"):
        return None
    checked = condition(request.condition, f"{prefix}condition")
    if checked is not None and (checked.if_absent or checked.if_version == 0):
        field = f"{prefix}condition"
        raise InvalidRequest(f"{field}: this operation needs an existing key", field=field)
    return checked


# session_id, session_sequence, session_acked_below, request_id
_Identity = tuple[int, int, int, bytes]
_NO_IDENTITY: _Identity = (0, 0, 0, b"")


def identity(message: common_pb2.Idempotency, field: str = "idempotency") -> _Identity:
    """Checked Idempotency; all empty means that none was asked for."""
    session_id, sequence, acked_below = message.session_id, message.sequence, message.acked_below
    request_id = message.request_id
    if session_id:
        if request_id:
            raise InvalidRequest(
                f"{field}.request_id: either a session or a request id", field=f"{field}.request_id"
            )
        if sequence == 0:
            raise InvalidRequest(f"{field}.sequence: starts at 1", field=f"{field}.sequence")
        if acked_below > sequence:
            raise InvalidRequest(
                f"{field}.acked_below: {acked_below} is above the sequence {sequence} of this write",
                field=f"{field}.acked_below",
            )
    elif sequence or acked_below:
        raise InvalidRequest(
            f"{field}.session_id: sequence and acked_below need one", field=f"{field}.session_id"
        )
    elif len(request_id) > constants.REQUEST_ID_BYTES_MAX:
        raise validate.too_large(f"{field}.request_id", len(request_id), constants.REQUEST_ID_BYTES_MAX)
    return session_id, sequence, acked_below, request_id


class Writing(Protocol):
    """A request that carries an Idempotency."""

    @property
    def idempotency(self) -> common_pb2.Idempotency: ...

    def HasField(self, field_name: Literal["idempotency"]) -> bool: ...  # protobuf's name


def identity_of(request: Writing) -> _Identity:
    return identity(request.idempotency) if request.HasField("idempotency") else _NO_IDENTITY


def command(op: commands.Op, request: Writing) -> commands.Command:
    """The command of a single write."""
    return commands.Command((op,), None, False, *identity_of(request))


# --- responses ---------------------------------------------------------------------------------------------


def entry(key: bytes, stored: Entry, clock_ms: int, with_value: bool = True) -> cache_pb2.Entry:
    """`clock_ms`: cluster time of the read, from which what remains of a ttl is counted."""
    value, create_revision, mod_revision, version, meta = stored.row
    message = cache_pb2.Entry(
        key=key,
        value=value if with_value else b"",
        create_revision=create_revision,
        mod_revision=mod_revision,
        version=version,
    )
    if meta is not None:
        message.content_type = stored.content_type
        if stored.expires_at_ms:
            # At least 1 ms: an entry that is served has not expired.
            set_duration_ms(message.expires_in, max(stored.expires_at_ms - clock_ms, 1))
        if stored.idle_ttl_ms:
            set_duration_ms(message.idle_ttl, stored.idle_ttl_ms)
        message.reads_left = stored.reads_left
        message.tags.extend(stored.tags)
        message.lease_id = stored.lease_id
    return message


def fill_page(
    response: cache_pb2.ScanResponse | cache_pb2.FindResponse,
    found: Sequence[tuple[bytes, Entry]],
    next_after: bytes | None,
    clock_ms: int,
    with_values: bool,
) -> None:
    """As many of the entries as fit one reply, and where the next page begins (None: there is none)."""
    size = 0
    for key, stored in found:
        if with_values:
            size += len(stored.value) + len(key)
            if size > constants.REPLY_BYTES_MAX and response.entries:
                next_after = response.entries[-1].key
                break
        response.entries.append(entry(key, stored, clock_ms, with_values))
    response.next_page_token = next_after or b""


def set_duration_ms(target: Duration, milliseconds: int) -> None:
    target.seconds, rest = divmod(milliseconds, _MS_PER_S)
    target.nanos = rest * _NANOS_PER_MS


def operation_result(op: commands.Op, result: OpResult, clock_ms: int) -> cache_pb2.OperationResult:
    """One answer inside a batch; a refusal becomes the status that the single call would have failed with."""
    message = cache_pb2.OperationResult()
    match result:
        case SetResult():
            message.set.version = result.version
            message.set.header.revision = result.revision
            _put_previous(message.set, op, result.previous, clock_ms)
        case GetResult():
            assert isinstance(op, commands.Get)
            message.get.header.revision = result.revision
            if result.entry is not None:
                message.get.entry.CopyFrom(entry(op.key, result.entry, result.clock_ms))
        case DeleteResult():
            message.delete.deleted = result.deleted
            message.delete.header.revision = result.revision
            _put_previous(message.delete, op, result.previous, clock_ms)
        case UpdateResult():
            assert isinstance(op, commands.Update)
            message.update.header.revision = result.revision
            message.update.entry.CopyFrom(entry(op.key, result.entry, clock_ms))
        case TouchResult():
            message.touch.version = result.version
            message.touch.header.revision = result.revision
        case IncrementResult():
            message.increment.value = result.value
            message.increment.version = result.version
            message.increment.header.revision = result.revision
        case Refusal():
            message.error.CopyFrom(status_map.to_status(status_map.refusal_error(result)))
        case _:
            raise AssertionError(f"{type(result).__name__} is no result of a batch operation")
    return message


def _put_previous(
    message: cache_pb2.SetResponse | cache_pb2.DeleteResponse,
    op: commands.Op,
    previous: Entry | None,
    clock_ms: int,
) -> None:
    if previous is not None:
        assert isinstance(op, commands.Set | commands.Delete)
        message.previous.CopyFrom(entry(op.key, previous, clock_ms))


def carried_bytes(results: Iterable[OpResult]) -> int:
    """Bytes of the values that the results carry."""
    total = 0
    for result in results:
        if isinstance(result, GetResult | UpdateResult):
            stored = result.entry
        elif isinstance(result, SetResult | DeleteResult):
            stored = result.previous
        else:
            continue
        if stored is not None:
            total += len(stored.value)
    return total


def check_carried(results: Iterable[OpResult], what: str) -> None:
    """Raises TooLarge when the results can't go into one reply. The honest answer: it is done, only the reply
    can't be sent."""
    size = carried_bytes(results)
    if size > constants.REPLY_BYTES_MAX:
        error = validate.too_large(f"reply to {what}", size, constants.REPLY_BYTES_MAX)
        error.may_have_executed = True
        raise error


def newest_revision(results: Iterable[OpResult]) -> int:
    """0 when everything was refused."""
    return max((0 if isinstance(result, Refusal) else result.revision for result in results), default=0)
