"""The stored form of large values: parts under keys derived from the entry's own, and a manifest. No I/O.

    <key>                                     the manifest: JSON, content type MANIFEST_TYPE
    <key> 00 "part" 00 <id> "/" <index>       the bytes of one part; id: 16 hex digits; index: 5 digits from 0

The id is unique to one writing of the value, and a part is never changed: whoever has a manifest reads
exactly the bytes that it means, or finds a part missing. Below the entry's key, parts count for its
namespace, need its guard's fence, and are deleted with its prefix.
"""

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from replcache.constants import KEY_BYTES_MAX, MANIFEST_TYPE
from replcache.errors import TooLarge, WrongType

PART_MARK = b"\x00part\x00"
_ID_DIGITS = 16
_INDEX_DIGITS = 5
_SUFFIX_BYTES = len(PART_MARK) + _ID_DIGITS + 1 + _INDEX_DIGITS
# One log entry makes all parts of a value final and ends those of the one before it: a batch of 4,096
# operations, and 3 MiB of keys.
PARTS_MAX = 1024
# Of the stored form; a reader refuses one that it does not know.
_FORMAT = 1
_FIELD_TYPES = {"id": str, "parts": int, "size": int, "crc32": int, "content_type": str}
_ID = re.compile(rf"[0-9a-f]{{{_ID_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """id: of this writing. size: bytes of the value. crc32: of all of them."""

    id: str
    parts: int
    size: int
    crc32: int
    content_type: str

    def encode(self) -> bytes:
        fields = {
            "format": _FORMAT,
            "id": self.id,
            "parts": self.parts,
            "size": self.size,
            "crc32": self.crc32,
            "content_type": self.content_type,
        }
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """Raises WrongType: not what this version writes."""
        try:
            found = json.loads(data)
            if found["format"] != _FORMAT:
                raise WrongType(f"parts of format {found['format']}: this client knows {_FORMAT}")
            fields = [found[name] for name in _FIELD_TYPES]
        except (ValueError, KeyError, TypeError, RecursionError) as err:
            raise WrongType(f"the manifest of a large value can't be read: {err!r}") from err
        for (name, kind), value in zip(_FIELD_TYPES.items(), fields, strict=True):
            if type(value) is not kind or (isinstance(value, int) and value < 0):
                raise WrongType(f"the manifest of a large value has {name}={value!r:.40}")
        manifest = cls(*fields)
        if not _ID.fullmatch(manifest.id) or not 0 < manifest.parts <= PARTS_MAX:
            raise WrongType(
                f"the manifest of a large value has {manifest.parts} parts of {manifest.id!r:.40}"
            )
        return manifest

    def keys(self, key: bytes) -> list[bytes]:
        stem = part_stem(key, self.id)
        return [b"%s/%05d" % (stem, index) for index in range(self.parts)]

    def join(self, parts: Sequence[bytes]) -> bytes:
        """Raises WrongType: these are not the bytes that were written."""
        data = b"".join(parts)
        if len(data) != self.size or zlib.crc32(data) != self.crc32:
            raise WrongType("the parts of a large value do not fit their manifest")
        return data


def split(key: bytes, data: bytes, content_type: str, part_bytes: int, unique: bytes) -> Manifest:
    """The manifest of a new writing.

    Raises:
        TooLarge: more parts than one log entry can make final, or a key without room for the suffix.
    """
    if len(key) + _SUFFIX_BYTES > KEY_BYTES_MAX:
        raise TooLarge(
            f"the key of a value of {len(data)} bytes has {len(key)} bytes; at most "
            f"{KEY_BYTES_MAX - _SUFFIX_BYTES}",
            field="key",
        )
    count = -(-len(data) // part_bytes)
    if count > PARTS_MAX:
        raise TooLarge(f"the value has {len(data)} bytes; at most {PARTS_MAX * part_bytes}", field="value")
    return Manifest(unique.hex()[:_ID_DIGITS], count, len(data), zlib.crc32(data), content_type)


def part_stem(key: bytes, part_id: str) -> bytes:
    """What all parts of one writing begin with."""
    return key + PART_MARK + part_id.encode()


def parent_of(key: bytes) -> tuple[bytes, str] | None:
    """(key of the entry, id of the writing) of a part; None: the key is no part's."""
    parent, mark, rest = key.rpartition(PART_MARK)
    if not mark or len(rest) != _ID_DIGITS + 1 + _INDEX_DIGITS or rest[_ID_DIGITS : _ID_DIGITS + 1] != b"/":
        return None
    return parent, rest[:_ID_DIGITS].decode("ascii", "replace")


def manifest_of(entry: Any) -> Manifest | None:
    """The manifest in an entry (of types.py); None: it holds its value itself."""
    if entry is None or entry.content_type != MANIFEST_TYPE:
        return None
    return Manifest.decode(entry.raw)
