"""Taking and installing snapshots beside the loop: the slow parts run in a thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from replcache.errors import CorruptSnapshot
from replcache.raft.membership import decode_configuration, encode_configuration
from replcache.raft.snapshot_transfer import SnapshotInfo, compact_log
from replcache.raft.snapshots import Snapshot, SnapshotStore
from replcache.statemachine.machine import StateMachine

if TYPE_CHECKING:
    from replcache.raft.node import RaftNode

log = structlog.get_logger("replcache.raft")


class SnapshotJobs:
    """Implements snapshot_transfer.SnapshotPort over the store. At most one job at a time."""

    def __init__(self, node: "RaftNode", store: SnapshotStore) -> None:
        self._node = node
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._is_busy = False
        self._last_index = node.storage.applied_index
        self._bytes_at_last = node.storage.wal.bytes_written
        self.taken = 0

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown, wait=True)

    # --- SnapshotPort ---

    @property
    def last_index(self) -> int:
        newest = self._store.latest()
        return newest.index if newest is not None else 0

    def latest(self) -> SnapshotInfo | None:
        newest = self._store.latest()
        return SnapshotInfo(newest.index, newest.term, newest.size) if newest is not None else None

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes | None:
        return self._store.read(info.index, info.term, offset, size)

    def receive(self, index: int, term: int, total: int, offset: int, data: bytes) -> int:
        return self._store.receive(index, term, total, offset, data)

    # --- taking ---

    def maybe_start(self) -> None:
        """Takes a snapshot when the log has grown enough since the last one."""
        engine, config = self._node.engine, self._node.config.engine
        if self._is_busy or engine.applied_index <= self._last_index:
            return
        entries = engine.applied_index - self._last_index
        size = self._node.storage.wal.bytes_written - self._bytes_at_last
        if entries >= config.snapshot_after_entries or size >= config.snapshot_after_bytes:
            self.take()

    def take(self) -> None:
        """Begins a snapshot of what is applied now."""
        assert not self._is_busy
        self._is_busy = True
        engine = self._node.engine
        index = engine.applied_index
        term = engine.wal.term_at(index)
        assert term is not None, index
        members = encode_configuration(engine.configurations.at(index))
        view = engine.machine.begin_snapshot()
        self._bytes_at_last = self._node.storage.wal.bytes_written
        self._node.short_task("snapshot", self._take(index, term, members, view))

    async def _take(self, index: int, term: int, members: bytes, view: object) -> None:
        loop = asyncio.get_running_loop()
        started = self._node.clock.now()
        try:
            await loop.run_in_executor(self._thread, self._store.write, index, term, members, view.chunks())
        finally:
            self._is_busy = False
        self._last_index = max(self._last_index, index)
        self.taken += 1
        took = self._node.clock.now() - started
        log.info("snapshot_taken", index=index, term=term, seconds=round(took, 3))
        compact_log(self._node.engine, index)
        self._node.kick()

    # --- installing ---

    def install(self, index: int, term: int) -> None:
        self._node.short_task("install-snapshot", self._install(index, term))

    async def _install(self, index: int, term: int) -> None:
        loop = asyncio.get_running_loop()
        engine = self._node.engine
        try:
            snapshot = await loop.run_in_executor(self._thread, self._store.finish_receive, index, term)
        except CorruptSnapshot as error:
            log.error("received_snapshot_damaged", index=index, error=str(error))
            engine.snapshots_in.on_verified(index, term, is_good=False)
            self._node.kick()
            return
        if engine.snapshots_in.on_verified(index, term, is_good=True):
            machine = await loop.run_in_executor(self._thread, self._load, snapshot)
            members = decode_configuration(snapshot.configuration)
            engine.snapshots_in.on_loaded(index, term, members, machine)
            self._last_index = max(self._last_index, index)
            log.info("snapshot_installed", index=index, term=term)
            self._node.wake_waiters()
        self._node.kick()

    def _load(self, snapshot: Snapshot) -> StateMachine:
        return StateMachine.restore(self._store.chunks(snapshot))
