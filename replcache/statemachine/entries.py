"""Entries: what is stored under a key.

Inside the state machine an entry is a `Row`, a plain tuple. Not a class: a tuple of atoms costs a quarter of
the time to make, and Python's garbage collector stops tracking it after one look, so that a million entries
do not make every full collection stop the loop for 50 ms. What most entries don't have (a ttl, tags, a
content type, ...) sits in a second tuple, `Meta`, shared by all entries that a batch wrote, or is None.

`Entry` is the readable form that leaves the state machine: one slot around a row.
"""

from typing import Final

# (content_type, due_ms, hard_due_ms, idle_ttl_ms, reads_left, tags, lease_id, tag_epoch)
# due_ms: the cluster time at which the entry goes, the earlier of hard_due_ms and last access + idle_ttl_ms.
# tag_epoch: value of the tags' counter when the tags were put on (tags.py).
Meta = tuple[str, int, int, int, int, tuple[str, ...], int, int]
CONTENT_TYPE: Final = 0
DUE: Final = 1
HARD_DUE: Final = 2
IDLE: Final = 3
READS: Final = 4
TAGS: Final = 5
LEASE: Final = 6
TAG_EPOCH: Final = 7

# (value, create_revision, mod_revision, version, meta)
Row = tuple[bytes, int, int, int, Meta | None]
VALUE: Final = 0
CREATE: Final = 1
MOD: Final = 2
VERSION: Final = 3
META: Final = 4

NO_META: Final[Meta] = ("", 0, 0, 0, 0, (), 0, 0)

# Metas that hold a content type only, shared by all entries of that type.
_typed_metas: dict[str, Meta] = {}
_TYPED_METAS_MAX = 1024


def typed_meta(content_type: str) -> Meta | None:
    """The meta of an entry with nothing but a content type."""
    if not content_type:
        return None
    meta = _typed_metas.get(content_type)
    if meta is None:
        meta = (content_type, 0, 0, 0, 0, (), 0, 0)
        if len(_typed_metas) < _TYPED_METAS_MAX:
            _typed_metas[content_type] = meta
    return meta


def make_meta(
    content_type: str,
    clock_ms: int,
    ttl_ms: int,
    idle_ttl_ms: int,
    reads_left: int = 0,
    tags: tuple[str, ...] = (),
    lease_id: int = 0,
    tag_epoch: int = 0,
) -> Meta | None:
    """Meta of an entry written at `clock_ms`; None when there is nothing to say."""
    if not (ttl_ms or idle_ttl_ms or reads_left or tags or lease_id):
        return typed_meta(content_type)
    hard_due = clock_ms + ttl_ms if ttl_ms else 0
    due = earliest(hard_due, clock_ms + idle_ttl_ms if idle_ttl_ms else 0)
    return (content_type, due, hard_due, idle_ttl_ms, reads_left, tags, lease_id, tag_epoch if tags else 0)


def tags_of(row: Row | None) -> tuple[str, ...]:
    """None: there is no row."""
    return () if row is None or row[4] is None else row[4][5]


def earliest(first_ms: int, second_ms: int) -> int:
    """The earlier of two times of which 0 means never."""
    if not first_ms:
        return second_ms
    return min(first_ms, second_ms) if second_ms else first_ms


def slide(meta: Meta | None, clock_ms: int) -> Meta | None:
    """The meta after an access at `clock_ms`: only sliding expiry moves."""
    if meta is None or not meta[IDLE]:
        return meta
    due = earliest(meta[HARD_DUE], clock_ms + meta[IDLE])
    return (meta[0], due, meta[2], meta[3], meta[4], meta[5], meta[6], meta[7])


class Entry:
    """One immutable version of one key's entry. The key is not part of it.

    Attributes:
        value, content_type: what was stored; an empty content type means application/octet-stream.
        create_revision, mod_revision: of the first and of the last write since the key appeared.
        version: 1 for a new key, plus 1 for each change.
        expires_at_ms: absolute cluster time, 0: never by time. With a sliding expiry: as things stand now.
        idle_ttl_ms: sliding expiry, 0: none.
        reads_left: counted reads left, 0: not counted.
        tags, lease_id: 0: no lease.
    """

    __slots__ = ("row",)
    row: Row

    def __init__(
        self,
        value: bytes,
        *,
        content_type: str = "",
        create_revision: int = 0,
        mod_revision: int = 0,
        version: int = 0,
        expires_at_ms: int = 0,
        idle_ttl_ms: int = 0,
        reads_left: int = 0,
        tags: tuple[str, ...] = (),
        lease_id: int = 0,
    ) -> None:
        meta: Meta | None
        if expires_at_ms or idle_ttl_ms or reads_left or tags or lease_id:
            meta = (content_type, expires_at_ms, expires_at_ms, idle_ttl_ms, reads_left, tags, lease_id, 0)
        else:
            meta = typed_meta(content_type)
        _put_row(self, (value, create_revision, mod_revision, version, meta))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Entry is immutable: {name}")

    @property
    def value(self) -> bytes:
        return self.row[0]

    @property
    def create_revision(self) -> int:
        return self.row[1]

    @property
    def mod_revision(self) -> int:
        return self.row[2]

    @property
    def version(self) -> int:
        return self.row[3]

    @property
    def content_type(self) -> str:
        meta = self.row[4]
        return meta[0] if meta is not None else ""

    @property
    def expires_at_ms(self) -> int:
        meta = self.row[4]
        return meta[1] if meta is not None else 0

    @property
    def idle_ttl_ms(self) -> int:
        meta = self.row[4]
        return meta[3] if meta is not None else 0

    @property
    def reads_left(self) -> int:
        meta = self.row[4]
        return meta[4] if meta is not None else 0

    @property
    def tags(self) -> tuple[str, ...]:
        meta = self.row[4]
        return meta[5] if meta is not None else ()

    @property
    def lease_id(self) -> int:
        meta = self.row[4]
        return meta[6] if meta is not None else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.row == other.row

    def __hash__(self) -> int:
        return hash(self.row)

    def __repr__(self) -> str:
        meta = "" if self.row[4] is None else f", meta={self.row[4]}"
        return (
            f"Entry({len(self.value)} bytes, version={self.version}, create_revision={self.create_revision},"
            f" mod_revision={self.mod_revision}{meta})"
        )


# The slot's own setter passes by the class's __setattr__ and costs a third of object.__setattr__.
_put_row = Entry.row.__set__  # type: ignore[attr-defined,misc]  # a slot is a descriptor; mypy sees its type
_new_entry = Entry.__new__


def as_entry(row: Row) -> Entry:
    """The readable form of a row."""
    entry = _new_entry(Entry)
    _put_row(entry, row)
    return entry


def as_optional_entry(row: Row | None) -> Entry | None:
    return None if row is None else as_entry(row)
