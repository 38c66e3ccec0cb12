"""The plain form: how snapshots write numbers, bytes and rows. Versioned by the snapshot that holds them.

Little-endian, fixed width, nothing optional: equal state gives equal bytes on every machine and in every
later version, which digests rely on (protobuf promises that to nobody).
"""

import struct

from replcache.statemachine.entries import Meta, Row, typed_meta
from replcache.statemachine.invariants import UnknownFormat

_UNSIGNED = struct.Struct("<Q")
_SIGNED = struct.Struct("<q")
_LENGTH = struct.Struct("<I")


class PlainWriter:
    """Collects parts; `size` is what they come to."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def _add(self, part: bytes) -> None:
        self.parts.append(part)
        self.size += len(part)

    def unsigned(self, number: int) -> None:
        """0 <= number < 2**64."""
        self._add(_UNSIGNED.pack(number))

    def signed(self, number: int) -> None:
        self._add(_SIGNED.pack(number))

    def flag(self, value: bool) -> None:
        self._add(b"\1" if value else b"\0")

    def blob(self, data: bytes) -> None:
        self._add(_LENGTH.pack(len(data)))
        self._add(data)

    def text(self, text: str) -> None:
        self.blob(text.encode("utf-8"))

    def unsigned_column(self, numbers: list[int]) -> None:
        """As many as the reader knows already."""
        self._add(struct.pack(f"<{len(numbers)}Q", *numbers))

    def blob_column(self, blobs: list[bytes]) -> None:
        """All lengths, then all bytes."""
        self._add(struct.pack(f"<{len(blobs)}I", *map(len, blobs)))
        self._add(b"".join(blobs))

    def take(self) -> bytes:
        """What was written, and starts anew."""
        data = b"".join(self.parts)
        self.parts.clear()
        self.size = 0
        return data


class PlainReader:
    """Reads what PlainWriter wrote; UnknownFormat when the data ends too early."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def _take(self, size: int) -> int:
        at = self._at
        self._at = at + size
        if self._at > len(self._data):
            raise UnknownFormat(f"plain form: {size} bytes wanted at {at}, {len(self._data) - at} there")
        return at

    def unsigned(self) -> int:
        number: int = _UNSIGNED.unpack_from(self._data, self._take(8))[0]
        return number

    def signed(self) -> int:
        number: int = _SIGNED.unpack_from(self._data, self._take(8))[0]
        return number

    def flag(self) -> bool:
        return self._data[self._take(1)] != 0

    def blob(self) -> bytes:
        size: int = _LENGTH.unpack_from(self._data, self._take(4))[0]
        at = self._take(size)
        return self._data[at : at + size]

    def text(self) -> str:
        return self.blob().decode("utf-8")

    def unsigned_column(self, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}Q", self._data, self._take(8 * count))

    def blob_column(self, count: int) -> list[bytes]:
        data = self._data
        lengths: tuple[int, ...] = struct.unpack_from(f"<{count}I", data, self._take(4 * count))
        at = self._take(sum(lengths))
        blobs = []
        for length in lengths:
            blobs.append(data[at : at + length])
            at += length
        return blobs


# --- rows ---


def write_meta(writer: PlainWriter, meta: Meta) -> None:
    content_type, due_ms, hard_due_ms, idle_ttl_ms, reads_left, tags, lease_id, tag_epoch = meta
    writer.text(content_type)
    writer.unsigned_column([due_ms, hard_due_ms, idle_ttl_ms, reads_left, lease_id, tag_epoch])
    writer.unsigned(len(tags))
    for tag in tags:
        writer.text(tag)


def read_meta(reader: PlainReader) -> Meta | None:
    content_type = reader.text()
    due_ms, hard_due_ms, idle_ttl_ms, reads_left, lease_id, tag_epoch = reader.unsigned_column(6)
    tags = tuple(reader.text() for _ in range(reader.unsigned()))
    if not (due_ms or idle_ttl_ms or reads_left or tags or lease_id):
        return typed_meta(content_type)
    return (content_type, due_ms, hard_due_ms, idle_ttl_ms, reads_left, tags, lease_id, tag_epoch)


def write_row(writer: PlainWriter, row: Row) -> None:
    writer.blob(row[0])
    writer.unsigned_column([row[1], row[2], row[3]])
    writer.flag(row[4] is not None)
    if row[4] is not None:
        write_meta(writer, row[4])


def read_row(reader: PlainReader) -> Row:
    value = reader.blob()
    create, mod, version = reader.unsigned_column(3)
    return (value, create, mod, version, read_meta(reader) if reader.flag() else None)
