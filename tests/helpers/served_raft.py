"""The real server over the fake Raft port in a thread: real semantics, one process, no cluster."""

from contextlib import AsyncExitStack
from typing import Any

from tests.helpers.client_driver import LoopThread
from tests.helpers.serving import Serving, serving


class ServingThread:
    """Serves from construction to close()."""

    def __init__(self, **settings: Any) -> None:
        self.thread = LoopThread("server")
        self._stack = AsyncExitStack()
        self.serving: Serving = self.thread.run(self._stack.enter_async_context(serving(**settings)))

    @property
    def url(self) -> str:
        return f"replcache://{self.serving.server.grpc_address}"

    def close(self) -> None:
        self.thread.run(self._stack.aclose())
        self.thread.close()
