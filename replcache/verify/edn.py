"""A reader for EDN, the notation of Jepsen's histories (https://github.com/edn-format/edn).

Maps become dicts, vectors and lists tuples, sets frozensets, keywords and symbols strings of their own type
(equal to the plain string without the colon), tagged values the value without its tag. Written here because
it is a page, has no dependency, and reads a history an order of magnitude faster than the parser-generator
based packages; histories are the only EDN that replcache reads, it writes none.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

_TOKEN: Final = re.compile(
    r"""(?P<skip>[\s,]+|;[^\n]*)
      | (?P<open>\#\{|[\[({])
      | (?P<close>[\])}])
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<char>\\(?:newline|space|tab|return|formfeed|backspace|u[0-9a-fA-F]{4}|.))
      | (?P<discard>\#_)
      | (?P<tag>\#[A-Za-z][\w./*+!?<>=-]*)
      | (?P<atom>[^\s,;"()\[\]{}\\]+)""",
    re.VERBOSE | re.DOTALL,
)
_INTEGER: Final = re.compile(r"[+-]?\d+N?")
_FLOAT: Final = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?M?")
_CLOSES: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_NAMED: Final = {"nil": None, "true": True, "false": False}
_CHARS: Final = {
    "newline": "\n",
    "space": " ",
    "tab": "\t",
    "return": "\r",
    "formfeed": "\f",
    "backspace": "\b",
}
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "b": "\b"}


class EdnError(ValueError):
    """Not EDN; the message names the offset."""


class Keyword(str):
    """:name, without the colon."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f":{self}"


class Symbol(str):
    """A bare name."""

    __slots__ = ()


class _Close(str):
    __slots__ = ()


def read_all(text: str) -> list[Any]:
    """All forms of a text, one after the other.

    Raises:
        EdnError: not EDN.
    """
    tokens = _tokens(text)
    result = []
    for kind, token, at in tokens:
        value = _form(kind, token, at, tokens)
        if isinstance(value, _Close):
            raise EdnError(f"offset {at}: {value} closes nothing")
        if value is not _NOTHING:
            result.append(value)
    return result


_NOTHING: Final = object()
_Tokens = Iterator[tuple[str, str, int]]


def _tokens(text: str) -> _Tokens:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise EdnError(f"offset {at}: can't read {text[at : at + 20]!r}")
        if match.lastgroup != "skip":
            yield str(match.lastgroup), match.group(), at
        at = match.end()


def _form(kind: str, token: str, at: int, tokens: _Tokens) -> Any:
    if kind == "atom":
        return _atom(token, at)
    if kind == "open":
        return _collection(token, at, tokens)
    if kind == "close":
        return _Close(token)
    if kind == "string":
        return _ESCAPE.sub(_unescape, token[1:-1])
    if kind == "char":
        name = token[1:]
        return chr(int(name[1:], 16)) if len(name) == 5 and name[0] == "u" else _CHARS.get(name, name)
    value = _next(at, tokens)
    return _NOTHING if kind == "discard" else value


def _next(at: int, tokens: _Tokens) -> Any:
    for kind, token, start in tokens:
        value = _form(kind, token, start, tokens)
        if isinstance(value, _Close):
            raise EdnError(f"offset {start}: a value is expected before {value}")
        if value is not _NOTHING:
            return value
    raise EdnError(f"offset {at}: the text ends where a value is expected")


def _collection(opening: str, at: int, tokens: _Tokens) -> Any:
    items: list[Any] = []
    for kind, token, start in tokens:
        value = _form(kind, token, start, tokens)
        if isinstance(value, _Close):
            if value != _CLOSES[opening]:
                raise EdnError(f"offset {start}: {value} does not close {opening} of offset {at}")
            return _closed(opening, items, at)
        if value is not _NOTHING:
            items.append(value)
    raise EdnError(f"offset {at}: {opening} is never closed")


def _closed(opening: str, items: list[Any], at: int) -> Any:
    if opening == "{":
        if len(items) % 2:
            raise EdnError(f"offset {at}: a map with a key without value")
        return dict(zip(items[::2], items[1::2], strict=True))
    return frozenset(items) if opening == "#{" else tuple(items)


def _atom(token: str, at: int) -> Any:
    if token[0] == ":":
        if len(token) == 1:
            raise EdnError(f"offset {at}: a keyword without name")
        return Keyword(token[1:])
    if token in _NAMED:
        return _NAMED[token]
    if _INTEGER.fullmatch(token):
        return int(token.rstrip("N"))
    if _FLOAT.fullmatch(token):
        return float(token.rstrip("M"))
    return Symbol(token)


def _unescape(match: re.Match[str]) -> str:
    code, char = match.groups()
    return chr(int(code, 16)) if code else _ESCAPES.get(char, char)
