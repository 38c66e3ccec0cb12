"""Reads of entries with a sliding expiry: noted here, put into the log in batches.

A read of such an entry lengthens its life, and only the log may do that, or replicas would disagree. A log
entry for each read would make reads as dear as writes, so keys are collected for a moment and touched
together. The lost precision is ACCESS_FLUSH_INTERVAL_S, on the safe side only for ttls well above it.
"""

import asyncio

from replcache import constants
from replcache.errors import ReplcacheError
from replcache.observability.logs import get_logger
from replcache.server.backend import Backend
from replcache.statemachine.commands import Accessed, Command
from replcache.tasks import Supervisor

_log = get_logger(__name__)


class Accesses:
    """Keys that were read since the last flush; each once, so the size is that of the keys in use."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._keys: dict[bytes, None] = {}
        self._noted = asyncio.Event()

    def note(self, key: bytes) -> None:
        """Overflow: beyond ACCESSED_KEYS_MAX a key is not noted; its next read will be."""
        if len(self._keys) < constants.ACCESSED_KEYS_MAX:
            self._keys[key] = None
            self._noted.set()

    def start(self, supervisor: Supervisor) -> None:
        supervisor.background("accesses", self._run())

    async def _run(self) -> None:
        while True:
            await self._noted.wait()
            await asyncio.sleep(constants.ACCESS_FLUSH_INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        """Proposes what was noted, in batches. A failure loses these touches only: the entries may expire
        earlier than their readers wanted, which is what a cache without a leader has to do anyway."""
        keys = list(self._keys)
        self._keys.clear()
        self._noted.clear()
        for start in range(0, len(keys), constants.BATCH_OPERATIONS_MAX):
            accessed = Accessed(tuple(keys[start : start + constants.BATCH_OPERATIONS_MAX]))
            deadline = self._backend.clock.now() + constants.DEFAULT_DEADLINE_S
            try:
                await self._backend.port.propose(Command(ops=(accessed,)), deadline)
            except ReplcacheError as err:
                _log.info("accesses_not_recorded", keys=len(accessed.keys), reason=err.reason)
                return
