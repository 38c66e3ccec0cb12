"""JSON merge patch (RFC 7396) on bytes, with one possible output.

Numbers are carried as the text that came in: no rounding, no limits of this interpreter. Members keep their
order, new ones come behind. Output is compact UTF-8. Nesting is bounded before anything recursive runs,
because where the interpreter would give up depends on the stack of the caller, and so could differ between
nodes.
"""

import json
import re
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Final, NoReturn

DEPTH_MAX: Final = 64
# Larger documents would hold the loop: parsing, merging and writing cost about 40 ns a byte.
JSON_BYTES_MAX: Final = 256 * 1024


class Number(str):
    """The literal text of a JSON number."""

    __slots__ = ()


Json = None | bool | Number | str | list["Json"] | dict[str, "Json"]

# Possessive, and an open string runs to the end: else a hostile text could make this quadratic.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)


class NotJson(ValueError):
    """The text is not JSON, or nested too deeply. The message becomes part of a result: it must not depend on
    the version of Python."""


def merge_patch(target: bytes, patch: bytes) -> bytes | None:
    """Applies `patch` to the JSON object `target`.

    Returns None when target is not a JSON object; raises NotJson when patch is not JSON.
    """
    changes = _parse(patch)
    try:
        document = _parse(target)
    except NotJson:
        return None
    if not isinstance(document, dict):
        return None
    return _write(_merge(document, changes))


def _merge(target: Json, patch: Json) -> Json:
    """The MergePatch function of RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), change)
    return merged


def _refuse_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=_refuse_constant)


def _parse(text: bytes) -> Json:
    if len(text) > JSON_BYTES_MAX:
        raise NotJson(f"{len(text)} bytes, limit {JSON_BYTES_MAX}")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson("not UTF-8") from error
    if decoded.count("[") + decoded.count("{") > DEPTH_MAX and _depth(decoded) > DEPTH_MAX:
        raise NotJson(f"nested deeper than {DEPTH_MAX}")
    try:
        parsed: Json = _decoder.decode(decoded)
    except json.JSONDecodeError as error:
        raise NotJson("not JSON") from error
    return parsed


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _TOKENS.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest


def _write(document: Json) -> bytes:
    parts: list[str] = []
    _append(document, parts, ascii_only=False)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate, which only the escaped form can carry.
        parts.clear()
        _append(document, parts, ascii_only=True)
        return "".join(parts).encode("ascii")


def _append(document: Json, parts: list[str], ascii_only: bool) -> None:
    quote = encode_basestring_ascii if ascii_only else encode_basestring
    if isinstance(document, Number):
        parts.append(document)
    elif isinstance(document, str):
        parts.append(quote(document))
    elif isinstance(document, dict):
        separator = "{"
        for name, member in document.items():
            parts.append(separator + quote(name) + ":")
            _append(member, parts, ascii_only)
            separator = ","
        parts.append("}" if document else "{}")
    elif isinstance(document, list):
        separator = "["
        for member in document:
            parts.append(separator)
            _append(member, parts, ascii_only)
            separator = ","
        parts.append("]" if document else "[]")
    else:
        parts.append("null" if document is None else "true" if document else "false")
