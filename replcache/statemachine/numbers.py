"""Numbers in values: decimal text, with arithmetic that gives the same bytes on every machine.

Integers are 64 bit signed. Decimals are IEEE 754 doubles; they exist as floats only inside `add_decimal`,
which uses two operations that the standard defines to the last bit: reading decimal text (correctly rounded)
and addition (round half to even). The result is the shortest text that reads back as the same double (David
Gay's algorithm, part of CPython since 3.1), so no platform can write it differently.
"""

import math
import re
from typing import Final

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
# Canonical text only, as in Redis: "007" or "+7" are labels, not numbers.
_INTEGER = re.compile(rb"(?:0|-?[1-9][0-9]{0,18})", re.ASCII)
_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
# Longer text than any double needs (768 digits is the most that can matter).
DECIMAL_BYTES_MAX: Final = 800

# Where this does not hold, results would differ from those of the other nodes.
assert float("0.1") + 0.2 == 0.30000000000000004
assert repr(5e-324) == "5e-324"
assert 2.0**53 + 1.0 == 2.0**53


def parse_integer(text: bytes) -> int | None:
    """The 64-bit integer that `text` is; None when it is anything else."""
    if len(text) > 20 or not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if INTEGER_MIN <= number <= INTEGER_MAX else None


def is_in_range(number: int) -> bool:
    return INTEGER_MIN <= number <= INTEGER_MAX


def parse_decimal(text: bytes) -> float | None:
    """The finite double that `text` is nearest to; None for anything else (also inf and nan)."""
    if len(text) > DECIMAL_BYTES_MAX or not _DECIMAL.fullmatch(text):
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def add_decimal(left: float, right: float) -> bytes | None:
    """Text of the sum; None when it is beyond the range of a double."""
    total = left + right
    if not math.isfinite(total):
        return None
    if total == 0:
        # Minus zero is a zero for everybody who counts.
        return b"0"
    return repr(total).removesuffix(".0").encode("ascii")
