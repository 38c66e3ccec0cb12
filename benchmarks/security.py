"""What tokens and rights cost on the server: CPU time of a message, with authentication off and on.

The node's own handlers are called without gRPC's part and over a Raft port that does nothing but apply, so
the share that is shown is larger than that of a real node. Turn by turn, so that all see the same machine.
Run: python -m benchmarks.security [--rounds 7]
"""

import argparse
import logging
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import structlog
import uvloop

from replcache.clock import SystemClock
from replcache.config import ServerConfig
from replcache.observability.metrics import Metrics
from replcache.pb.v1 import cache_pb2 as pb
from replcache.server import node_server
from replcache.server.gateway_calls import Registry
from replcache.server.security.auth_edit import create_token
from tests.helpers.fake_raft import FakeRaft

AUTH = """
[roles.app]
read = ["app:", "shared:"]
write = ["app:"]
[users.app]
roles = ["app"]
"""


class Context:
    """What a handler needs of gRPC's context."""

    def __init__(self, token: str, messages: list[bytes] | None = None) -> None:
        self._headers = (("user-agent", "benchmark"), ("authorization", f"Bearer {token}"))
        self._messages = messages or []
        self._next = 0

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._headers

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def time_remaining(self) -> float:
        return 5.0

    async def abort(self, code: object, details: str, trailers: object) -> None:
        raise AssertionError(f"{code}: {details}")

    async def read(self) -> Any:
        if self._next == len(self._messages):
            return grpc.aio.EOF
        self._next += 1
        return self._messages[self._next - 1]

    async def write(self, message: bytes) -> None:
        assert not pb.BatchResponse.FromString(message).HasField("error")


@asynccontextmanager
async def handlers(folder: Path | None) -> AsyncIterator[tuple[Registry, str]]:
    """The guarded handlers of a node, and a token for them. folder: None: authentication off."""
    token = ""
    settings: dict[str, Any] = {}
    if folder is not None:
        path = folder / "auth.toml"
        path.write_text(AUTH)
        path.chmod(0o600)
        _, token = create_token(path, "app", datetime.now(UTC), None, "")
        settings["auth_file"] = path
    found: list[Registry] = []
    real = Registry.generic_handlers

    def keep(registry: Registry) -> tuple[grpc.GenericRpcHandler, ...]:
        found.append(registry)
        return real(registry)

    Registry.generic_handlers = keep  # type: ignore[method-assign]
    config = ServerConfig(grpc_listen="127.0.0.1:0", http_listen=None, stop_grace_s=0.0, **settings)
    server = node_server.Server(config, FakeRaft(), SystemClock(), Metrics(), random.Random(1))
    try:
        await server.start()
    finally:
        Registry.generic_handlers = real  # type: ignore[method-assign]
    try:
        yield found[0], token
    finally:
        await server.stop()


Case = Callable[[Registry, str], Awaitable[int]]


def unary(method: str, request: Any, calls: int) -> Case:
    async def run(registry: Registry, token: str) -> int:
        handler = registry.services["replcache.v1.Cache"][method]
        context = Context(token)
        for _ in range(calls):
            handler.response_serializer(await handler.unary_unary(request, context))
        return calls

    return run


def pipeline(batch: pb.BatchRequest, messages: int) -> Case:
    data = batch.SerializeToString()

    async def run(registry: Registry, token: str) -> int:
        handler = registry.services["replcache.v1.Cache"]["Pipeline"]
        await handler.stream_stream(None, Context(token, [data] * messages))
        return messages

    return run


def cases() -> dict[str, Case]:
    keys = [b"app:%06d" % number for number in range(256)]
    values = [b"x" * 100] * 256
    operations = [pb.Operation(set=pb.SetRequest(key=key, value=b"x" * 100)) for key in keys[:16]]
    return {
        "unary Get": unary("Get", pb.GetRequest(key=keys[0]), 2000),
        "unary Set": unary("Set", pb.SetRequest(key=keys[0], value=values[0]), 2000),
        "pipeline, 1 get": pipeline(pb.BatchRequest(get_columns=pb.GetColumns(keys=keys[:1])), 2000),
        "pipeline, 16 operations": pipeline(pb.BatchRequest(operations=operations), 500),
        "pipeline, 256 gets": pipeline(pb.BatchRequest(get_columns=pb.GetColumns(keys=keys)), 500),
        "pipeline, 256 sets": pipeline(
            pb.BatchRequest(set_columns=pb.SetColumns(keys=keys, values=values)), 300
        ),
    }


async def measure(rounds: int) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        off = await stack.enter_async_context(handlers(None))
        on = await stack.enter_async_context(handlers(folder))
        for name, case in cases().items():
            times: dict[str, list[float]] = {"off": [], "on": []}
            for number in range(rounds + 1):
                for label, node in (("off", off), ("on", on)):
                    begin = time.process_time()
                    done = await case(*node)
                    if number:
                        times[label].append((time.process_time() - begin) / done * 1e6)
            # Noise only adds: the least of many rounds is the nearest to the cost itself.
            without, guarded = min(times["off"]), min(times["on"])
            middle = statistics.median(times["on"]) / statistics.median(times["off"]) - 1
            print(
                f"{name:26} off {without:8.1f} us   on {guarded:8.1f} us   {guarded - without:+6.1f} us"
                f" ({(guarded / without - 1) * 100:+5.1f} %; by medians {middle * 100:+5.1f} %)",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    uvloop.run(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
