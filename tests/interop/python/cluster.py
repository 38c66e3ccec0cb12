"""What every program needs: channels to all nodes, retries that execute once, and the reason of an error."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from replcache.v1 import cache_pb2_grpc, cluster_pb2_grpc, common_pb2, lock_pb2_grpc, watch_pb2_grpc

TRY_TIMEOUT_S = 5
GIVE_UP_S = 30
PAUSE_S = 0.1
# Another node, or the same one a little later, may well answer. Safe for writes with a request id.
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Node:
    """The stubs of one node."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.cache = cache_pb2_grpc.CacheStub(channel)
        self.lock = lock_pb2_grpc.LockStub(channel)
        self.watch = watch_pb2_grpc.WatchStub(channel)
        self.cluster = cluster_pb2_grpc.ClusterStub(channel)


def connect(address: str, ca_file: str | None, token: str | None) -> Node:
    if ca_file is None:
        return Node(grpc.insecure_channel(address))
    credentials = grpc.ssl_channel_credentials(root_certificates=Path(ca_file).read_bytes())
    if token:
        bearer = grpc.access_token_call_credentials(token)
        credentials = grpc.composite_channel_credentials(credentials, bearer)
    return Node(grpc.secure_channel(address, credentials))


class Cluster:
    """All nodes; `call` asks one after another until one answers."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.first = 0

    def call(self, ask: Callable[[Node], Any]) -> Any:
        """`ask` is called again after a failure that may pass, with the next node: send the same request."""
        give_up = time.monotonic() + GIVE_UP_S
        while True:
            try:
                return ask(self.nodes[self.first])
            except grpc.RpcError as error:
                if error.code() not in RETRIED or time.monotonic() > give_up:
                    raise
                self.first = (self.first + 1) % len(self.nodes)
                time.sleep(PAUSE_S)


def once() -> common_pb2.Idempotency:
    """Names one write: however often it is sent with this, it is executed once."""
    return common_pb2.Idempotency(request_id=os.urandom(16))


def reason(error: grpc.RpcError) -> str:
    """What ErrorInfo says; the gRPC code where no node has answered."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return f"{info.reason} may_have_executed={info.metadata['may_have_executed']}"
    return error.code().name
