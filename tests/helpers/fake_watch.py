"""The Watch service of the fake cluster: changed keys and progress marks, with faults."""

import asyncio
from typing import Any

import grpc

from replcache.pb.v1 import watch_pb2, watch_pb2_grpc
from tests.helpers.fake_state import State, fill_entry

_LOOK_INTERVAL_S = 0.005


class FakeWatch(watch_pb2_grpc.WatchServicer):
    """Serves every watch from the state as it is."""

    def __init__(self, state: State) -> None:
        self._state = state
        # Cleared: watches deliver nothing and send no marks (a node that is cut off).
        self.flowing = asyncio.Event()
        self.flowing.set()
        # Raised once: ends all streams.
        self.break_streams = asyncio.Event()
        self.streams = 0
        self.broken = 0
        # Start revisions below this are refused as compacted.
        self.oldest_revision = 1
        self.refuse: Any = None
        # Snapshots come in pages of so many entries.
        self.page_entries = 2
        # Cleared: after its first page a snapshot stops.
        self.paging = asyncio.Event()
        self.paging.set()

    async def Watch(self, request: watch_pb2.WatchRequest, context: Any) -> None:
        self.streams += 1
        state = self._state
        if request.start_revision and request.start_revision < self.oldest_revision:
            await self.refuse(context)
        reached = request.start_revision - 1 if request.start_revision else state.revision
        await context.write(self._response(reached, created=True))
        if request.snapshot:
            await self._snapshot(request, context, reached)
        interval_s = request.progress_interval.ToMilliseconds() / 1000
        loop = asyncio.get_running_loop()
        marked_at = loop.time()
        while not self.break_streams.is_set():
            await self.flowing.wait()
            found = [
                (revision, key)
                for revision, key in state.events
                if revision > reached and key.startswith(request.prefix)
            ]
            if found or loop.time() - marked_at >= interval_s:
                reached, marked_at = state.revision, loop.time()
                response = self._response(reached, progress_revision=reached)
                for revision, key in found:
                    response.events.add(kind=watch_pb2.WatchEvent.PUT, revision=revision, key=key)
                await context.write(response)
            await asyncio.sleep(_LOOK_INTERVAL_S)
        self.broken += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "broken")

    async def _snapshot(self, request: watch_pb2.WatchRequest, context: Any, revision: int) -> None:
        keys = sorted(key for key in self._state.entries if key.startswith(request.prefix))
        stored = [(key, self._state.entries[key]) for key in keys]
        for start in range(0, len(stored), self.page_entries):
            if start:
                await self.paging.wait()
            response = self._response(revision)
            for key, entry in stored[start : start + self.page_entries]:
                fill_entry(response.entries.add(), key, entry)
            await context.write(response)
        await context.write(self._response(revision, snapshot_done=True))

    def _response(self, revision: int, **fields: Any) -> watch_pb2.WatchResponse:
        response = watch_pb2.WatchResponse(**fields)
        response.header.revision = revision
        return response
