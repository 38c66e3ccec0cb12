"""What a cached call is stored as, and back.

The value is stored as any other value, so that programs in every language can read it. What the decorator
has to know of it stands beside it, as parameters of the content type (RFC 9110, 8.3.1):

    application/json;load=0.0412;stale=3600

`load`: seconds that the load took (for XFetch). `stale`: the last so many seconds of the entry's life are for
times when its source fails. A cached exception has a content type of its own and names a class; only classes
that the decorator lists are ever made from it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from replcache.client.codec import Codec
from replcache.client.types import Entry
from replcache.errors import WrongType
from replcache.patterns.fill import is_placeholder

ERROR_CONTENT_TYPE = "application/x-replcache-error"
_BYTES = "application/octet-stream"


class Kind(Enum):
    """What a reader found under the key."""

    # The cluster could not be asked.
    UNREACHABLE = "unreachable"
    MISSING = "missing"
    # A placeholder: somebody loads, or died loading.
    LOADING = "loading"
    # Something to answer with.
    FILLED = "filled"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a load ended: with a value, or with an error that may be an answer, too.

    load_s: how long it took.
    """

    value: Any = None
    error: Exception | None = None
    load_s: float = 0.0

    def unwrap(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True, slots=True)
class Found:
    """What was read. revision: of its last change; 0: nothing there.

    fresh_s: seconds until it is outdated; at most 0: only for times when its source fails; None: never.
    """

    kind: Kind
    revision: int = 0
    outcome: Outcome | None = None
    fresh_s: float | None = None
    entry: Entry | None = None

    @property
    def is_fresh(self) -> bool:
        return self.outcome is not None and (self.fresh_s is None or self.fresh_s > 0)

    @property
    def is_stale(self) -> bool:
        return self.outcome is not None and not self.is_fresh


UNREACHABLE = Found(Kind.UNREACHABLE)
MISSING = Found(Kind.MISSING)


def stamped(content_type: str, load_s: float | None, stale_ms: int) -> str:
    """The content type with what is to be known of the value."""
    if load_s is None and not stale_ms:
        return content_type
    parts = [content_type or _BYTES]
    if load_s is not None:
        parts.append(f"load={load_s:.6f}")
    if stale_ms:
        parts.append(f"stale={stale_ms / 1000:g}")
    return ";".join(parts)


def unstamped(content_type: str) -> tuple[str, float, float]:
    """(content type, load_s, stale_s); other parameters stay where they are."""
    if ";" not in content_type:
        return content_type, 0.0, 0.0
    kept = []
    numbers = {"load": 0.0, "stale": 0.0}
    for part in content_type.split(";"):
        name, _, text = part.strip().partition("=")
        if name in numbers:
            try:
                numbers[name] = max(0.0, float(text))
            except ValueError:
                kept.append(part)
        else:
            kept.append(part)
    return ";".join(kept), numbers["load"], numbers["stale"]


def encode_error(error: Exception) -> bytes:
    """Class and arguments; arguments that JSON does not have become their text."""
    kind = type(error)
    document = {"class": class_name(kind), "args": list(error.args)}
    return json.dumps(document, default=str, separators=(",", ":")).encode()


def decode_error(data: bytes, known: Iterable[type[Exception]]) -> Exception | None:
    """None: not one of the `known` classes or their subclasses: nobody but the decorator decides what is
    made here."""
    try:
        document = json.loads(data)
        name, args = document["class"], tuple(document["args"])
    except (ValueError, KeyError, TypeError):
        return None
    kind = _find(name, known)
    if kind is None:
        return None
    try:
        return kind(*args)
    except TypeError:
        # Its constructor wants something else than it passed on to Exception.
        error: Exception = kind.__new__(kind)
        error.args = args
        return error


def class_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _find(name: object, known: Iterable[type[Exception]]) -> type[Exception] | None:
    for kind in known:
        if class_name(kind) == name:
            return kind
        found = _find(name, kind.__subclasses__())
        if found is not None:
            return found
    return None


def read_entry(entry: Entry | None, codec: Codec, errors: Iterable[type[Exception]]) -> Found:
    """What `entry` says to a reader. Bytes that can't be decoded, or an error that isn't ours, are a miss
    that the next load replaces."""
    if entry is None:
        return MISSING
    revision = entry.mod_revision
    if is_placeholder(entry):
        return Found(Kind.LOADING, revision, entry=entry)
    content_type, load_s, stale_s = unstamped(entry.content_type)
    fresh_s = None if entry.expires_in_s is None else entry.expires_in_s - stale_s
    if content_type == ERROR_CONTENT_TYPE:
        error = decode_error(entry.raw, errors)
        if error is None:
            return Found(Kind.FILLED, revision, entry=entry)
        return Found(Kind.FILLED, revision, Outcome(error=error, load_s=load_s), fresh_s, entry)
    try:
        value = codec.decode(entry.raw, content_type)
    except WrongType:
        return Found(Kind.FILLED, revision, entry=entry)
    return Found(Kind.FILLED, revision, Outcome(value, None, load_s), fresh_s, entry)
