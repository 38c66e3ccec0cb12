"""Numbers in values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.constants import MANIFEST_TYPE, VALUE_BYTES_MAX
from replcache.statemachine.commands import Increment, Op, Set, Update
from replcache.statemachine.numbers import add_decimal, parse_decimal, parse_integer
from replcache.statemachine.results import IncrementResult, OpResult, Refusal, RefusalCode, UpdateResult
from tests.helpers.machine import Driver


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_read_back(number: int) -> None:
    assert parse_integer(b"%d" % number) == number


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-",
        b"+1",
        b"01",
        b"-0",
        b"1 ",
        b" 1",
        b"1\n",
        b"1_0",
        b"0x1",
        b"1.0",
        b"1e3",
        b"\xd9\xa1",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"9" * 5000,
    ],
)
def test_what_is_no_64_bit_integer(text: bytes) -> None:
    assert parse_integer(text) is None


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimals_read_back_as_the_same_double(number: float) -> None:
    text = add_decimal(number, 0.0)
    assert text is not None
    assert parse_decimal(text) == number


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_the_text_of_a_sum_is_as_short_as_can_be(left: float, right: float) -> None:
    text = add_decimal(left, right)
    if text is None:
        assert not abs(left + right) < float("inf")
    else:
        assert float(text) == left + right
        assert len(text) <= len(repr(left + right))


@pytest.mark.parametrize(
    "text", [b"", b"nan", b"inf", b"-Infinity", b"1e999", b"1_0", b" 1", b"1f", b"0x1p3", b"1e99999"]
)
def test_what_is_no_finite_decimal(text: bytes) -> None:
    assert parse_decimal(text) is None


@pytest.mark.parametrize(
    ("left", "right", "total"),
    [
        (0.1, 0.2, b"0.30000000000000004"),
        (3.0, 0.0, b"3"),
        (-1.0, 1.0, b"0"),
        (-0.0, -0.0, b"0"),
        (1e22, 0.0, b"1e+22"),
        (1e15, 0.5, b"1000000000000000.5"),
        (1e308, 1e308, None),
    ],
)
def test_known_sums(left: float, right: float, total: bytes | None) -> None:
    assert add_decimal(left, right) == total


def after(value: bytes, update: Update) -> OpResult:
    driver = Driver()
    driver.one(Set(b"k", value))
    return driver.one(update)


@pytest.mark.parametrize(
    ("value", "update", "code"),
    [
        (b"x", Update(b"k", add_integer=1), RefusalCode.WRONG_TYPE),
        (b"9223372036854775807", Update(b"k", add_integer=1), RefusalCode.OUT_OF_RANGE),
        (b"-9223372036854775808", Update(b"k", add_integer=-1), RefusalCode.OUT_OF_RANGE),
        (b"x", Update(b"k", add_decimal="1"), RefusalCode.WRONG_TYPE),
        (b"1", Update(b"k", add_decimal="one"), RefusalCode.INVALID),
        (b"1", Update(b"k", add_decimal="nan"), RefusalCode.INVALID),
        (b"1e308", Update(b"k", add_decimal="1e308"), RefusalCode.OUT_OF_RANGE),
        (b"x" * VALUE_BYTES_MAX, Update(b"k", append=b"x"), RefusalCode.QUOTA_EXCEEDED),
        (b"x", Update(b"k", merge_json=b"{}"), RefusalCode.WRONG_TYPE),
        (b"{}", Update(b"k", merge_json=b"{"), RefusalCode.INVALID),
        (b"{}", Update(b"other", replace=b"{"), RefusalCode.NOT_FOUND),
    ],
)
def test_updates_that_are_refused(value: bytes, update: Update, code: RefusalCode) -> None:
    result = after(value, update)
    assert isinstance(result, Refusal)
    assert result.code is code


@pytest.mark.parametrize(
    "change",
    [
        Update(b"k", append=b"x"),
        Update(b"k", merge_json=b'{"a":1}'),
        Update(b"k", add_integer=1),
        Update(b"k", add_decimal="0.5"),
        Increment(b"k", 1),
    ],
)
@pytest.mark.parametrize("value", [b"7", b"{}"])
def test_a_manifest_is_not_patched(change: Op, value: bytes) -> None:
    driver = Driver()
    driver.one(Set(b"k", value, content_type=MANIFEST_TYPE, ttl_ms=5000))
    refusal = driver.one(change)
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.WRONG_TYPE
    assert "in parts" in refusal.message
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert (entry.value, entry.version) == (value, 1)
    replaced = driver.one(Update(b"k", replace=b"small", content_type="text/plain"))
    assert isinstance(replaced, UpdateResult)
    assert not isinstance(driver.one(Update(b"k", append=b"er")), Refusal)


@pytest.mark.parametrize(
    ("value", "update", "expected"),
    [
        (b"41", Update(b"k", add_integer=1), b"42"),
        (b"0.1", Update(b"k", add_decimal=".2"), b"0.30000000000000004"),
        (b"x", Update(b"k", append=b"y"), b"xy"),
        (b"x", Update(b"k", replace=b""), b""),
        (b'{"a":1}', Update(b"k", merge_json=b'{"b":2}'), b'{"a":1,"b":2}'),
    ],
)
def test_updates(value: bytes, update: Update, expected: bytes) -> None:
    result = after(value, update)
    assert isinstance(result, UpdateResult)
    assert (result.entry.value, result.entry.version, result.entry.create_revision) == (expected, 2, 1)


def test_increment_creates_counts_and_keeps_its_bounds() -> None:
    driver = Driver()
    assert driver.one(Increment(b"n", 5, initial=10, ttl_ms=100)) == IncrementResult(15, 1, 1)
    driver.pass_ms(99)
    assert driver.one(Increment(b"n", -5, ttl_ms=100, minimum=10)) == IncrementResult(10, 2, 2)
    for refused in (
        Increment(b"n", -1, minimum=10),
        Increment(b"n", 5, maximum=14),
        Increment(b"n", 2**63 - 1),
    ):
        result = driver.one(refused)
        assert isinstance(result, Refusal)
        assert result.code is RefusalCode.OUT_OF_RANGE
    assert driver.machine.revision == 2
    driver.pass_ms(1)
    assert driver.machine.peek(b"n") is None
