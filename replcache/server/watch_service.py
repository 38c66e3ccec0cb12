"""The Watch service: catch up from the history or from a snapshot, then follow the hub."""

import asyncio
from typing import Any

import grpc

from replcache import constants
from replcache.errors import InvalidRequest, ReplcacheError
from replcache.pb.v1 import common_pb2, watch_pb2
from replcache.server import convert, status_map, validate
from replcache.server.backend import Backend
from replcache.server.interceptors import CallBoundary, Undecodable, abort, decoder, undecodable_error
from replcache.server.reads import Reader
from replcache.server.watch_hub import Change, Watcher, WatchHub, WatchRange, changes_of, compacted
from replcache.statemachine.entries import as_entry
from replcache.statemachine.events import EventKind

NAME = "replcache.v1.Watch"
Context = grpc.aio.ServicerContext[Any, Any]

_KINDS = {
    EventKind.PUT: watch_pb2.WatchEvent.PUT,
    EventKind.DELETE: watch_pb2.WatchEvent.DELETE,
    EventKind.EXPIRE: watch_pb2.WatchEvent.EXPIRE,
    EventKind.EVICT: watch_pb2.WatchEvent.EVICT,
    EventKind.TOUCH: watch_pb2.WatchEvent.TOUCH,
    # Somebody asked for it, as for a delete.
    EventKind.INVALIDATE: watch_pb2.WatchEvent.DELETE,
}


class WatchService:
    """One server stream a watch."""

    def __init__(self, backend: Backend, reader: Reader, hub: WatchHub, boundary: CallBoundary) -> None:
        self._backend = backend
        self._reader = reader
        self._hub = hub
        self._boundary = boundary

    def handler(self) -> "grpc.RpcMethodHandler[Any, Any]":
        return grpc.unary_stream_rpc_method_handler(
            self.run,
            request_deserializer=decoder(watch_pb2.WatchRequest),
            response_serializer=watch_pb2.WatchResponse.SerializeToString,
        )

    async def run(self, request: watch_pb2.WatchRequest | Undecodable, context: Context) -> None:
        """One watch, until the client cancels it or it can't go on."""
        try:
            if isinstance(request, Undecodable):
                raise undecodable_error("Watch.Watch", request)
            wanted, interval_s = _checked(request)
            with self._hub.watching(wanted) as watcher:
                await self._serve(request, watcher, interval_s, context)
        except grpc.aio.InternalError:
            return  # the connection broke: nobody reads any more
        except ReplcacheError as error:
            await abort(context, status_map.to_status(error))

    async def _serve(
        self, request: watch_pb2.WatchRequest, watcher: Watcher, interval_s: float, context: Context
    ) -> None:
        watcher.delivered = watcher.base_revision
        created = watch_pb2.WatchResponse(header=self._backend.header(watcher.base_revision), created=True)
        if request.snapshot:
            await context.write(created)
            await self._send_snapshot(request, watcher, context)
        elif request.start_revision:
            watcher.delivered = request.start_revision - 1
            await context.write(created)
            await self._catch_up(request, watcher, context)
        else:
            created.progress_revision = watcher.base_revision
            await context.write(created)
        await self._follow(request, watcher, interval_s, context)

    async def _send_snapshot(
        self, request: watch_pb2.WatchRequest, watcher: Watcher, context: Context
    ) -> None:
        """The entries as of base_revision or earlier; what changes meanwhile is in the watcher's queue."""
        if request.snapshot_level != common_pb2.READ_LEVEL_ONE:
            deadline = self._backend.clock.now() + constants.DEFAULT_DEADLINE_S
            await self._backend.port.read_index(deadline)
        wanted = watcher.range
        after: bytes | None = b""
        while after is not None:
            self._hub.check_machine()
            machine = self._backend.machine
            if watcher.error is not None:
                raise watcher.error
            response = watch_pb2.WatchResponse(header=self._backend.header(machine.revision))
            if wanted.key is not None:
                entry = machine.peek(wanted.key)
                found = [(wanted.key, entry)] if entry is not None else []
                after = None
            elif wanted.tag is not None:
                found, after = machine.find_page((wanted.tag,), after, constants.WATCH_PAGE_ENTRIES)
            else:
                found, after = machine.scan_page(wanted.prefix, after, constants.WATCH_PAGE_ENTRIES)
            size = 0
            for number, (key, entry) in enumerate(found, 1):
                response.entries.append(
                    convert.entry(key, entry, machine.clock_ms, with_value=not request.keys_only)
                )
                size += len(entry.value)
                if size > constants.WATCH_MESSAGE_BYTES and (after is not None or number < len(found)):
                    after = key
                    break
            await context.write(response)
        done = watch_pb2.WatchResponse(
            header=self._backend.header(watcher.base_revision),
            snapshot_done=True,
            progress_revision=watcher.base_revision,
        )
        await context.write(done)

    async def _catch_up(self, request: watch_pb2.WatchRequest, watcher: Watcher, context: Context) -> None:
        """From the history up to the revision behind which the queue goes on."""
        position = request.start_revision
        while position <= watcher.base_revision:
            self._hub.check_machine()
            machine = self._backend.machine
            if watcher.error is not None:
                raise watcher.error
            events = machine.events_since(position, constants.WATCH_PAGE_ENTRIES)
            if events is None:
                raise compacted(machine)
            changes = [
                seen
                for event in events
                for change in changes_of(event)
                if position <= change.revision <= watcher.base_revision
                and (seen := watcher.range.seen(change)) is not None
            ]
            reached = max((event.last_revision for event in events), default=watcher.base_revision)
            reached = min(reached, watcher.base_revision)
            await self._send(request, watcher, changes, reached, context)
            position = reached + 1

    async def _follow(
        self, request: watch_pb2.WatchRequest, watcher: Watcher, interval_s: float, context: Context
    ) -> None:
        """Live events as they come; a progress mark when there are none for a while."""
        while True:
            if not watcher.queue and watcher.error is None:
                watcher.wake.clear()
                try:
                    async with asyncio.timeout(interval_s):
                        await watcher.wake.wait()
                except TimeoutError:
                    pass
            # Also with a queue: what an installed snapshot skipped is in none, but below its revision.
            self._hub.check_machine()
            if watcher.error is not None:
                raise watcher.error
            changes = watcher.take(constants.WATCH_MESSAGE_BYTES)
            # With an empty queue everything applied so far has been delivered.
            reached = self._backend.machine.revision if not watcher.queue else changes[-1].revision
            changes = [change for change in changes if change.revision >= request.start_revision]
            await self._send(request, watcher, changes, reached, context)

    async def _send(
        self,
        request: watch_pb2.WatchRequest,
        watcher: Watcher,
        changes: list[Change],
        reached: int,
        context: Context,
    ) -> None:
        clock_ms = self._backend.machine.clock_ms
        response = watch_pb2.WatchResponse(header=self._backend.header(reached), progress_revision=reached)
        for change in changes:
            event = response.events.add(kind=_KINDS[change.kind], revision=change.revision, key=change.key)
            if change.row is not None:
                entry = as_entry(change.row)
                event.entry.CopyFrom(
                    convert.entry(change.key, entry, clock_ms, with_value=not request.keys_only)
                )
        await context.write(response)
        watcher.delivered = max(watcher.delivered, reached)


def _checked(request: watch_pb2.WatchRequest) -> tuple[WatchRange, float]:
    """(range, progress interval in seconds). Raises InvalidRequest."""
    if request.snapshot and request.start_revision:
        raise InvalidRequest("snapshot and start_revision exclude each other", field="start_revision")
    if request.snapshot_level not in common_pb2.ReadLevel.values():
        raise InvalidRequest(f"unknown read level {request.snapshot_level}", field="snapshot_level")
    interval_ms = constants.WATCH_PROGRESS_MS_DEFAULT
    if request.HasField("progress_interval"):
        interval_ms = validate.duration_ms(
            request.progress_interval,
            "progress_interval",
            constants.WATCH_PROGRESS_MS_MIN,
            constants.WATCH_PROGRESS_MS_MAX,
        )
    kind = request.WhichOneof("range")
    if kind == "key":
        return WatchRange(key=validate.key(request.key, "key")), interval_ms / 1000
    if kind == "tag":
        return WatchRange(tag=validate.tag(request.tag, "tag")), interval_ms / 1000
    return WatchRange(prefix=validate.prefix(request.prefix, "prefix")), interval_ms / 1000
