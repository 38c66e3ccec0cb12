"""One Pipeline stream to one node: a writer and a reader, nothing else.

Cancelling a caller never reaches the stream: callers only wait on their own waiters. The writer task is the
only one that writes, the reader the only one that reads, as grpc.aio asks for.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from replcache.client import status
from replcache.client.tasks import TaskOwner
from replcache.errors import ReplcacheError, Unavailable
from replcache.pb.v1 import cache_pb2

if TYPE_CHECKING:
    from replcache.client.batches import Batch
    from replcache.client.endpoints import Endpoint


class LinkOwner(Protocol):
    """Who is told what happens on a link."""

    def on_response(self, link: "Link", response: cache_pb2.BatchResponse) -> None: ...

    def on_broken(self, link: "Link", error: ReplcacheError) -> None: ...


class Link:
    """States: connecting (the outbox fills), open, broken (for good; the owner makes a new one)."""

    def __init__(self, endpoint: "Endpoint", owner: LinkOwner, tasks: TaskOwner) -> None:
        self.endpoint = endpoint
        self.is_broken = False
        # When the last message arrived, by the owner's clock.
        self.heard_at = 0.0
        self._owner = owner
        self._tasks = tasks
        self._outbox: deque[tuple[Batch, cache_pb2.BatchRequest]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._call: Any = None
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        assert self.endpoint.connection is not None
        self._call = self.endpoint.connection.cache.Pipeline()
        name = f"replcache link {self.endpoint.address}"
        self._running = [
            self._tasks.start(self._write_all(), f"{name} writer"),
            self._tasks.start(self._read_all(), f"{name} reader"),
        ]

    def send(self, batch: "Batch", message: cache_pb2.BatchRequest) -> None:
        """Never waits; the owner bounds what is under way."""
        assert not self.is_broken
        self._outbox.append((batch, message))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def close(self) -> None:
        """Ends the stream without telling the owner."""
        self.is_broken = True
        for task in self._running:
            if task is not asyncio.current_task():
                task.cancel()
        if self._call is not None:
            self._call.cancel()

    async def finish(self, timeout_s: float) -> None:
        """Says that nothing more comes and waits for the node to end the stream; cuts it off after
        timeout_s. Ended so, gRPC has nothing left to deliver to a loop that may be closed next."""
        if self.is_broken or not self._running:
            return
        self.is_broken = True
        writer, reader = self._running
        writer.cancel()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait([writer])
                await self._call.done_writing()
                await asyncio.wait([reader])
        except (TimeoutError, grpc.RpcError, asyncio.InvalidStateError):
            # Hangs, or was broken already: cut off below.
            pass
        self.close()

    def break_off(self, error: ReplcacheError) -> None:
        """Ends the stream and tells the owner, once."""
        if self.is_broken:
            return
        self.close()
        self._owner.on_broken(self, error)

    async def _write_all(self) -> None:
        try:
            # Fails when the connection can't be made: then nothing was sent, which is certain.
            await self._call.wait_for_connection()
            loop = asyncio.get_running_loop()
            while True:
                while self._outbox:
                    batch, message = self._outbox.popleft()
                    if batch.is_done or batch.link is not self:
                        continue
                    batch.written = True
                    await self._call.write(message)
                self._wake = loop.create_future()
                await self._wake
        except grpc.RpcError as err:
            self.break_off(_broken(err))
        except asyncio.InvalidStateError:
            # The stream ended between two writes; the reader knows why.
            return

    async def _read_all(self) -> None:
        call, on_response = self._call, self._owner.on_response
        try:
            while True:
                response = await call.read()
                if response is grpc.aio.EOF:
                    self.break_off(Unavailable("the node ended the stream"))
                    return
                on_response(self, response)
        except grpc.RpcError as err:
            self.break_off(_broken(err))
        except asyncio.CancelledError:
            if not self.is_broken:
                # grpc.aio raises this in a reader whose call was cancelled by somebody else, for example
                # by closing the channel.
                self.break_off(Unavailable("the stream was cancelled"))
            raise


def _broken(error: grpc.RpcError) -> ReplcacheError:
    found = status.from_rpc_error(error)
    if status.is_from_server(error):
        return found
    if isinstance(error, grpc.aio.AioRpcError) and error.code() in (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    ):
        return found
    return Unavailable(f"connection lost: {found}")
