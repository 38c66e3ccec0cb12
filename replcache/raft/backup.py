"""The state as one file: made from a running node, read again, and turned into data directories.

The file is a snapshot as the nodes keep them (snapshot_format.py): header with cluster, index, term and
members, checksummed chunks, a digest over everything. What is in the chunks ends with the SHA-256 of the
state, which is what Cluster.Hash answers at that index.

A restored cluster is a new one. It has another cluster id, so that nodes of the old one can't meddle, and its
members have incarnations that follow from the file and the new id: each node can be restored on its own
machine, and all of them agree on who founded the cluster.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from replcache.errors import CorruptSnapshot, StorageError, Unavailable
from replcache.raft.disk import Disk
from replcache.raft.identity import INCARNATION_BITS, create_identity
from replcache.raft.membership import decode_configuration, encode_configuration
from replcache.raft.port import Backup, Member
from replcache.raft.snapshot_format import (
    WHAT_TO_DO,
    SnapshotEncoder,
    SnapshotHeader,
    check_file,
    read_chunks,
)
from replcache.raft.snapshots import SnapshotStore
from replcache.raft.wal import Wal
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat
from replcache.statemachine.machine import StateMachine

if TYPE_CHECKING:
    from replcache.raft.node import RaftNode


def begin_backup(node: "RaftNode") -> Backup:
    """The file of what is applied now. Raises Unavailable: there is nothing yet."""
    engine = node.engine
    index = engine.applied_index
    term = engine.wal.term_at(index)
    if not index or term is None:
        raise Unavailable("this node has no state yet", retry_after_s=1.0)
    members = encode_configuration(engine.configurations.at(index))
    view = engine.machine.begin_snapshot()
    header = SnapshotHeader(node.config.cluster_id, index, term, members)
    return Backup(index, encoded(header, view.chunks()), view.close)


def encoded(header: SnapshotHeader, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of the file in pieces of at most about 1 MiB."""
    encoder = SnapshotEncoder()
    yield b"".join(encoder.header(header))
    for chunk in chunks:
        yield b"".join(encoder.chunk(chunk))
    yield b"".join(encoder.footer())


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """A file that was read and checked to its end. digest: SHA-256 of the state."""

    path: str
    size: int
    cluster_id: bytes
    index: int
    term: int
    members: tuple[Member, ...]
    digest: bytes
    revision: int
    clock_ms: int
    keys: int
    value_bytes: int
    locks: int
    sessions: int


def read_backup(disk: Disk, path: str) -> BackupInfo:
    """Reads everything, also what is inside, and checks all of it.

    Raises:
        CorruptSnapshot: damaged, cut short, or no such file format.
        StorageError: can't be read, or was written by a later version.
    """
    try:
        file = disk.open(path, "read")
    except OSError as error:
        raise StorageError(f"{path}: can't be read: {error}") from error
    with closing(file):
        try:
            header = check_file(file, path)
            machine = StateMachine.restore(read_chunks(file, path))
            members = decode_configuration(header.configuration)
            size = file.size()
        except CorruptSnapshot as error:
            # What to do about a node's own snapshot does not help here.
            text = str(error).removesuffix(f"; {WHAT_TO_DO}")
            raise CorruptSnapshot(f"{text}; take another backup", metadata=error.metadata) from error
        except OSError as error:
            raise StorageError(f"{path}: can't be read: {error}") from error
        except (InvariantBroken, UnknownFormat) as error:
            raise StorageError(f"{path}: made by another version, or not by replcache: {error}") from error
    statistics = machine.statistics()
    return BackupInfo(
        path=path,
        size=size,
        cluster_id=header.cluster_id,
        index=header.index,
        term=header.term,
        members=members,
        digest=machine.digest(),
        revision=machine.revision,
        clock_ms=machine.clock_ms,
        keys=statistics.keys,
        value_bytes=statistics.value_bytes,
        locks=statistics.locks,
        sessions=statistics.sessions,
    )


def founders(members: Iterable[Member], cluster_id: bytes, digest: bytes) -> tuple[Member, ...]:
    """The members with the incarnations that every node derives alike."""
    return tuple(
        replace(m, incarnation=_incarnation(m.name, cluster_id, digest), voter=True) for m in members
    )


def _incarnation(name: str, cluster_id: bytes, digest: bytes) -> int:
    text = b"replcache restored " + cluster_id + digest + name.encode()
    number = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> (64 - INCARNATION_BITS)
    return number or 1


def restore_backup(
    disk: Disk,
    path: str,
    data_dir: str,
    *,
    cluster_id: bytes,
    name: str,
    members: tuple[Member, ...],
) -> BackupInfo:
    """Makes `data_dir` the directory of the node `name` of a new cluster that begins with the file's state.

    Everything is written beside it and renamed at the end, so a restore that was interrupted leaves nothing
    that a node would start from.

    Args:
        members: of the new cluster, equal on all its nodes.
    Raises:
        StorageError: data_dir is not empty, or the cluster id is the old one. CorruptSnapshot: see
            read_backup.
    """
    info = read_backup(disk, path)
    if cluster_id == info.cluster_id:
        raise StorageError(
            "the new cluster must have another cluster_name than the one that the file is from: "
            "their nodes must never take each other for their own"
        )
    if name not in [member.name for member in members]:
        raise StorageError(f"{name} is not among the members {', '.join(m.name for m in members)}")
    temporary = f"{data_dir}.restoring"
    try:
        for directory in (data_dir, temporary):
            if disk.exists(directory) and disk.listdir(directory):
                raise StorageError(f"{directory} is not empty: a restore never overwrites anything")
        disk.mkdir(temporary)
        configuration = encode_configuration(founders(members, cluster_id, info.digest))
        incarnation = _incarnation(name, cluster_id, info.digest)
        create_identity(disk, temporary, cluster_id, name, incarnation, configuration)
        _write_snapshot(disk, path, temporary, info, cluster_id, configuration)
        wal = Wal.open(disk, f"{temporary}/wal", owner=incarnation, must_exist=False)
        try:
            wal.align_to_snapshot(info.index, info.term)
            wal.sync()
        finally:
            wal.close()
        disk.fsync_dir(temporary)
        disk.rename(temporary, data_dir)
        disk.fsync_dir(data_dir)
    except OSError as error:
        raise StorageError(f"{data_dir}: can't be written: {error}") from error
    return info


def _write_snapshot(
    disk: Disk, path: str, directory: str, info: BackupInfo, cluster_id: bytes, configuration: bytes
) -> None:
    store = SnapshotStore.open(disk, f"{directory}/snapshots", cluster_id)
    with closing(disk.open(path, "read")) as file:
        store.writer(info.index, info.term, configuration, read_chunks(file, path)).run()
    written = store.latest()
    if written is None or (written.index, written.term) != (info.index, info.term):
        raise CorruptSnapshot(f"{path}: the snapshot was not written")
