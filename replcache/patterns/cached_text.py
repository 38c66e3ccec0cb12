"""Texts that identify values: what a key template puts in for an argument.

Only for types whose text is known to say everything: two values of different content must not share it, and
it must be the same in every process. str() promises neither: a large numpy array prints with "...", an object
prints its address, a set its members in another order each time.
"""

import datetime
import decimal
import enum
import fractions
import ipaddress
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

# Deeper than any argument that was meant; a list that holds itself is endless.
_DEPTH_MAX = 50
_EXACT = (
    str,
    int,
    float,
    complex,
    bytes,
    bytearray,
    range,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    zoneinfo.ZoneInfo,
    pathlib.PurePath,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
)


class NoText(Exception):
    """`kind`: the type whose values have no text that identifies them."""

    def __init__(self, kind: type[Any]) -> None:
        super().__init__(kind.__name__)
        self.kind = kind


def text_of(value: Any) -> str:
    """str(), where that is exact.

    Raises:
        NoText: it is not.
    """
    if type(value) is str:
        return str(value)
    return _container(value, 0) or _scalar(value, str)


def has_no_text(kind: Any) -> bool:
    """str() would show an address in memory."""
    return kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__


def _inside(value: Any, depth: int) -> str:
    """Inside of containers repr() counts: [1] and ["1"] differ."""
    return _container(value, depth) or _scalar(value, repr)


def _container(value: Any, depth: int) -> str:
    """As str() has it but for the order of sets; "": it is no container."""
    if depth > _DEPTH_MAX:
        raise NoText(type(value))
    depth += 1
    if isinstance(value, list):
        return _named(value, list, f"[{', '.join(_inside(item, depth) for item in value)}]")
    if isinstance(value, tuple):
        comma = "," if len(value) == 1 else ""
        return _named(value, tuple, f"({', '.join(_inside(item, depth) for item in value)}{comma})")
    if isinstance(value, dict):
        items = (f"{_inside(key, depth)}: {_inside(item, depth)}" for key, item in value.items())
        return _named(value, dict, f"{{{', '.join(items)}}}")
    if isinstance(value, set | frozenset):
        members = ", ".join(sorted(_inside(item, depth) for item in value))
        if type(value) is set:
            return f"{{{members}}}" if members else "set()"
        return f"{type(value).__qualname__}({{{members}}})" if members else f"{type(value).__qualname__}()"
    return ""


def _named(value: Any, plain: type[Any], text: str) -> str:
    """Of subclasses, like named tuples, the name counts."""
    return text if type(value) is plain else f"{type(value).__qualname__}{text}"


def _scalar(value: Any, show: Callable[[Any], str]) -> str:
    kind = type(value)
    if value is None or isinstance(value, bool):
        return show(value)
    if isinstance(value, enum.Enum):
        # repr() shows the value, too.
        return show(value) if show is str or _is_exact(value.value) else f"<{kind.__qualname__}.{value.name}>"
    if isinstance(value, type) and "<locals>" not in value.__qualname__:
        return show(value)
    if not _is_exact(value):
        raise NoText(kind)
    # At the top a format of its own counts, as in str.format.
    return format(value, "") if show is str else show(value)


def _is_exact(value: Any) -> bool:
    if _is_numpy_scalar(type(value)):
        value = value.item()
    zone = getattr(value, "tzinfo", None)
    if zone is not None and has_no_text(type(zone)):
        return False
    return isinstance(value, _EXACT) and not has_no_text(type(value))


def _is_numpy_scalar(kind: type[Any]) -> bool:
    return any(base.__module__ == "numpy" and base.__name__ == "generic" for base in kind.__mro__)
