"""Who the data directory belongs to: one small file, replaced as a whole, and a lock on the directory.

The file `identity` holds cluster id, node name, incarnation, boot counter and, once known, the bootstrap
configuration. `incarnation` is drawn when the directory is made: a node that lost its disk comes back under a
new one, and the cluster tells it from the node that voted before. `boot` counts the starts and is on the disk
before anything is done in this start, so (name, boot, sequence) never repeats.

Invariants:
    the file is written only by replacing it: temporary file, fsync, rename, fsync of the directory
    a directory that holds data but no readable identity is refused, never given a new one
    the lock is held as long as the Identity is open; two processes never share a directory
"""

import random
import struct
from dataclasses import dataclass, replace

import google_crc32c

from replcache.errors import StorageError
from replcache.raft.disk import Disk, DiskLock, storage_error
from replcache.raft.failpoints import fail_point

IDENTITY_FILE = "identity"
LOCK_FILE = "lock"
TEMPORARY_FILE = "identity.tmp"
# What a new file system's root may hold without being a data directory that lost its identity.
IGNORED_NAMES = frozenset({IDENTITY_FILE, LOCK_FILE, TEMPORARY_FILE, "lost+found"})

MAGIC = b"rcident\n"
FORMAT_VERSION = 1
INCARNATION_BITS = 63

# magic, version, flags, bytes of cluster id, name and bootstrap, incarnation, boot; then the three; then crc
_FIXED = struct.Struct("<8sHHIIIQQ")
_CRC = struct.Struct("<I")
_HAS_BOOTSTRAP = 1

_MOVE_AWAY = (
    "move the data directory away and start the node again: it rejoins the cluster as a learner "
    "and copies the state from the others"
)


@dataclass(frozen=True, slots=True)
class _Fields:
    cluster_id: bytes
    node_name: str
    incarnation: int
    boot: int
    bootstrap: bytes | None


class Identity:
    """The open data directory.

    Attributes:
        cluster_id, node_name: as configured; checked against the directory.
        incarnation: 1..2**63-1, drawn when the directory was made.
        boot: number of this start, from 1.
        bootstrap: the configuration that the cluster was first started with, as bytes; None: not known yet.
        fresh: the directory was made by this start.
    """

    def __init__(self, disk: Disk, directory: str, lock: DiskLock, fields: _Fields, fresh: bool) -> None:
        self._disk = disk
        self._directory = directory
        self._lock = lock
        self._fields = fields
        self.fresh = fresh

    @classmethod
    def open(
        cls, disk: Disk, directory: str, cluster_id: bytes, node_name: str, rng: random.Random
    ) -> "Identity":
        """Locks the directory (made if missing), checks whose it is, and counts this start.

        Raises:
            StorageError: in use by another process, of another cluster or node, damaged, or not writable;
                the message names both values, or the file and what to do.
        """
        try:
            disk.mkdir(directory)
            lock = _take_lock(disk, directory)
        except OSError as error:
            raise StorageError(f"{directory}: the data directory can't be used: {error}") from error
        try:
            found = _load(disk, directory)
            if found is None:
                _require_empty(disk, directory)
                incarnation = rng.getrandbits(INCARNATION_BITS) or 1
                fields = _Fields(cluster_id, node_name, incarnation, 1, None)
            else:
                _require_same(directory, found, cluster_id, node_name)
                fields = replace(found, boot=found.boot + 1)
            _store(disk, directory, fields)
            return cls(disk, directory, lock, fields, fresh=found is None)
        except OSError as error:
            lock.close()
            raise StorageError(f"{directory}: the identity can't be read or written: {error}") from error
        except BaseException:
            lock.close()
            raise

    @property
    def cluster_id(self) -> bytes:
        return self._fields.cluster_id

    @property
    def node_name(self) -> str:
        return self._fields.node_name

    @property
    def incarnation(self) -> int:
        return self._fields.incarnation

    @property
    def boot(self) -> int:
        return self._fields.boot

    @property
    def bootstrap(self) -> bytes | None:
        return self._fields.bootstrap

    def set_bootstrap(self, configuration: bytes) -> None:
        """Remembers the bootstrap configuration durably; blocks for two syncs.

        It never changes: the same bytes again do nothing, others are a programmer error.

        Raises:
            StorageError: it could not be written; the node must not act on it. TryLater: it may try again.
        """
        if self.bootstrap == configuration:
            return
        assert self.bootstrap is None, "the bootstrap configuration of a data directory never changes"
        fields = replace(self._fields, bootstrap=configuration)
        try:
            _store(self._disk, self._directory, fields)
        except OSError as error:
            raise storage_error(f"{self._directory}: the identity can't be written", error) from error
        self._fields = fields

    def close(self) -> None:
        """Gives the directory back; may be called twice."""
        self._lock.close()


def create_identity(
    disk: Disk, directory: str, cluster_id: bytes, node_name: str, incarnation: int, bootstrap: bytes
) -> None:
    """Writes the identity of a directory that nobody has started from yet; the first start is boot 1.

    Raises:
        OSError: it can't be written.
    """
    assert not disk.exists(f"{directory}/{IDENTITY_FILE}"), directory
    _store(disk, directory, _Fields(cluster_id, node_name, incarnation, 0, bootstrap))


def _take_lock(disk: Disk, directory: str) -> DiskLock:
    try:
        return disk.lock(f"{directory}/{LOCK_FILE}")
    except BlockingIOError as error:
        raise StorageError(
            f"{directory}: another process is using this data directory; stop it, or give this node its own"
        ) from error


def _load(disk: Disk, directory: str) -> _Fields | None:
    path = f"{directory}/{IDENTITY_FILE}"
    if not disk.exists(path):
        return None
    file = disk.open(path, "read")
    try:
        data = file.read(0, file.size())
    finally:
        file.close()
    return _decode(data, path)


def _require_empty(disk: Disk, directory: str) -> None:
    """Data without identity: the file was removed, or this is the wrong place. Votes may have been given."""
    others = [name for name in disk.listdir(directory) if name not in IGNORED_NAMES]
    if others:
        raise StorageError(
            f"{directory}/{IDENTITY_FILE} is missing, but the directory is not empty "
            f"({', '.join(others[:5])}): it is damaged, or no data directory of replcache; {_MOVE_AWAY}"
        )


def _require_same(directory: str, found: _Fields, cluster_id: bytes, node_name: str) -> None:
    if found.cluster_id != cluster_id:
        raise StorageError(
            f"{directory} belongs to cluster {_show(found.cluster_id)}, "
            f"this node is configured for cluster {_show(cluster_id)}"
        )
    if found.node_name != node_name:
        raise StorageError(
            f"{directory} belongs to node {found.node_name!r}, this node is configured as {node_name!r}"
        )


def _show(cluster_id: bytes) -> str:
    text = cluster_id.decode("ascii", "replace")
    return repr(text) if text.isprintable() and "�" not in text else cluster_id.hex()


def _store(disk: Disk, directory: str, fields: _Fields) -> None:
    temporary = f"{directory}/{TEMPORARY_FILE}"
    file = disk.open(temporary, "create")
    try:
        file.write(0, [_encode(fields)])
        file.fdatasync()
    finally:
        file.close()
    fail_point("identity.before_rename")
    disk.rename(temporary, f"{directory}/{IDENTITY_FILE}")
    fail_point("identity.before_dir_fsync")
    disk.fsync_dir(directory)
    fail_point("identity.after_dir_fsync")


def _encode(fields: _Fields) -> bytes:
    name = fields.node_name.encode()
    bootstrap = fields.bootstrap or b""
    fixed = _FIXED.pack(
        MAGIC,
        FORMAT_VERSION,
        0 if fields.bootstrap is None else _HAS_BOOTSTRAP,
        len(fields.cluster_id),
        len(name),
        len(bootstrap),
        fields.incarnation,
        fields.boot,
    )
    body = b"".join((fixed, fields.cluster_id, name, bootstrap))
    return body + _CRC.pack(google_crc32c.value(body))


def _decode(data: bytes, path: str) -> _Fields:
    """Raises StorageError: the file is damaged, or of another version."""
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if len(body) < _FIXED.size or _CRC.pack(google_crc32c.value(body)) != crc:
        raise StorageError(
            f"{path}: the checksum of its {len(data)} bytes is wrong: the file is damaged; {_MOVE_AWAY}",
            metadata={"file": path},
        )
    magic, version, flags, cluster_bytes, name_bytes, bootstrap_bytes, incarnation, boot = _FIXED.unpack_from(
        body
    )
    if magic != MAGIC or version != FORMAT_VERSION:
        raise StorageError(
            f"{path}: format {magic!r} version {version}; this program reads version {FORMAT_VERSION}",
            metadata={"file": path},
        )
    name_at = _FIXED.size + cluster_bytes
    bootstrap_at = name_at + name_bytes
    end = bootstrap_at + bootstrap_bytes
    if end != len(body):
        raise StorageError(f"{path}: {len(body)} bytes, its lengths say {end}; {_MOVE_AWAY}")
    return _Fields(
        cluster_id=body[_FIXED.size : name_at],
        node_name=body[name_at:bootstrap_at].decode(),
        incarnation=incarnation,
        boot=boot,
        bootstrap=body[bootstrap_at:] if flags & _HAS_BOOTSTRAP else None,
    )
