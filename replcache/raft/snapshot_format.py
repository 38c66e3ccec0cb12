"""Bytes of a snapshot file: header, chunks with checksums, footer with totals. Pure functions over a file.

    header   magic, version, cluster id, (index, term) of the last entry that is in the state, configuration
             of that index; CRC-32C over all of it
    chunk    length, CRC-32C over (offset in the file, length, data), data; lengths are 1..CHUNK_BYTES_MAX
    footer   length 0, number of chunks, sum of their lengths, BLAKE2b over all before the footer; CRC-32C

The file ends with the footer. The digest over the whole is not a CRC on purpose: the CRC of a part that is
followed by its own CRC is a constant, so a CRC over the whole would not see that a part was exchanged for
another one with a good checksum of its own. Integers are little-endian. Nothing of a file may be used before
check_file() has read all of it: a state machine that is half restored is worth nothing.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import google_crc32c

from replcache.errors import CorruptSnapshot, StorageError
from replcache.raft.disk import DiskFile

MAGIC = b"rcsnap\x1a\n"
FORMAT_VERSION = 1
# Four times what the state machine is asked to hand over at once; a longer one is damage.
CHUNK_BYTES_MAX = 4 * 1024 * 1024
HEADER_BYTES_MAX = 1024 * 1024

# magic, version, 0, header bytes (all), cluster id bytes, configuration bytes, index, term
_HEADER = struct.Struct("<8sHHIIIQQ")
_CHUNK = struct.Struct("<II")
_PLACE = struct.Struct("<QI")
DIGEST_BYTES = 16
_FOOTER = struct.Struct(f"<IIQQ{DIGEST_BYTES}s")
_CRC = struct.Struct("<I")
FOOTER_BYTES = _FOOTER.size + _CRC.size
_SMALLEST_BYTES = _HEADER.size + _CRC.size + FOOTER_BYTES

WHAT_TO_DO = (
    "the snapshot can't be used, and nothing older may replace it. Move the node's data directory away and "
    "start it again: it rejoins the cluster as a learner and copies the state from the others"
)

_crc32c = google_crc32c.value
_extend = google_crc32c.extend


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """index, term: the last log entry that is in the state. configuration: the members as of that index."""

    cluster_id: bytes
    index: int
    term: int
    configuration: bytes


def corrupt(path: str, offset: int, what: str) -> CorruptSnapshot:
    return CorruptSnapshot(
        f"{path}: offset {offset}: {what}; {WHAT_TO_DO}",
        metadata={"file": path, "offset": str(offset)},
    )


def encode_header(header: SnapshotHeader) -> bytes:
    size = _HEADER.size + len(header.cluster_id) + len(header.configuration) + _CRC.size
    assert size <= HEADER_BYTES_MAX, f"a configuration of {len(header.configuration)} bytes"
    fixed = _HEADER.pack(
        MAGIC,
        FORMAT_VERSION,
        0,
        size,
        len(header.cluster_id),
        len(header.configuration),
        header.index,
        header.term,
    )
    body = fixed + header.cluster_id + header.configuration
    return body + _CRC.pack(_crc32c(body))


def read_header(file: DiskFile, path: str) -> tuple[SnapshotHeader, int]:
    """The header and its size.

    Raises:
        CorruptSnapshot: damaged, or cut off.
        StorageError: whole, but written by another version of this program.
    """
    fixed = file.read(0, _HEADER.size)
    if len(fixed) < _HEADER.size:
        raise corrupt(path, 0, f"the file is cut off after {len(fixed)} bytes")
    magic, version, _, size, cluster_bytes, configuration_bytes, index, term = _HEADER.unpack(fixed)
    if magic != MAGIC:
        raise corrupt(path, 0, f"not a snapshot: it starts with {magic!r}")
    if size != _HEADER.size + cluster_bytes + configuration_bytes + _CRC.size or size > HEADER_BYTES_MAX:
        raise corrupt(path, 0, "the header's lengths are damaged")
    data = file.read(0, size)
    body = data[: -_CRC.size]
    if len(data) < size or _CRC.pack(_crc32c(body)) != data[-_CRC.size :]:
        raise corrupt(path, 0, "the header's checksum does not match")
    if version != FORMAT_VERSION:
        raise StorageError(f"{path}: snapshot format {version}: this program reads version {FORMAT_VERSION}")
    cluster_end = _HEADER.size + cluster_bytes
    return SnapshotHeader(body[_HEADER.size : cluster_end], index, term, body[cluster_end:]), size


class SnapshotEncoder:
    """Produces the file piece by piece; knows offset and running digest."""

    def __init__(self) -> None:
        self.offset = 0
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._chunks = 0
        self._bytes = 0

    def header(self, header: SnapshotHeader) -> list[bytes]:
        return self._piece([encode_header(header)])

    def chunk(self, data: bytes) -> list[bytes]:
        assert 0 < len(data) <= CHUNK_BYTES_MAX, f"a chunk of {len(data)} bytes"
        crc = _extend(_crc32c(_PLACE.pack(self.offset, len(data))), data)
        self._chunks += 1
        self._bytes += len(data)
        return self._piece([_CHUNK.pack(len(data), crc), data])

    def footer(self) -> list[bytes]:
        body = _FOOTER.pack(0, 0, self._chunks, self._bytes, self._digest.digest())
        return self._piece([body + _CRC.pack(_crc32c(body))])

    def _piece(self, buffers: list[bytes]) -> list[bytes]:
        for buffer in buffers:
            self._digest.update(buffer)
            self.offset += len(buffer)
        return buffers


def read_chunks(file: DiskFile, path: str) -> Iterator[bytes]:
    """The chunks one after the other, each one checked; ends after the footer has been checked, too.

    Raises:
        CorruptSnapshot: at the first thing that does not fit; chunks yielded before it may not be used.
    """
    _, offset = read_header(file, path)
    whole = hashlib.blake2b(file.read(0, offset), digest_size=DIGEST_BYTES)
    chunks = total = 0
    while True:
        frame = file.read(offset, _CHUNK.size)
        if len(frame) < _CHUNK.size:
            raise corrupt(path, offset, "the file is cut off")
        length, crc = _CHUNK.unpack(frame)
        if length == 0:
            break
        if length > CHUNK_BYTES_MAX:
            raise corrupt(path, offset, f"a chunk of {length} bytes")
        data = file.read(offset + _CHUNK.size, length)
        if len(data) < length:
            raise corrupt(path, offset, "the file is cut off in a chunk")
        if _extend(_crc32c(_PLACE.pack(offset, length)), data) != crc:
            raise corrupt(path, offset, "the chunk's checksum does not match")
        whole.update(frame)
        whole.update(data)
        chunks += 1
        total += length
        offset += _CHUNK.size + length
        yield data
    footer = file.read(offset, FOOTER_BYTES + 1)
    if len(footer) != FOOTER_BYTES:
        raise corrupt(path, offset, "the file does not end with the footer")
    body = footer[: _FOOTER.size]
    if _CRC.pack(_crc32c(body)) != footer[_FOOTER.size :]:
        raise corrupt(path, offset, "the footer's checksum does not match")
    if _FOOTER.unpack(body) != (0, 0, chunks, total, whole.digest()):
        raise corrupt(
            path, offset, f"the footer does not fit the {chunks} chunks with {total} bytes before it"
        )


def check_file(file: DiskFile, path: str) -> SnapshotHeader:
    """Reads and checks the whole file. Raises as read_chunks."""
    if file.size() < _SMALLEST_BYTES:
        raise corrupt(path, 0, f"the file is cut off after {file.size()} bytes")
    for _ in read_chunks(file, path):
        pass
    return read_header(file, path)[0]
