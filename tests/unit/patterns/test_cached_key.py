"""Key templates: readable keys, no accidental collisions, mistakes found when the function is decorated."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.constants import KEY_BYTES_MAX, TAG_BYTES_MAX
from replcache.errors import InvalidRequest
from replcache.patterns.cached_key import CallKeys
from replcache.patterns.cached_text import text_of


@dataclass
class User:
    id: int


def load(uid: Any, lang: Any = "en", *, fresh: bool = False) -> None:
    """The function of most tests."""


def key_of(template: str | None, *args: Any, **kwargs: Any) -> str:
    return CallKeys(load, template, (), bound=False).of(args, kwargs)[0]


@pytest.mark.parametrize(
    ("template", "args", "key"),
    [
        ("user:{uid}:{lang}", (7,), "user:7:en"),
        ("user:{uid}:{lang}", (7, "de"), "user:7:de"),
        ("user:{uid}", ("a:b/%~ ü",), "user:a:b/%25%7E ü"),
        ("user:{uid}:{lang}", ("a:b/", "c"), "user:a%3Ab/:c"),
        ("{uid}/{lang}", ("ü€/", "x:y"), "ü€%2F/x:y"),
        ("user:{uid.id:05d}", (User(7),), "user:00007"),
        ("user:{uid[name]}", ({"name": "Ada"},), "user:Ada"),
        ("user:{uid!r}", ("x",), "user:'x'"),
        ("user:{uid}", (None,), "user:~"),
        ("user:{uid}", ("None",), "user:None"),
        ("user:{uid}", (b"raw",), "user:raw"),
        ("all {{users}}", (1,), "all {users}"),
        (None, (1, 2), f"{__name__}.load:1:2:False"),
    ],
)
def test_templates(template: str | None, args: tuple[Any, ...], key: str) -> None:
    assert key_of(template, *args) == key


def test_arguments_mean_the_same_however_they_are_given() -> None:
    keys = CallKeys(load, "u:{uid}:{lang}:{fresh}", ("t:{uid}", "all"), bound=False)
    assert (
        keys.of((7, "en"), {})
        == keys.of((), {"lang": "en", "uid": 7})
        == keys.of((7,), {"fresh": False})
        == ("u:7:en:False", ("t:7", "all"))
    )
    with pytest.raises(TypeError):
        keys.of((), {"lang": "en"})


@pytest.mark.parametrize(
    ("template", "tags", "message"),
    [
        ("user:{user_id}", (), "load has no parameter 'user_id'; its parameters are uid, lang, fresh"),
        ("user:{uid}", ["t:{x.id}"], "tags='t:{x.id}': load has no parameter 'x'"),
        ("user:{uid", (), "expected '}'"),
        ("{uid}{lang}", (), "between two fields"),
        ("{uid}and{lang}", (), "between two fields"),
        ("user:{}", (), "has no parameter ''"),
        ("user:{uid:{lang}}", (), "fields inside of a format"),
        ("", (), "a template such as"),
        ("user:{uid}", "user", "a list of templates"),
        ("user:{uid}", [f"{n}" for n in range(33)], "33 tags"),
    ],
)
def test_mistakes_are_found_when_decorating(template: str, tags: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message.replace("[", r"\[").replace("{", r"\{")):
        CallKeys(load, template, tags, bound=False)


def test_an_object_without_a_text_of_its_own_is_refused() -> None:
    """Its text would be its address: another key in each process, or the key of another object."""
    with pytest.raises(InvalidRequest, match=r"is a object, which has no text.*\{uid.id\}"):
        key_of("user:{uid}", object())


class Color(Enum):
    RED = 1
    ODD = object()


class Plain:
    """No text of its own."""


class Point(NamedTuple):
    x: Any


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "True"),
        (1.5, "1.5"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (date(2026, 1, 2), "2026-01-02"),
        (timedelta(seconds=90), "0:01:30"),
        (PurePosixPath("/a/b"), "/a/b"),
        (Color.RED, "Color.RED"),
        (Color.ODD, "Color.ODD"),
        (int, "<class 'int'>"),
        ([1, "1", b"1", None, (2,), ()], "[1, '1', b'1', None, (2,), ()]"),
        ({"a": [1.5], 2: {}}, "{'a': [1.5], 2: {}}"),
        ({"b", "a", "c"}, "{'a', 'b', 'c'}"),
        (frozenset([2, 1]), "frozenset({1, 2})"),
        (set(), "set()"),
        ([Color.RED, Color.ODD], "[<Color.RED: 1>, <Color.ODD>]"),
        (Point(1), "Point(1,)"),
        (["x" * 2000], str(["x" * 2000])),
        (list(range(2000)), str(list(range(2000)))),
    ],
)
def test_exact_texts(value: Any, text: str) -> None:
    assert text_of(value) == text
    assert key_of("{uid}", value) == key_of("{uid}", text)


class Looped(list[Any]):
    """Holds itself."""


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([Plain()], "Plain"),
        (({"a": {Plain()}},), "Plain"),
        (User(7), "User"),
        ([User(7)], "User"),
        (memoryview(b"x"), "memoryview"),
        (lambda: 1, "function"),
        (datetime(2026, 1, 2, tzinfo=type("Zone", (tzinfo,), {})()), "datetime"),
        (type("Local", (), {"__qualname__": "f.<locals>.Local"}), "type"),
    ],
)
def test_what_has_no_exact_text_is_refused_wherever_it_is(value: Any, kind: str) -> None:
    for args in ((value,), (1, [value])):
        with pytest.raises(InvalidRequest, match=f"a {kind}.*no text of its own"):
            key_of("user:{uid}:{lang}", *args)
    looped = Looped()
    looped.append(looped)
    with pytest.raises(InvalidRequest, match="no text of its own"):
        key_of("user:{uid}", looped)


def test_collected_arguments_are_looked_into() -> None:
    def collect(*args: Any, **more: Any) -> None:
        """Everything."""

    keys = CallKeys(collect, "c:{args}:{more}", (), bound=False)
    assert keys.of((1, "a"), {"x": 2})[0] == "c:(1, 'a'):{'x'%3A 2}"
    for args, more in (((Plain(),), {}), ((), {"x": Plain()})):
        with pytest.raises(InvalidRequest, match="with a Plain inside"):
            keys.of(args, more)


def test_arrays_need_a_conversion_and_their_scalars_do_not() -> None:
    numpy = pytest.importorskip("numpy")
    for value in (numpy.zeros(3), [numpy.zeros(2000)]):
        with pytest.raises(InvalidRequest, match="a ndarray"):
            key_of("a:{uid}", value)
    assert key_of("a:{uid!r}", numpy.zeros(2)) == "a:array([0., 0.])"
    assert key_of("a:{uid}:{lang}", numpy.int64(7), numpy.float64(0.5)) == "a:7:0.5"


def test_what_the_template_names_is_taken() -> None:
    assert key_of("user:{uid!r}", User(7)) == "user:User(id=7)"
    assert key_of("user:{uid.id}", User(7)) == "user:7"
    with pytest.raises(InvalidRequest, match="no text of its own"):
        key_of("user:{uid!r}", Plain())


def test_long_keys_and_tags_end_in_a_digest_of_all() -> None:
    keys = CallKeys(load, "user:{uid}", ("t:{uid}",), bound=False)
    one, two = (keys.of(("x" * 2000 + end,), {}) for end in "ab")
    assert one[0] != two[0] and one[1] != two[1]
    assert len(one[0].encode()) <= KEY_BYTES_MAX and len(one[1][0].encode()) <= TAG_BYTES_MAX
    assert one[0].startswith("user:xxx")


texts = st.one_of(st.text("ab:/%~\\", max_size=4), st.none(), st.integers(-9, 9))


@given(texts, texts, texts, texts)
def test_different_arguments_have_different_keys(a: Any, b: Any, c: Any, d: Any) -> None:
    """Up to values of one text, like 7 and "7"."""
    same = (_text(a), _text(b)) == (_text(c), _text(d))
    for template in ("{uid}:{lang}", "p/{uid}:/{lang}", "{uid} {lang}!"):
        assert (key_of(template, a, b) == key_of(template, c, d)) == same


def _text(value: Any) -> Any:
    return None if value is None else str(value)
