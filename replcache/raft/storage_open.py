"""Opening a data directory: identity, newest snapshot, log, and how they fit together after any crash.

Order and rules (hazards H11, H13, H14, H30): the newest snapshot is loaded whole or the node refuses to
start; log entries behind it are kept when they connect; trimming the log is never a condition for anything.
"""

import random
from dataclasses import dataclass

from replcache.constants import WAL_SEGMENT_BYTES
from replcache.raft.disk import Disk
from replcache.raft.identity import Identity
from replcache.raft.membership import Configuration, decode_configuration
from replcache.raft.port import Member
from replcache.raft.snapshots import SnapshotStore
from replcache.raft.wal import ALLOCATE_BYTES, Wal
from replcache.statemachine.machine import StateMachine


@dataclass(slots=True)
class OpenedStorage:
    """What a node starts from. applied_index is the index of the snapshot that `machine` came from, or 0."""

    identity: Identity
    wal: Wal
    snapshots: SnapshotStore
    machine: StateMachine
    applied_index: int
    configuration: Configuration

    def close(self) -> None:
        self.wal.close()
        self.identity.close()


def open_storage(
    disk: Disk,
    data_dir: str,
    *,
    cluster_id: bytes,
    name: str,
    members: tuple[Member, ...],
    rng: random.Random,
    fsync: bool = True,
    segment_bytes: int = WAL_SEGMENT_BYTES,
    allocate_bytes: int = ALLOCATE_BYTES,
) -> OpenedStorage:
    """Opens everything; blocks, so run it in a thread.

    Args:
        segment_bytes, allocate_bytes: see Wal.open.

    Raises:
        StorageError, CorruptLog, CorruptSnapshot: names file, offset and what to do.
    """
    identity = Identity.open(disk, data_dir, cluster_id, name, rng)
    try:
        snapshots = SnapshotStore.open(disk, f"{data_dir}/snapshots", cluster_id)
        newest = snapshots.latest()
        has_history = identity.bootstrap is not None or newest is not None
        wal = Wal.open(
            disk,
            f"{data_dir}/wal",
            owner=identity.incarnation,
            must_exist=has_history,
            segment_bytes=segment_bytes,
            allocate_bytes=allocate_bytes,
            sync=fsync,
        )
        applied_index, machine = 0, StateMachine()
        configuration: Configuration = (
            decode_configuration(identity.bootstrap) if identity.bootstrap is not None else members
        )
        if newest is not None:
            opened = snapshots.load(newest)
            try:
                machine = StateMachine.restore(opened.chunks())
            finally:
                opened.close()
            applied_index = newest.index
            configuration = decode_configuration(newest.configuration)
        # Also without a snapshot: a log that begins later than at 1 has lost what came before.
        wal.align_to_snapshot(applied_index, newest.term if newest is not None else 0)
        wal.sync()
        return OpenedStorage(identity, wal, snapshots, machine, applied_index, configuration)
    except BaseException:
        identity.close()
        raise
