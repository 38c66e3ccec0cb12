"""Key templates: the arguments of a call -> its key and its tags.

    "user:{uid}:{lang}" with uid=7, lang="en" -> "user:7:en"

Fields are parameters of the function, with attributes, indexes, conversions and formats as in str.format.
Different arguments never share a key by accident: characters of the template that separate fields are escaped
inside text (as %3A), None is "~", and objects are refused unless their type's text is known to say everything
(cached_text.py), or the template says what to take. What IS shared: values with one text, like 7 and "7".
"""

import hashlib
import inspect
import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from replcache.constants import KEY_BYTES_MAX, TAG_BYTES_MAX, TAGS_PER_ENTRY_MAX
from replcache.errors import InvalidRequest
from replcache.patterns.cached_text import NoText, has_no_text, text_of

_FORMATTER = string.Formatter()
_NONE = "~"
_ALWAYS_ESCAPED = "%~"
_DIGEST_BYTES = 16


class Template:
    """One template, checked against the parameters of `function`."""

    def __init__(self, text: str, parameters: Iterable[str], what: str, function: str) -> None:
        """
        Args:
            what: "key" or "tags", for messages.
            function: its name, likewise.

        Raises:
            InvalidRequest: not a template, or a field that is no parameter.
        """
        if not isinstance(text, str) or not text:
            raise InvalidRequest(
                f"{what}={text!r} of {function}: a template such as 'user:{{uid}}'", field=what
            )
        self.text = text
        known = list(parameters)
        # (literal, field or None, format, conversion)
        self._parts: list[tuple[str, str | None, str, str | None]] = []
        try:
            self._parts += [(lit, name, spec or "", conv) for lit, name, spec, conv in _FORMATTER.parse(text)]
        except ValueError as err:
            raise InvalidRequest(f"{what}={text!r} of {function}: {err}", field=what) from err
        for _, field, spec, _ in self._parts:
            if field is None:
                continue
            root = _root(field)
            if root not in known:
                raise InvalidRequest(
                    f"{what}={text!r}: {function} has no parameter {root!r}; its parameters are "
                    f"{', '.join(known) or 'none'}",
                    field=what,
                )
            if "{" in spec:
                raise InvalidRequest(f"{what}={text!r}: fields inside of a format", field=what)
        self._escapes = self._separators(what, function)

    def _separators(self, what: str, function: str) -> dict[int, str]:
        """What must not appear inside a field: the literals between fields, by their signs."""
        between = [literal for literal, field, _, _ in self._parts if field is not None][1:]
        signs = set(_ALWAYS_ESCAPED)
        for literal in between:
            found = {char for char in literal if not char.isalnum()}
            if not found:
                raise InvalidRequest(
                    f"{what}={self.text!r} of {function}: between two fields there must be a sign that is "
                    "neither letter nor digit, or different arguments would get the same text",
                    field=what,
                )
            signs |= found
        return {ord(char): "".join(f"%{byte:02X}" for byte in char.encode()) for char in signs}

    def fill(self, values: Mapping[str, Any]) -> str:
        """
        Raises:
            InvalidRequest: an argument has no text that identifies it.
        """
        pieces = []
        for literal, field, spec, conversion in self._parts:
            pieces.append(literal)
            if field is not None:
                value, _ = _FORMATTER.get_field(field, (), values)
                pieces.append(self._text(field, value, spec, conversion))
        return "".join(pieces)

    def _text(self, field: str, value: Any, spec: str, conversion: str | None) -> str:
        kind = type(value)
        if kind is int and not spec and not conversion:
            return str(value)
        if value is None and not spec and not conversion:
            return _NONE
        if isinstance(value, bytes | bytearray) and not spec and not conversion:
            text = value.decode("utf-8", "surrogateescape")
        elif spec or (conversion and not has_no_text(kind)):
            text = format(_FORMATTER.convert_field(value, conversion), spec)
        else:
            try:
                text = text_of(value)
            except NoText as err:
                inside = "" if err.kind is kind else f"with a {err.kind.__name__} "
                raise InvalidRequest(
                    f"{{{field}}} in {self.text!r} is a {kind.__name__}, {inside and inside + 'inside, '}"
                    f"which has no text of its own that identifies it: name an attribute that does, like "
                    f"{{{field}.id}}, or a conversion or format, like {{{field}!r}}",
                    field=field,
                ) from None
        return text.translate(self._escapes)


class CallKeys:
    """Key and tags of the calls of one function."""

    def __init__(
        self, function: Callable[..., Any], key: str | None, tags: Iterable[str], bound: bool
    ) -> None:
        """
        Args:
            key: None: the function's name and all its arguments.
            bound: the first parameter is the object (or class) of a method.

        Raises:
            InvalidRequest: a template does not fit the function.
        """
        self._signature = inspect.signature(function)
        name = getattr(function, "__qualname__", repr(function))
        names = list(self._signature.parameters)
        if isinstance(tags, str):
            raise InvalidRequest(f"tags={tags!r}: a list of templates", field="tags")
        if key is None:
            key = _default_template(function, names[1:] if bound else names)
        self.key_template = Template(key, names, "key", name)
        self.tag_templates = tuple(Template(tag, names, "tags", name) for tag in tags)
        if len(self.tag_templates) > TAGS_PER_ENTRY_MAX:
            raise InvalidRequest(
                f"{len(self.tag_templates)} tags of {name}; at most {TAGS_PER_ENTRY_MAX}", field="tags"
            )
        kinds = [parameter.kind for parameter in self._signature.parameters.values()]
        # Calls with positional arguments only need no binding, unless something is collected.
        self._plain_names = names if all(kind is kind.POSITIONAL_OR_KEYWORD for kind in kinds) else None

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """(key, tags).

        Raises:
            TypeError: these are no arguments of the function.
            InvalidRequest: an argument has no text that identifies it.
        """
        names = self._plain_names
        values: Mapping[str, Any]
        if names is not None and not kwargs and len(args) == len(names):
            values = dict(zip(names, args, strict=True))
        else:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            values = bound.arguments
        key = _shortened(self.key_template.fill(values), KEY_BYTES_MAX)
        tags = tuple(_shortened(tag.fill(values), TAG_BYTES_MAX) for tag in self.tag_templates)
        return key, tags


def _root(field: str) -> str:
    for index, char in enumerate(field):
        if char in ".[":
            return field[:index]
    return field


def _default_template(function: Callable[..., Any], names: list[str]) -> str:
    where = f"{function.__module__}.{function.__qualname__}".replace("{", "{{").replace("}", "}}")
    return where + "".join(f":{{{name}}}" for name in names)


def _shortened(text: str, bytes_max: int) -> str:
    """Longer texts end in a digest of the whole."""
    data = text.encode("utf-8", "surrogateescape")
    if len(data) <= bytes_max:
        return text
    digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
    head = data[: bytes_max - len(digest) - 1].decode("utf-8", "ignore")
    return f"{head}#{digest}"
