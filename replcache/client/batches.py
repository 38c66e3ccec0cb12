"""Messages of the fast path: many callers' requests packed into one BatchRequest.

A batch is the unit of sending, retrying and exactly-once: what is packed together stays together through
all tries, under one session sequence. Each caller waits on its own waiter: an asyncio.Future, or the
blocking client's Waiter, which has the same three methods.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from replcache.client.convert import ReplyContext
from replcache.client.durations import to_proto
from replcache.client.status import from_status
from replcache.client.types import Entry, SetResult
from replcache.constants import BATCH_BYTES_MAX, BATCH_OPERATIONS_MAX
from replcache.errors import OutcomeUnknown, ReplcacheError
from replcache.pb.v1 import cache_pb2, common_pb2

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from replcache.client.lane import Lane
    from replcache.client.link import Link
    from replcache.client.sessions import Session

# Per key or operation: tags and lengths in the message, with room to spare.
_OVERHEAD_BYTES = 16

Converter = Callable[[Any, ReplyContext], Any]


class Waiter(Protocol):
    """One caller. asyncio.Future has this form."""

    def done(self) -> bool: ...

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, error: BaseException, /) -> None: ...


class Batch:
    """What all forms share: callers, deadline, and the account of tries."""

    __slots__ = (
        "attempt_deadline", "attempts", "bucket", "deadline", "first_sent_at", "id", "is_done", "is_queued",
        "join_until", "lane", "last_error", "link", "maybe_executed", "sent_at", "sequence", "session",
        "size_bytes", "span", "timeout_s", "waiters", "written",
    )  # fmt: skip
    can_split: ClassVar[bool] = True

    def __init__(self, timeout_s: float, now: float) -> None:
        self.waiters: list[Waiter] = []
        self.size_bytes = 0
        self.timeout_s = timeout_s
        self.deadline = now + timeout_s
        self.join_until = 0.0
        self.bucket: object = None
        # Set when it is sent for the first time; the same for all tries, so that a late answer to an
        # earlier try still counts.
        self.id = 0
        self.lane: Lane | None = None
        self.link: Link | None = None
        self.session: Session | None = None
        self.sequence = 0
        self.attempts = 0
        self.first_sent_at = 0.0
        self.sent_at = 0.0
        self.attempt_deadline = 0.0
        # Handed to gRPC in the current try: from here on it may be executed.
        self.written = False
        # An earlier try ended without a certain answer.
        self.maybe_executed = False
        self.is_queued = False
        self.is_done = False
        self.last_error: ReplcacheError | None = None
        # Of the try that is under way, while calls are traced.
        self.span: Span | None = None

    def __len__(self) -> int:
        return len(self.waiters)

    def has_room(self, size_bytes: int) -> bool:
        return len(self) < BATCH_OPERATIONS_MAX and self.size_bytes + size_bytes <= BATCH_BYTES_MAX

    @property
    def is_abandoned(self) -> bool:
        """Every caller was cancelled: not worth sending (when it never was)."""
        return all(waiter.done() for waiter in self.waiters)

    def fill(self, message: cache_pb2.BatchRequest) -> None:
        """Writes the requests into the message."""
        raise NotImplementedError

    def resolve(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> None:
        """Gives every caller its part of the answer."""
        raise NotImplementedError

    def halves(self, now: float) -> "tuple[Batch, Batch]":
        """Two batches with the same deadline, for finding the one request that is at fault."""
        raise NotImplementedError

    def fail(self, error: ReplcacheError) -> None:
        """Every caller gets its own copy: a shared exception would collect all their tracebacks."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(copy_error(error))

    def _half(self, other: "Batch", waiters: list[Waiter], now: float) -> None:
        other.waiters = waiters
        other.deadline = self.deadline
        other.timeout_s = self.timeout_s
        other.last_error = self.last_error
        # Fair shares of the size: exact ones would cost a pass, and halves always have room.
        other.size_bytes = self.size_bytes // 2


class SetBatch(Batch):
    """Plain sets in columns: no conditions, one content type and ttl."""

    __slots__ = ("content_type", "keys", "ttl_ms", "values")

    def __init__(self, content_type: str, ttl_ms: int, timeout_s: float, now: float) -> None:
        super().__init__(timeout_s, now)
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.content_type = content_type
        self.ttl_ms = ttl_ms

    def fill(self, message: cache_pb2.BatchRequest) -> None:
        columns = message.set_columns
        columns.keys.extend(self.keys)
        columns.values.extend(self.values)
        if self.content_type:
            columns.content_type = self.content_type
        if self.ttl_ms:
            columns.ttl.CopyFrom(to_proto(self.ttl_ms))

    def resolve(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> None:
        columns = response.set_columns
        versions = columns.versions
        if len(versions) != len(self.waiters):
            self.fail(malformed("set_columns", len(versions), len(self.waiters)))
            return
        revision = columns.first_revision
        for waiter, version in zip(self.waiters, versions, strict=True):
            if not waiter.done():
                waiter.set_result(SetResult(version, revision))
            revision += 1

    def halves(self, now: float) -> tuple[Batch, Batch]:
        middle = len(self.waiters) // 2
        parts = []
        for part in (slice(None, middle), slice(middle, None)):
            half = SetBatch(self.content_type, self.ttl_ms, self.timeout_s, now)
            half.keys, half.values = self.keys[part], self.values[part]
            self._half(half, self.waiters[part], now)
            parts.append(half)
        return parts[0], parts[1]


class SetManyBatch(SetBatch):
    """One caller's many sets: the answer is the list of results."""

    __slots__ = ()
    can_split = False

    def __len__(self) -> int:
        return len(self.keys)

    def resolve(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> None:
        columns = response.set_columns
        if len(columns.versions) != len(self.keys):
            self.fail(malformed("set_columns", len(columns.versions), len(self.keys)))
            return
        first = columns.first_revision
        results = [SetResult(version, first + i) for i, version in enumerate(columns.versions)]
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(results)


class GetBatch(Batch):
    """Plain reads of one consistency level in columns."""

    __slots__ = ("keys", "level", "max_staleness_ms")

    def __init__(
        self, level: common_pb2.ReadLevel, max_staleness_ms: int, timeout_s: float, now: float
    ) -> None:
        super().__init__(timeout_s, now)
        self.keys: list[bytes] = []
        self.level = level
        self.max_staleness_ms = max_staleness_ms

    def fill(self, message: cache_pb2.BatchRequest) -> None:
        message.get_columns.keys.extend(self.keys)
        self._fill_read(message)

    def _fill_read(self, message: cache_pb2.BatchRequest) -> None:
        read = message.read
        read.level = self.level
        if self.max_staleness_ms:
            read.max_staleness.CopyFrom(to_proto(self.max_staleness_ms))

    def resolve(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> None:
        entries = self._entries(response, context)
        if entries is None:
            return
        for waiter, entry in zip(self.waiters, entries, strict=True):
            if not waiter.done():
                waiter.set_result(entry)

    def _entries(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> list[Entry | None] | None:
        columns = response.get_columns
        versions = columns.versions
        if not len(versions) == len(columns.values) == len(columns.mod_revisions) == len(self.keys):
            self.fail(malformed("get_columns", len(versions), len(self.keys)))
            return None
        served = context.read_info(response.header)
        codec = context.codec
        none = (None,) * len(self.keys)
        content_types: Sequence[str | None] = columns.content_types or none
        expiries: Sequence[int | None] = columns.expires_in_ms or none
        rows = zip(
            self.keys, columns.values, versions, columns.mod_revisions, content_types, expiries, strict=True
        )
        entries = [
            Entry(
                codec, key, value, content_type or "", version, mod_revision,
                expires_in_ms * 0.001 if expires_in_ms else None, served,
            )
            if version
            else None
            for key, value, version, mod_revision, content_type, expires_in_ms in rows
        ]  # fmt: skip
        context.count_reads(len(entries), entries.count(None))
        return entries

    def halves(self, now: float) -> tuple[Batch, Batch]:
        middle = len(self.waiters) // 2
        parts = []
        for part in (slice(None, middle), slice(middle, None)):
            half = type(self)(self.level, self.max_staleness_ms, self.timeout_s, now)
            half.keys = self.keys[part]
            self._half(half, self.waiters[part], now)
            parts.append(half)
        return parts[0], parts[1]


class FullGetBatch(GetBatch):
    """Reads that ask for all attributes: tags, idle ttl, reads left and create revision too."""

    __slots__ = ()

    def fill(self, message: cache_pb2.BatchRequest) -> None:
        for key in self.keys:
            message.operations.add().get.key = key
        self._fill_read(message)

    def _entries(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> list[Entry | None] | None:
        results = response.results
        if len(results) != len(self.keys):
            self.fail(malformed("results", len(results), len(self.keys)))
            return None
        header = response.header
        entries = [
            context.entry(result.get.entry, header) if result.get.HasField("entry") else None
            for result in results
        ]
        context.count_reads(len(entries), entries.count(None))
        return entries


class SeenGetBatch(FullGetBatch):
    """As FullGetBatch; each caller gets (entry or None, revision of the state that was read)."""

    __slots__ = ()

    def resolve(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> None:
        entries = self._entries(response, context)
        revision = response.header.revision
        for waiter, entry in zip(self.waiters, entries or (), strict=entries is not None):
            if not waiter.done():
                waiter.set_result((entry, revision))


class GetManyBatch(GetBatch):
    """One caller's many reads, from one state."""

    __slots__ = ()
    can_split = False

    def __len__(self) -> int:
        return len(self.keys)

    def resolve(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> None:
        entries = self._entries(response, context)
        for waiter in self.waiters:
            if entries is not None and not waiter.done():
                waiter.set_result(entries)


class OperationBatch(Batch):
    """Everything else, each operation standing for itself."""

    __slots__ = ("converters", "operations")

    def __init__(self, timeout_s: float, now: float) -> None:
        super().__init__(timeout_s, now)
        self.operations: list[cache_pb2.Operation] = []
        self.converters: list[Converter] = []

    def fill(self, message: cache_pb2.BatchRequest) -> None:
        message.operations.extend(self.operations)

    def resolve(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> None:
        outcomes = self._outcomes(response, context)
        if outcomes is None:
            return
        for waiter, outcome in zip(self.waiters, outcomes, strict=True):
            if waiter.done():
                continue
            if isinstance(outcome, ReplcacheError):
                waiter.set_exception(outcome)
            else:
                waiter.set_result(outcome)

    def _outcomes(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> list[Any] | None:
        if len(response.results) != len(self.operations):
            self.fail(malformed("results", len(response.results), len(self.operations)))
            return None
        return convert_results(response.results, self.converters, response.header, context)

    def halves(self, now: float) -> tuple[Batch, Batch]:
        middle = len(self.waiters) // 2
        parts = []
        for part in (slice(None, middle), slice(middle, None)):
            half = OperationBatch(self.timeout_s, now)
            half.operations, half.converters = self.operations[part], self.converters[part]
            self._half(half, self.waiters[part], now)
            parts.append(half)
        return parts[0], parts[1]


class ExplicitBatch(OperationBatch):
    """One caller's batch: one log entry, atomic or not; the answer is the list of outcomes."""

    __slots__ = ("atomic",)
    can_split = False

    def __init__(self, atomic: bool, timeout_s: float, now: float) -> None:
        super().__init__(timeout_s, now)
        self.atomic = atomic

    def __len__(self) -> int:
        return len(self.operations)

    def fill(self, message: cache_pb2.BatchRequest) -> None:
        super().fill(message)
        message.atomic = self.atomic

    def resolve(self, response: cache_pb2.BatchResponse, context: ReplyContext) -> None:
        outcomes = self._outcomes(response, context)
        for waiter in self.waiters:
            if outcomes is not None and not waiter.done():
                waiter.set_result(outcomes)


def convert_results(
    results: Iterable[cache_pb2.OperationResult],
    converters: Iterable[Converter],
    header: common_pb2.ResponseHeader,
    context: ReplyContext,
) -> list[Any]:
    """What each operation answered: its result, or the error that it was refused with, as a value."""
    context.header = header
    outcomes: list[Any] = []
    for result, convert in zip(results, converters, strict=True):
        kind = result.WhichOneof("kind")
        if kind == "error":
            outcomes.append(from_status(result.error))
        elif kind is None:
            outcomes.append(malformed("result without a kind", 0, 1))
        else:
            outcomes.append(convert(getattr(result, kind), context))
    return outcomes


def copy_error(error: ReplcacheError) -> ReplcacheError:
    """A new exception that says the same."""
    twin = type(error)(str(error), retry_after_s=error.retry_after_s, metadata=error.metadata)
    twin.reason = error.reason
    twin.may_have_executed = error.may_have_executed
    return twin


def malformed(what: str, got: int, expected: int) -> OutcomeUnknown:
    return OutcomeUnknown(f"the server's answer is malformed: {what}: {got} where {expected} were due")


def plain_size(key: bytes, value: bytes) -> int:
    """Bytes that a plain set adds to its message."""
    return len(key) + len(value) + _OVERHEAD_BYTES
