"""Taking and installing snapshots beside the loop: the slow parts run in a thread."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from replcache.constants import DISK_FULL_RETRY_S, SNAPSHOT_REST, SNAPSHOT_REST_S_MAX
from replcache.errors import CorruptSnapshot
from replcache.raft.disk import TryLater
from replcache.raft.membership import decode_configuration, encode_configuration
from replcache.raft.snapshot_transfer import SnapshotInfo, compact_log
from replcache.raft.snapshots import SnapshotFile, SnapshotStore
from replcache.raft.snapshots import SnapshotInfo as StoredSnapshot
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.snapshot import SnapshotView

if TYPE_CHECKING:
    from replcache.raft.node import RaftNode

log = structlog.get_logger("replcache.raft")


class SnapshotJobs:
    """Implements snapshot_transfer.SnapshotPort over the store. At most one job at a time."""

    def __init__(self, node: "RaftNode", store: SnapshotStore) -> None:
        self._node = node
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._newest = store.latest()
        self._serving: SnapshotFile | None = None
        self._serve_at = float("-inf")
        self._receiving_total = 0
        self._is_busy = False
        self._is_closing = threading.Event()
        # Where the last one was tried: a failed one is tried again after as much log as a good one.
        self._last_index = node.storage.applied_index
        self._bytes_at_last = node.storage.wal.bytes_written
        self.taken = 0

    async def close(self) -> None:
        self._is_closing.set()
        await asyncio.to_thread(self._thread.shutdown, wait=True)
        self._close_serving()

    # --- SnapshotPort ---

    @property
    def is_busy(self) -> bool:
        """A snapshot is being taken."""
        return self._is_busy

    @property
    def last_index(self) -> int:
        """Index of the newest snapshot; 0: none."""
        return self._newest.index if self._newest is not None else 0

    def latest(self) -> SnapshotInfo | None:
        newest = self._newest
        return SnapshotInfo(newest.index, newest.term, newest.size) if newest is not None else None

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes | None:
        """From a file that stays open while it is being sent, whatever replaces it in the store."""
        if self._serving is None or (self._serving.info.index, self._serving.info.term) != (
            info.index,
            info.term,
        ):
            newest = self._newest
            if newest is None or (newest.index, newest.term) != (info.index, info.term):
                return None
            if self._node.clock.now() < self._serve_at:
                return None
            self._close_serving()
            try:
                self._serving = self._store.open_raw(newest)
            except TryLater as error:
                # As if it were gone: the follower is served later, and the node goes on.
                self._serve_at = self._node.clock.now() + DISK_FULL_RETRY_S
                log.warning("snapshot_not_served", index=newest.index, error=str(error))
                return None
        return self._serving.read(offset, size)

    def receive(self, index: int, term: int, total: int, offset: int, data: bytes) -> int:
        self._receiving_total = total
        try:
            receiver = self._store.receiver(index, term, total)
            if receiver is None:
                return total  # it is here already, from before a restart: only loading is left
            return receiver.write(offset, data)
        except (CorruptSnapshot, TryLater) as error:
            log.warning("snapshot_chunk_refused", index=index, offset=offset, error=str(error))
            return 0

    def _set_newest(self, info: StoredSnapshot) -> None:
        self._newest = info
        if not self._node.engine.snapshots_out.is_sending:
            # Nobody reads it any more, and while it is open it keeps its room when the store deletes it.
            self._close_serving()

    def _close_serving(self) -> None:
        if self._serving is not None:
            self._serving.close()
            self._serving = None

    # --- taking ---

    def maybe_start(self) -> None:
        """Takes a snapshot when the log has grown enough since the last one."""
        engine, config = self._node.engine, self._node.config.engine
        if self._is_busy or engine.applied_index <= self._last_index:
            return
        entries = engine.applied_index - self._last_index
        size = self._node.storage.wal.bytes_written - self._bytes_at_last
        last_size = self._newest.size if self._newest is not None else 0
        is_much = size >= max(config.snapshot_after_bytes, last_size)
        if is_much or entries >= config.snapshot_after_entries:
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

    async def _take(self, index: int, term: int, members: bytes, view: SnapshotView) -> None:
        loop = asyncio.get_running_loop()
        started = self._node.clock.now()
        writer = self._store.writer(index, term, members, self._paced(view.chunks()))
        try:
            written = await loop.run_in_executor(self._thread, writer.run)
        except TryLater as error:
            log.error("snapshot_failed", index=index, error=str(error))
            return
        finally:
            # Not read to its end after an error: until it is closed the machine keeps every old row.
            view.close()
            self._is_busy = False
            self._last_index = max(self._last_index, index)
        if written is None:
            return  # a newer one was installed meanwhile
        self._set_newest(written)
        self.taken += 1
        took = self._node.clock.now() - started
        log.info("snapshot_taken", index=index, term=term, bytes=written.size, seconds=round(took, 3))
        compact_log(self._node.engine, index)
        self._node.kick()

    def _paced(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Rests after each chunk, in the thread: nobody waits for a snapshot, and all wait for the loop.

        The rest is a multiple of the time that the chunk took, so it grows when others want the processor.
        """
        now = self._node.clock.now
        started = now()
        for chunk in chunks:
            rest_s = min(SNAPSHOT_REST * (now() - started), SNAPSHOT_REST_S_MAX)
            if rest_s > 0:
                self._is_closing.wait(rest_s)
            yield chunk
            started = now()

    # --- installing ---

    def install(self, index: int, term: int) -> None:
        self._node.short_task("install-snapshot", self._install(index, term))

    async def _install(self, index: int, term: int) -> None:
        loop = asyncio.get_running_loop()
        receiving = self._node.engine.snapshots_in
        try:
            info = await loop.run_in_executor(self._thread, self._publish, index, term)
        except (CorruptSnapshot, TryLater) as error:
            log.error("received_snapshot_refused", index=index, error=str(error))
            receiving.on_verified(index, term, is_good=False)
            self._node.kick()
            return
        # Also when it is not loaded any more: the store deletes the one before it with the next.
        self._set_newest(info)
        if receiving.on_verified(index, term, is_good=True):
            try:
                machine = await loop.run_in_executor(self._thread, self._load, info)
            except TryLater as error:
                # Not acknowledged: the leader asks again, and only loading is left then.
                log.error("received_snapshot_not_loaded", index=index, error=str(error))
                return
            members = decode_configuration(info.configuration)
            receiving.on_loaded(index, term, members, machine)
            self._last_index = max(self._last_index, index)
            log.info("snapshot_installed", index=index, term=term, bytes=info.size)
            self._node.wake_waiters()
        self._node.kick()

    def _publish(self, index: int, term: int) -> StoredSnapshot:
        """Verifies the received file and makes it durable; in the thread."""
        newest = self._store.latest()
        if newest is None or newest.index < index:
            receiver = self._store.receiver(index, term, self._receiving_total)
            newest = receiver.install() if receiver is not None else self._store.latest()
        if newest is None or (newest.index, newest.term) != (index, term):
            raise CorruptSnapshot(f"the snapshot ({index}, {term}) is not the newest in the store")
        return newest

    def _load(self, info: StoredSnapshot) -> StateMachine:
        opened = self._store.load(info)
        try:
            return StateMachine.restore(opened.chunks())
        finally:
            opened.close()
