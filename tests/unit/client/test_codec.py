"""Values <-> bytes: what is stored comes back, and what can't be stored says so."""

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.client.codec import AutoCodec, Typed
from replcache.errors import InvalidRequest, WrongType

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    return bool(left == right) and type(left) is type(right)


@given(JSON_VALUES | st.binary())
def test_round_trip(value: object) -> None:
    codec = AutoCodec()
    try:
        data, content_type = codec.encode(value)
    except InvalidRequest:
        # Lone surrogates have no UTF-8 form.
        assert "\\ud" in ascii(value)
        return
    assert same(codec.decode(data, content_type), value)


@pytest.mark.parametrize(
    ("value", "data", "content_type"),
    [
        (b"x", b"x", ""),
        (Typed(b"x", "image/png"), b"x", "image/png"),
        (bytearray(b"x"), b"x", ""),
        (memoryview(b"x"), b"x", ""),
        ("ü", "ü".encode(), "text/plain"),
        (5, b"5", "application/json"),
        (True, b"true", "application/json"),
        (None, b"null", "application/json"),
        ((1, 2), b"[1,2]", "application/json"),
        ({"a": "ü"}, '{"a":"ü"}'.encode(), "application/json"),
    ],
)
def test_stored_form(value: object, data: bytes, content_type: str) -> None:
    assert AutoCodec().encode(value) == (data, content_type)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1: 2},
        {"a": {None: 1}},
        [float("nan")],
        float("inf"),
        {"s": {1, 2}},
        {"b": b"x"},
        1j,
        "\ud800",
    ],
    ids=lambda value: "an object" if type(value) is object else ascii(value),  # no addresses: xdist compares
)
def test_what_cannot_be_stored_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest):
        AutoCodec("json").encode(value)


def test_deep_nesting_is_refused_not_a_crash() -> None:
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit() + 10):
        deep = [deep]
    with pytest.raises(InvalidRequest):
        AutoCodec().encode(deep)


def test_unknown_content_type_comes_back_as_bytes() -> None:
    codec = AutoCodec()
    assert codec.decode(b"\x89PNG", "image/png") == b"\x89PNG"
    assert codec.decode(b"a,b", "text/csv") == "a,b"
    assert codec.decode(b"5", "application/json; charset=utf-8") == 5
    assert codec.decode(b"x", "application/octet-stream") == b"x"


def test_bytes_that_do_not_fit_their_content_type_are_a_wrong_type() -> None:
    for data, content_type in ((b"{", "application/json"), (b"\xff", "text/plain"), (b"\xff", "text/csv")):
        with pytest.raises(WrongType):
            AutoCodec().decode(data, content_type)


def test_pickled_arrays_are_never_loaded() -> None:
    numpy = pytest.importorskip("numpy")
    codec = AutoCodec()
    array = numpy.arange(6, dtype="float32").reshape(2, 3)
    data, content_type = codec.encode(array)
    assert content_type == "application/x-npy"
    assert (codec.decode(data, content_type) == array).all()
    with pytest.raises(InvalidRequest):
        codec.encode(numpy.array([object()]))


def test_msgpack_holds_bytes_and_keeps_numbers_incrementable() -> None:
    pytest.importorskip("msgpack")
    codec = AutoCodec("msgpack")
    data, content_type = codec.encode({"b": b"x", "l": [1, None]})
    assert content_type == "application/msgpack"
    assert AutoCodec().decode(data, content_type) == {"b": b"x", "l": [1, None]}
    assert codec.encode(5) == (b"5", "application/json")


def test_unknown_codec_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        AutoCodec("yaml")


def test_auto_takes_msgpack_for_what_json_cannot_hold() -> None:
    pytest.importorskip("msgpack")
    for value in ({1: 2}, {"a": b"x"}, [b"x", {None: 1}]):
        data, content_type = AutoCodec().encode(value)
        assert content_type == "application/msgpack"
        assert AutoCodec("json").decode(data, content_type) == value
    for value in ([float("nan")], {"s": {1, 2}}, object()):
        with pytest.raises(InvalidRequest):
            AutoCodec().encode(value)


def test_auto_without_msgpack_names_what_json_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match="bytes"):
        AutoCodec().encode({"a": b"x"})


def test_pickle_only_when_asked_for() -> None:
    value = {"set": {1, 2}, "complex": 1j}
    data, content_type = AutoCodec("pickle").encode(value)
    assert content_type == "application/x-python-pickle"
    assert AutoCodec("pickle").decode(data, content_type) == value
    for name in ("auto", "json", "msgpack"):
        with pytest.raises(InvalidRequest):
            AutoCodec(name).encode(value)
        with pytest.raises(WrongType, match="codec="):
            AutoCodec(name).decode(data, content_type)
    # What everybody can read stays readable, and countable, by everybody.
    assert AutoCodec("pickle").encode(b"x") == (b"x", "")
    assert AutoCodec("pickle").encode("x") == (b"x", "text/plain")
    assert AutoCodec("pickle").encode(5) == (b"5", "application/json")


def test_what_is_no_pickle_is_a_wrong_type() -> None:
    with pytest.raises(WrongType):
        AutoCodec("pickle").decode(b"junk", "application/x-python-pickle")
    with pytest.raises(InvalidRequest):
        AutoCodec("pickle").encode(lambda: None)
