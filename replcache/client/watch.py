"""Watching a range: an iterator of changes that resumes by itself, and never goes silent.

It remembers the last revision that was handed out and goes on from there at another node when a connection
breaks, a leader changes or a node stops. When the events in between are no longer kept anywhere, a watch that
began with a snapshot says RESYNC and begins with a snapshot again; any other raises Compacted. The server
sends a progress mark every `progress` seconds; when none comes for three of them, another node is asked.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc

from replcache.client import status
from replcache.client.core import ClientCore
from replcache.client.durations import Duration, parse_seconds, parse_ttl_ms, to_proto
from replcache.client.endpoints import Endpoint
from replcache.client.parts import PART_MARK, parent_of
from replcache.client.requests import Key, key_bytes, prefix_bytes, tag_list
from replcache.client.retry import Backoff
from replcache.client.types import Entry
from replcache.errors import (
    ClientClosed,
    Compacted,
    InvalidRequest,
    NotApplied,
    OutcomeUnknown,
    ReplcacheError,
    Unavailable,
    WatchTooSlow,
)
from replcache.pb.v1 import watch_pb2

# A stream without any message for so many progress intervals is given up.
SILENT_INTERVALS = 3
SILENT_S_MIN = 1.0


class WatchKind(StrEnum):
    PUT = "put"
    DELETE = "delete"
    # Gone by time or with its last counted read.
    EXPIRE = "expire"
    EVICT = "evict"
    # The expiry changed, not the value.
    TOUCH = "touch"
    # An entry of the snapshot.
    ENTRY = "entry"
    # The snapshot is complete.
    SYNCED = "synced"
    # Events were lost for good: forget what was seen, a new snapshot follows.
    RESYNC = "resync"


_KINDS = {
    watch_pb2.WatchEvent.PUT: WatchKind.PUT,
    watch_pb2.WatchEvent.DELETE: WatchKind.DELETE,
    watch_pb2.WatchEvent.EXPIRE: WatchKind.EXPIRE,
    watch_pb2.WatchEvent.EVICT: WatchKind.EVICT,
    watch_pb2.WatchEvent.TOUCH: WatchKind.TOUCH,
}


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change. `entry` is the entry after it: for PUT, TOUCH and ENTRY."""

    kind: WatchKind
    revision: int
    key: bytes = b""
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What to watch; start: "now", "snapshot", or the first revision to deliver."""

    key: bytes | None
    prefix: bytes
    start: str | int
    keys_only: bool
    progress_ms: int
    stall_timeout_s: float
    tag: str | None = None

    @property
    def shows_parts(self) -> bool:
        """Asked for the parts of large values by their names."""
        return PART_MARK in (self.prefix if self.key is None else self.key)


def watch_options(
    key: Key | None,
    prefix: Key,
    start: str | int,
    keys_only: bool,
    progress: Duration,
    stall_timeout: Duration,
    tag: str | None = None,
) -> WatchOptions:
    """Checks what a caller gave. Raises InvalidRequest."""
    if isinstance(start, str):
        if start not in ("now", "snapshot"):
            raise InvalidRequest(f'start={start!r}: "now", "snapshot" or a revision', field="start")
    elif not 0 < start < 2**64:
        raise InvalidRequest(f"start={start} is no revision: they begin at 1 and have 64 bits", field="start")
    if key is not None and prefix:
        raise InvalidRequest("give a key or a prefix, not both", field="prefix")
    if tag is not None and (key is not None or prefix):
        raise InvalidRequest("give a tag, or a key or a prefix", field="tag")
    return WatchOptions(
        key_bytes(key) if key is not None else None,
        prefix_bytes(prefix),
        start,
        keys_only,
        parse_ttl_ms(progress, "progress"),
        parse_seconds(stall_timeout, "stall_timeout"),
        None if tag is None else tag_list([tag])[0],
    )


class AsyncWatch:
    """An asynchronous iterator of WatchEvent; close it, or use it as a context manager.

    Attributes:
        revision: everything of the range up to here has been handed out.

    Raises (from the iteration):
        Compacted: see the module. Unavailable: no node served the watch for stall_timeout.
        ClientClosed: the client was closed. (A watch that was closed itself just ends.)
        Cancellation: nothing is lost; iterating again goes on.
    """

    def __init__(self, core: ClientCore, options: WatchOptions) -> None:
        self._core = core
        self._options = options
        self._is_snapshot_wanted = options.start == "snapshot"
        self.revision = options.start - 1 if isinstance(options.start, int) else 0
        self._has_position = isinstance(options.start, int)
        self._events: deque[WatchEvent] = deque()
        self._progress = 0
        self._call: Any = None
        # The read of the call that is under way, also while nobody waits for it.
        self._reading: asyncio.Task[watch_pb2.WatchResponse | ReplcacheError] | None = None
        self._endpoint: Endpoint | None = None
        self._compacted_at: set[str] = set()
        self._failures = 0
        self._backoff = Backoff()
        # The first failure since the last message; no word while nobody reads is no failure.
        self._failing_since: float | None = None
        self._retry_at = float("-inf")
        # Entries of a snapshot that is not complete were handed out.
        self._has_part_of_snapshot = False
        self.is_closed = False

    def __aiter__(self) -> "AsyncWatch":
        return self

    async def __aenter__(self) -> "AsyncWatch":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the iteration, also one that waits in another task. May be called twice."""
        self.is_closed = True
        self._events.clear()
        self._drop_call()

    async def __anext__(self) -> WatchEvent:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def ready(self, timeout_s: float | None = None) -> int:
        """Waits until a node serves the watch; returns the revision after which everything is delivered.

        With a snapshot: until the first of it is here.

        Raises: as the iteration. Unavailable: no node served it within timeout_s.
        """
        end = None if timeout_s is None else self._core.clock.now() + timeout_s
        while not self._has_position and not self._events:
            if self.is_closed or self._core.is_closed:
                raise ClientClosed("the watch is closed")
            left_s = None if end is None else end - self._core.clock.now()
            if left_s is not None and left_s <= 0:
                raise Unavailable(f"no node served the watch within {timeout_s:g} s")
            await self._advance(left_s)
        return self.revision

    async def next(self, timeout_s: float | None = None) -> WatchEvent | None:
        """The next event; None when the watch is closed, or none came within timeout_s (0: only a look)."""
        end = None if timeout_s is None else self._core.clock.now() + timeout_s
        left_s = timeout_s
        while not self._events:
            if self.is_closed:
                return None
            if self._core.is_closed:
                raise ClientClosed("the client is closed")
            if self._progress:
                self.revision = max(self.revision, self._progress)
            await self._advance(left_s)
            left_s = None if end is None else end - self._core.clock.now()
            if left_s is not None and left_s <= 0 and not self._events:
                return None
        event = self._events.popleft()
        if event.kind not in (WatchKind.ENTRY, WatchKind.RESYNC):
            # All events of a revision come together: behind it, the one before is complete.
            self.revision = max(self.revision, event.revision - 1)
        return event

    # --- the stream ---

    async def _advance(self, left_s: float | None) -> None:
        """Reads one message, settles one failure, or waits after one; nothing when the time is up before.

        The read is a task of its own, which goes on while nobody waits for it: cancelling it would end the
        call, and with it a snapshot of which a part has been handed out.
        """
        try:
            reading = self._reading
            pause_s = self._retry_at - self._core.clock.now()
            if reading is None and pause_s > 0:
                await asyncio.sleep(pause_s if left_s is None else min(pause_s, left_s))
                return
            if reading is None:
                reading = self._reading = self._start_reading()
            await asyncio.wait([reading], timeout=left_s)
            if not reading.done() or self._reading is not reading:
                return  # nothing yet; or the watch was closed, or another caller was faster
            self._reading = None
            if reading.cancelled():
                if self._core.is_closed:
                    return
                raise Unavailable("the call was cancelled")
            message = reading.result()
            if isinstance(message, ReplcacheError):
                raise message
            self._take(message)
        except ReplcacheError as error:
            self._settle(error)

    def _start_reading(self) -> "asyncio.Task[watch_pb2.WatchResponse | ReplcacheError]":
        if self._call is None:
            self._open()
        silent_s = max(SILENT_S_MIN, self._options.progress_ms / 1000 * SILENT_INTERVALS)
        return self._core.tasks.start(_read(self._call, silent_s), "replcache watch")

    def _open(self) -> None:
        options = self._options
        request = watch_pb2.WatchRequest(keys_only=options.keys_only)
        if options.key is not None:
            request.key = options.key
        elif options.tag is not None:
            request.tag = options.tag
        else:
            request.prefix = options.prefix
        request.progress_interval.CopyFrom(to_proto(options.progress_ms))
        if self._is_snapshot_wanted:
            request.snapshot = True
        elif self._has_position:
            request.start_revision = self.revision + 1
        now = self._core.clock.now()
        self._endpoint = self._core.router.pick(False, now)
        self._call = self._core.connection(self._endpoint).watch.Watch(request)

    def _drop_call(self) -> None:
        call, self._call = self._call, None
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
        if call is not None:
            call.cancel()

    def _take(self, message: watch_pb2.WatchResponse) -> None:
        core, endpoint = self._core, self._endpoint
        assert endpoint is not None
        core.note_header(endpoint, message.header)
        self._failing_since = None
        self._failures = 0
        if message.created and not self._has_position and not self._is_snapshot_wanted:
            self.revision = message.header.revision
            self._has_position = True
        self._has_part_of_snapshot |= bool(message.entries)
        with_parts = self._options.shows_parts
        for entry in message.entries:
            if not with_parts and PART_MARK in entry.key and parent_of(entry.key):
                continue
            found = core.context.entry(entry, message.header)
            self._events.append(WatchEvent(WatchKind.ENTRY, entry.mod_revision, entry.key, found))
        if message.snapshot_done:
            self._is_snapshot_wanted = self._has_part_of_snapshot = False
            self._has_position = True
            self._events.append(WatchEvent(WatchKind.SYNCED, message.header.revision))
        for event in message.events:
            if not with_parts and PART_MARK in event.key and parent_of(event.key):
                continue
            changed = core.context.entry(event.entry, message.header) if event.HasField("entry") else None
            self._events.append(WatchEvent(_KINDS[event.kind], event.revision, event.key, changed))
        if message.progress_revision:
            self._progress = message.progress_revision
            self._compacted_at.clear()

    def _settle(self, error: ReplcacheError) -> None:
        """After a failure: another node, a new snapshot, or the error."""
        core, endpoint = self._core, self._endpoint
        self._drop_call()
        if isinstance(error, Compacted):
            assert endpoint is not None
            self._compacted_at.add(endpoint.address)
            core.router.note_failure(endpoint, core.clock.now())
            if len(self._compacted_at) >= len(core.router.endpoints):
                self._begin_anew(error)
            return
        if not isinstance(error, WatchTooSlow):
            if not isinstance(error, NotApplied | OutcomeUnknown):
                raise error
            if endpoint is not None:
                core.router.note_failure(endpoint, core.clock.now())
        if self._is_snapshot_wanted and self._has_part_of_snapshot:
            self._begin_anew(error)
        now = core.clock.now()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since > self._options.stall_timeout_s:
            failing_s = now - self._failing_since
            raise Unavailable(f"no node served the watch for {failing_s:.0f} s: {error}") from error
        self._failures += 1
        self._retry_at = now + self._backoff.delay_s(self._failures, core.rng, error.retry_after_s)

    def _begin_anew(self, error: ReplcacheError) -> None:
        """Only a watch that began with a snapshot can: its reader knows what to do with a new one."""
        if self._options.start != "snapshot":
            raise error
        self._events.clear()
        self._compacted_at.clear()
        self._progress = 0
        self._is_snapshot_wanted = True
        self._has_position = self._has_part_of_snapshot = False
        self._events.append(WatchEvent(WatchKind.RESYNC, self.revision))
        self.revision = 0


async def _read(call: Any, silent_s: float) -> watch_pb2.WatchResponse | ReplcacheError:
    """The next message, or what keeps it from coming: as a value, because nobody may ever ask for it."""
    try:
        async with asyncio.timeout(silent_s):
            message = await call.read()
        if message is grpc.aio.EOF:
            code = await call.code()
            return Unavailable(f"the stream ended: {code.name}")
    except TimeoutError:
        return Unavailable(f"no message for {silent_s:.1f} s")
    except grpc.aio.AioRpcError as error:
        return status.from_rpc_error(error)
    found: watch_pb2.WatchResponse = message
    return found
