"""RFC 7396, with every example of its appendix A, and hostile text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.statemachine.json_merge import DEPTH_MAX, JSON_BYTES_MAX, NotJson, merge_patch
from tests.property.key_model import merge


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('{"a":"foo"}', "null", "null"),
        ('{"a":"foo"}', '"bar"', '"bar"'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
    ],
)
def test_examples_of_the_rfc(target: str, patch: str, expected: str) -> None:
    assert merge_patch(target.encode(), patch.encode()) == expected.encode()


def test_numbers_keep_their_text() -> None:
    digits = b"1" * 5000
    merged = merge_patch(b'{"a":1.50,"b":1e400,"c":-0.0}', b'{"d":' + digits + b"}")
    assert merged == b'{"a":1.50,"b":1e400,"c":-0.0,"d":' + digits + b"}"


def test_output_is_compact_utf8_and_lone_surrogates_stay_escaped() -> None:
    assert merge_patch(b'{ "\\u00e4" : [ 1 , { } , [ ] , true ] }', b"{}") == '{"ä":[1,{},[],true]}'.encode()
    assert merge_patch(b'{"a":"\\ud800"}', '{"b":"ä"}'.encode()) == b'{"a":"\\ud800","b":"\\u00e4"}'


@pytest.mark.parametrize(
    "target", [b"", b"[]", b"1", b"null", b"{", b"\xff", b'{"a":NaN}', b" " * JSON_BYTES_MAX + b"{}"]
)
def test_targets_that_are_no_object(target: bytes) -> None:
    assert merge_patch(target, b"{}") is None


@pytest.mark.parametrize(
    "patch", [b"", b"{", b'{"a":Infinity}', b"{}x", b"\xff", b"{'a':1}", b" " * JSON_BYTES_MAX + b"{}"]
)
def test_patches_that_are_no_json(patch: bytes) -> None:
    with pytest.raises(NotJson):
        merge_patch(b"{}", patch)


def test_nesting_is_bounded_the_same_way_everywhere() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)

    assert merge_patch(nested(DEPTH_MAX), b"{}") == nested(DEPTH_MAX)
    assert merge_patch(nested(DEPTH_MAX + 1), b"{}") is None
    with pytest.raises(NotJson, match="nested"):
        merge_patch(b"{}", b'{"a":' + b"[" * 100_000)


def test_brackets_in_strings_are_not_nesting() -> None:
    text = json.dumps({"a": "[{" * 500 + '"\\' * 50}).encode()
    assert merge_patch(text, b"{}") == json.dumps(json.loads(text), separators=(",", ":")).encode()


@pytest.mark.timeout(5)
@pytest.mark.parametrize("hostile", [b'\\"' * 100_000, b'"' + b'\\"' * 100_000 + b"\\", b'"[' * 60_000])
def test_hostile_text_is_not_quadratic(hostile: bytes) -> None:
    with pytest.raises(NotJson):
        merge_patch(b"{}", b"[" * 100 + hostile)


documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda children: st.one_of(
        st.lists(children, max_size=3), st.dictionaries(st.text(max_size=2), children, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=2), documents), documents)
def test_against_the_pseudocode_of_the_rfc(target: dict, patch: object) -> None:
    merged = merge_patch(json.dumps(target).encode(), json.dumps(patch).encode())
    assert merged is not None
    expected = merge(json.loads(json.dumps(target)), patch)
    assert json.loads(merged) == expected
    assert isinstance(expected, dict) or not isinstance(patch, dict)
