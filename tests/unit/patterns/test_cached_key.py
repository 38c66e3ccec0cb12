"""Key templates: readable keys, no accidental collisions, mistakes found when the function is decorated."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.constants import KEY_BYTES_MAX, TAG_BYTES_MAX
from replcache.errors import InvalidRequest
from replcache.patterns.cached_key import CallKeys


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
