"""Bytes of the write-ahead log: segment headers and records. Pure functions, no files.

A segment is a file `<number, 16 hex digits>.wal`: one header sector, then records, each aligned to 8 bytes,
then zeros (room that is allocated ahead). All integers are little-endian.

    record = header (40 bytes) + payload + trailer (1..8 bytes of 0xA5 up to the next multiple of 8)

The header's checksum covers where the record is (data directory, segment number, offset), so a record in the
wrong place never passes. The payload has its own checksum: a good header proves how long the record was meant
to be. Both are CRC-32C (Castagnoli).

Three fields make the difference between "a write that power loss tore" and "damage" decidable
(wal_recovery.py uses them):

    distance      bytes back to the start of the group of records that was written and synced together. A
                  group is written only after the one before it is on the disk, so a record whose group
                  starts behind some offset proves that everything up to that offset was durable once.
    zero_sectors  how many 512-byte sectors of the payload are zero by nature. A torn write leaves whole
                  sectors of zeros (never written, or absent); a flipped bit does not. Header and trailer are
                  never zero, so every sector of a record that was written is non-zero, but for those counted
                  here.
    marker        a constant, which makes records findable behind a damaged place.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import google_crc32c

from replcache.errors import StorageError

MAGIC = b"rclog\x00\x1a\n"
FORMAT_VERSION = 1
SECTOR_BYTES = 512
ALIGNMENT_BYTES = 8
# A log entry is at most ENTRY_BYTES_MAX; a longer length in a header with a good checksum is a bug, not a
# disk.
PAYLOAD_BYTES_MAX = 16 * 1024 * 1024
# A voted-for name must leave the segment header within one sector: a sector is written whole or not at all.
VOTED_FOR_BYTES_MAX = 255

SEGMENT_SUFFIX = ".wal"
TEMPORARY_SUFFIX = ".tmp"

ENTRY = 1
HARD_STATE = 2
TRUNCATE = 3
RESET = 4

ZERO_SECTOR = bytes(SECTOR_BYTES)
_TRAILERS = tuple(b"\xa5" * (ALIGNMENT_BYTES - rest) for rest in range(ALIGNMENT_BYTES))
_MARKER = 0xB35C
_MARKER_BYTES = struct.pack("<H", _MARKER)

# header checksum | payload length, payload checksum, type, kind, 0, index, term, distance, zero sectors,
# marker
_HEADER = struct.Struct("<IIIBBHQQIHH")
# The checksum's input: offset of the record, then the header behind its own checksum.
_SUM_INPUT = struct.Struct("<QIIBBHQQIHH")
_CRC = struct.Struct("<I")
_POSITION = struct.Struct("<QQ")
_OFFSET = struct.Struct("<Q")
RECORD_HEADER_BYTES = _HEADER.size
_MARKER_AT = RECORD_HEADER_BYTES - 2

# magic, format version, 0, segment, owner, first lsn, term, previous index, previous term, previous end,
# vote length
_SEGMENT = struct.Struct("<8sHHQQQQQQQH")
SEGMENT_HEADER_BYTES = SECTOR_BYTES
_NO_VOTE = 0xFFFF

assert RECORD_HEADER_BYTES == 40 and RECORD_HEADER_BYTES % ALIGNMENT_BYTES == 0
assert _SEGMENT.size + VOTED_FOR_BYTES_MAX + _CRC.size <= SEGMENT_HEADER_BYTES
assert PAYLOAD_BYTES_MAX // SECTOR_BYTES < 1 << 16

crc32c_extend = google_crc32c.extend
crc32c = google_crc32c.value

# What a record says: (type, kind, index, term, payload).
#   ENTRY       kind, index, term and payload of the log entry
#   HARD_STATE  term; kind 1: voted for payload (a node's name, UTF-8), kind 0: no vote in this term
#   TRUNCATE    entries from index on are gone; term is that of the entry before index
#   RESET       the log is empty and goes on after (index, term)
Record = tuple[int, int, int, int, bytes]


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The state of the log where the segment starts, so that the segments before it can be deleted whole.

    Attributes:
        segment: number, one more than that of the segment before.
        owner: the data directory that the log belongs to (its incarnation); 0: none.
        first_lsn: sequence number of the segment's first record.
        term, voted_for: hard state.
        previous_index, previous_term: last entry of the log.
        previous_end: where the records of the segment before end; 0: there is none.
    """

    segment: int
    owner: int
    first_lsn: int
    term: int
    voted_for: str | None
    previous_index: int
    previous_term: int
    previous_end: int


def segment_name(segment: int) -> str:
    return f"{segment:016x}{SEGMENT_SUFFIX}"


def parse_segment_name(name: str) -> int | None:
    """The segment's number; None when the name is not that of a segment."""
    match = re.fullmatch(r"([0-9a-f]{16})\.wal", name)
    return int(match[1], 16) if match else None


def encode_vote(voted_for: str | None) -> bytes:
    data = b"" if voted_for is None else voted_for.encode()
    assert len(data) <= VOTED_FOR_BYTES_MAX, f"the name of a node is too long: {voted_for!r}"
    return data


def encode_segment_header(header: SegmentHeader) -> bytes:
    vote = encode_vote(header.voted_for)
    fixed = _SEGMENT.pack(
        MAGIC,
        FORMAT_VERSION,
        0,
        header.segment,
        header.owner,
        header.first_lsn,
        header.term,
        header.previous_index,
        header.previous_term,
        header.previous_end,
        _NO_VOTE if header.voted_for is None else len(vote),
    )
    body = (fixed + vote).ljust(SEGMENT_HEADER_BYTES - _CRC.size, b"\0")
    return body + _CRC.pack(crc32c(body))


def decode_segment_header(data: bytes) -> SegmentHeader | str:
    """The header at the start of a segment's bytes, or what is wrong with it.

    Raises:
        StorageError: the header is whole, but another version of this program wrote it.
    """
    if len(data) < SEGMENT_HEADER_BYTES:
        return f"the segment header is cut off at {len(data)} of {SEGMENT_HEADER_BYTES} bytes"
    body = data[: SEGMENT_HEADER_BYTES - _CRC.size]
    if _CRC.unpack_from(data, len(body))[0] != crc32c(body):
        return "the segment header's checksum does not match"
    fields = _SEGMENT.unpack_from(body)
    magic, version, _, segment, owner, first_lsn, term, index, previous_term, end, vote_bytes = fields
    if magic != MAGIC:
        return f"not a log segment: it starts with {magic!r}"
    if version != FORMAT_VERSION:
        raise StorageError(f"log format version {version}: this program reads version {FORMAT_VERSION}")
    voted_for = None
    if vote_bytes != _NO_VOTE:
        voted_for = body[_SEGMENT.size : _SEGMENT.size + vote_bytes].decode()
    return SegmentHeader(segment, owner, first_lsn, term, voted_for, index, previous_term, end)


def position_seed(owner: int, segment: int) -> int:
    """What every record checksum of one segment starts from."""
    return int(crc32c(_POSITION.pack(owner, segment)))


def record_bytes(payload_bytes: int) -> int:
    """Size of a record on the disk, trailer included; always a multiple of ALIGNMENT_BYTES."""
    return aligned_end(RECORD_HEADER_BYTES + payload_bytes)


def aligned_end(payload_end: int) -> int:
    """Where the trailer of a record ends whose payload ends at payload_end."""
    return payload_end + ALIGNMENT_BYTES - payload_end % ALIGNMENT_BYTES


def encode_record(seed: int, offset: int, distance: int, record: Record) -> tuple[bytes, bytes, bytes]:
    """The record's buffers to be written at offset of its segment: header, payload, trailer."""
    kind_of_record, kind, index, term, payload = record
    size = len(payload)
    zero_sectors = 0
    if size >= SECTOR_BYTES and ZERO_SECTOR in payload:
        zero_sectors = _zero_sectors(payload, offset + RECORD_HEADER_BYTES)
    covered = _SUM_INPUT.pack(
        offset,
        size,
        crc32c(payload),
        kind_of_record,
        kind,
        0,
        index,
        term,
        distance,
        zero_sectors,
        _MARKER,
    )
    header = _CRC.pack(crc32c_extend(seed, covered)) + covered[8:]
    return header, payload, _TRAILERS[size % ALIGNMENT_BYTES]


def _zero_sectors(payload: bytes, offset: int) -> int:
    """How many whole sectors of the file, at offset where the payload starts, are zero."""
    first = -offset % SECTOR_BYTES
    return sum(
        payload.startswith(ZERO_SECTOR, at)
        for at in range(first, len(payload) - SECTOR_BYTES + 1, SECTOR_BYTES)
    )


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """A record header whose checksum matched. payload_end is an offset in the segment."""

    offset: int
    payload_end: int
    payload_crc: int
    group_start: int
    zero_sectors: int


def decode_header(data: bytes, seed: int, offset: int) -> RecordHeader | None:
    """The record header at offset; None when there is none or it is damaged."""
    end = offset + RECORD_HEADER_BYTES
    if end > len(data):
        return None
    crc, size, payload_crc, _, _, _, _, _, distance, zero_sectors, _ = _HEADER.unpack_from(data, offset)
    if crc32c_extend(seed, _OFFSET.pack(offset) + data[offset + 4 : end]) != crc:
        return None
    return RecordHeader(offset, end + size, payload_crc, offset - distance, zero_sectors)


def find_headers(data: bytes, seed: int, offset: int) -> Iterator[RecordHeader]:
    """All good record headers behind offset, wherever they are."""
    at = data.find(_MARKER_BYTES, offset)
    while at >= 0:
        start = at - _MARKER_AT
        if start > offset and start % ALIGNMENT_BYTES == 0:
            header = decode_header(data, seed, start)
            if header is not None:
                yield header
        at = data.find(_MARKER_BYTES, at + 1)


def scan_records(data: bytes, seed: int, records: list[Record]) -> int:
    """Appends the good records from the start of a segment on; returns the offset where they end.

    The loop is written for speed: a million small entries are read at each start.
    """
    offset = SEGMENT_HEADER_BYTES
    group_start = offset
    limit = len(data) - RECORD_HEADER_BYTES
    unpack, pack_offset, extend, value = _HEADER.unpack_from, _OFFSET.pack, crc32c_extend, crc32c
    while offset <= limit:
        crc, size, payload_crc, kind_of_record, kind, _, index, term, distance, _, _ = unpack(data, offset)
        body = offset + RECORD_HEADER_BYTES
        if extend(seed, pack_offset(offset) + data[offset + 4 : body]) != crc:
            break
        end = body + size
        payload = data[body:end]
        if len(payload) != size or value(payload) != payload_crc:
            break
        if distance == 0:
            group_start = offset
        elif offset - distance != group_start:
            break
        records.append((kind_of_record, kind, index, term, payload))
        offset = end + ALIGNMENT_BYTES - end % ALIGNMENT_BYTES
    return offset
