"""Cluster.Snapshot: the whole state as of one applied index, as a stream of the bytes of one file."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc

from replcache.errors import Overloaded, ReplcacheError, Unavailable
from replcache.pb.v1 import cluster_pb2
from replcache.raft.port import Backup
from replcache.server import status_map
from replcache.server.backend import Backend
from replcache.server.interceptors import CallBoundary, Undecodable, abort, decoder, undecodable_error

Context = grpc.aio.ServicerContext[Any, Any]
MESSAGE_BYTES = 256 * 1024
# Whoever takes nothing for so long is gone: until the end of the stream the node keeps what was overwritten.
STALL_TIMEOUT_S = 30.0
AT_ONCE_MAX = 2


class Backups:
    """Any node serves it; a follower is the better choice."""

    def __init__(self, backend: Backend, boundary: CallBoundary) -> None:
        self._backend = backend
        self._boundary = boundary
        self._running = 0

    def handler(self) -> "grpc.RpcMethodHandler[Any, Any]":
        return grpc.unary_stream_rpc_method_handler(
            self.run,
            request_deserializer=decoder(cluster_pb2.SnapshotRequest),
            response_serializer=cluster_pb2.SnapshotResponse.SerializeToString,
        )

    async def run(self, request: cluster_pb2.SnapshotRequest | Undecodable, context: Context) -> None:
        try:
            if isinstance(request, Undecodable):
                raise undecodable_error("Cluster.Snapshot", request)
            if self._running >= AT_ONCE_MAX:
                raise Overloaded(f"{AT_ONCE_MAX} snapshots are being read from this node", retry_after_s=5.0)
            self._running += 1
            try:
                await self._send(context)
            finally:
                self._running -= 1
        except TimeoutError:
            await abort(context, status_map.to_status(Unavailable("the snapshot was not taken in time")))
        except grpc.aio.InternalError:
            return  # the connection broke: nobody reads any more
        except ReplcacheError as error:
            await abort(context, status_map.to_status(error))

    async def _send(self, context: Context) -> None:
        header = self._backend.header(self._backend.machine.revision)
        backup = self._backend.port.begin_backup()
        try:
            await context.write(cluster_pb2.SnapshotResponse(header=header, applied_index=backup.index))
            parts = _parts(backup)
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                async with asyncio.timeout(STALL_TIMEOUT_S):
                    await context.write(cluster_pb2.SnapshotResponse(data=part))
        finally:
            backup.close()


def _parts(backup: Backup) -> Iterator[bytes]:
    for piece in backup.pieces:
        for start in range(0, len(piece), MESSAGE_BYTES):
            yield piece[start : start + MESSAGE_BYTES]
