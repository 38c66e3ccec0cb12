"""What the parts of the blocking client use of it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from replcache.client.base import BaseClient
from replcache.errors import ClientClosed

# How often a waiting iteration looks whether the client was closed by another thread.
_TURN_S = 1.0


class BlockingPart(BaseClient):
    """A part of Client: each call runs that of the AsyncClient underneath."""

    # The AsyncClient; its module imports those of the parts.
    _aio: Any
    _ready: Callable[[], None]
    _run: Callable[..., Any]

    def _iterate(self, items: AsyncGenerator[Any, None]) -> Iterator[Any]:
        """What an asynchronous generator yields. Raises ClientClosed when the client is closed meanwhile."""
        end, core = object(), self._core
        step: list[asyncio.Task[Any]] = []

        async def turn() -> bool:
            if not step:
                step.append(core.tasks.start(anext(items, end), "replcache iteration"))
            return bool((await asyncio.wait(step, timeout=_TURN_S))[0])

        async def close() -> None:
            for task in step:
                task.cancel()
            if step:
                await asyncio.wait(step)
            await items.aclose()

        try:
            while True:
                if core.is_closed or (step and step[0].cancelled()):
                    raise ClientClosed("the client was closed")
                if self._run(turn, None) and not step[0].cancelled():
                    item = step.pop().result()
                    if item is end:
                        return
                    yield item
        finally:
            if not core.is_closed:
                self._run(close, None)
