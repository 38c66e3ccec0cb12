"""What one identity may do. Pure: no I/O, no time.

A right is a prefix: of keys for reading and writing, of names for locks and elections, of tags. Nothing is
implied: who may write may not read, who administrates sees no data. Refusals are exceptions that name the
right that is missing; they go to the caller who sent the key, never into a log.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import AnyStr, NoReturn

from replcache.errors import PermissionDenied

# A refusal shows this much of a key.
_SHOWN_BYTES = 64


@dataclass(frozen=True, slots=True)
class Rights:
    """Sorted prefixes without those that another one covers; an empty prefix is everything.

    Attributes:
        admin: calls, such as `Cluster.AddMember`.
    """

    read: tuple[bytes, ...] = ()
    write: tuple[bytes, ...] = ()
    locks: tuple[str, ...] = ()
    read_tags: tuple[str, ...] = ()
    write_tags: tuple[str, ...] = ()
    leases: bool = False
    admin: frozenset[str] = frozenset()

    def need_read(self, key: bytes) -> None:
        if not key.startswith(self.read):
            _refuse("read", key)

    def need_write(self, key: bytes) -> None:
        if not key.startswith(self.write):
            _refuse("write", key)

    def need_read_all(self, keys: Sequence[bytes]) -> None:
        _need_all("read", self.read, keys)

    def need_write_all(self, keys: Sequence[bytes]) -> None:
        _need_all("write", self.write, keys)

    def need_write_range(self, start: bytes, end: bytes) -> None:
        """start <= key < end; an empty end means to the last key: only the right to everything holds it."""
        for prefix in self.write:
            after = prefix_end(prefix)
            if start.startswith(prefix) and (after == b"" or b"" != end <= after):
                return
        _refuse("write", start, " and all keys up to the range's end")

    def need_lock(self, name: str) -> None:
        if not name.startswith(self.locks):
            raise PermissionDenied(f"no right to the lock or election {name!r}", metadata={"right": "locks"})

    def need_read_tags(self, tags: Iterable[str]) -> None:
        """Entries are found by a tag whatever their keys are, so a right to tags, or to read everything."""
        if b"" not in self.read:
            _need_tags("read_tags", self.read_tags, tags)

    def need_write_tags(self, tags: Iterable[str]) -> None:
        if b"" not in self.write:
            _need_tags("write_tags", self.write_tags, tags)

    def need_leases(self) -> None:
        if not self.leases:
            raise PermissionDenied("no right to leases", metadata={"right": "leases"})

    def need_admin(self, call: str) -> None:
        if call not in self.admin:
            raise PermissionDenied(f"no right to the administrative call {call}", metadata={"right": "admin"})


NOTHING = Rights()


def union(parts: Iterable[Rights]) -> Rights:
    """What somebody with all of these may do."""
    rights = list(parts)
    return Rights(
        covering(prefix for one in rights for prefix in one.read),
        covering(prefix for one in rights for prefix in one.write),
        covering(prefix for one in rights for prefix in one.locks),
        covering(prefix for one in rights for prefix in one.read_tags),
        covering(prefix for one in rights for prefix in one.write_tags),
        any(one.leases for one in rights),
        frozenset().union(*(one.admin for one in rights)),
    )


def covering(prefixes: Iterable[AnyStr]) -> tuple[AnyStr, ...]:
    """The same set of names with as few prefixes as possible."""
    kept: list[AnyStr] = []
    for prefix in sorted(set(prefixes)):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all keys with the prefix; b"" when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b""


def _need_all(right: str, prefixes: tuple[bytes, ...], keys: Sequence[bytes]) -> None:
    if not keys or prefixes == (b"",):
        return
    # Everything between two keys of a prefix has it too (byte order), so two comparisons in place of one for
    # each key when one prefix holds them all; the search for the extremes runs in C.
    lowest, highest = min(keys), max(keys)
    for prefix in prefixes:
        if lowest.startswith(prefix) and highest.startswith(prefix):
            return
    for key in keys:
        if not key.startswith(prefixes):
            _refuse(right, key)


def _need_tags(right: str, prefixes: tuple[str, ...], tags: Iterable[str]) -> None:
    given = list(tags)
    # An empty list is no request that will be served, but nothing is allowed by saying nothing.
    if not given or not all(tag.startswith(prefixes) for tag in given):
        raise PermissionDenied("no right to entries by these tags", metadata={"right": right})


def _refuse(right: str, key: bytes, more: str = "") -> NoReturn:
    shown = repr(key[:_SHOWN_BYTES]) + ("..." if len(key) > _SHOWN_BYTES else "")
    raise PermissionDenied(f"no right to {right} {shown}{more}", metadata={"right": right})
