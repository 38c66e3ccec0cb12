"""Configuration from files, environment and flags: a usable configuration or one ConfigError."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.config import ServerConfig, load_config, sample_toml, toml_value
from replcache.errors import ConfigError
from tests.fuzz.inputs import damaged, fuzz

NAMES = [*ServerConfig.model_fields, "no_such_setting"]
# Every line of the sample takes effect, so that damage hits values and not comments.
SAMPLE = sample_toml().replace("\n# ", "\n").encode()
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "0", "-1", "nan", "inf", "1e999", "true", "none", "fsync", "require", "\0"]),
    st.sampled_from(["127.0.0.1:0", "0.0.0.0:7401", "[::1]:99999", "host:²", "host:" + "9" * 5000]),
    st.sampled_from(["n1=[::1]:1/h:2", "n1=a:1/b:2,n1=a:1/b:2", "n1=a:1/b:2,n2=c:3/d:4"]),
)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 200),
    st.floats(),
    TEXTS,
    st.lists(TEXTS, max_size=2),
    st.dictionaries(st.sampled_from(["name", "peer_address", "client_address", "x"]), TEXTS, max_size=3),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "replcache.toml"


def check(path: Path | None = None, **layers: object) -> None:
    problem = ""
    try:
        loaded = load_config(path, **{"environment": {}, **layers})  # type: ignore[arg-type]
    except ConfigError as error:
        problem = str(error)
    if problem:
        assert "configuration" in problem
        return
    config = loaded.config
    for name in ServerConfig.model_fields:
        value = getattr(config, name)
        assert not isinstance(value, float) or math.isfinite(value), f"{name} = {value}"
        toml_value(value)
    assert 0 < 3 * config.heartbeat_s <= config.election_min_s < config.election_max_s
    assert loaded.describe()


@fuzz(300)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4))
def test_any_flags(flags: dict[str, object]) -> None:
    check(flags=flags)


@fuzz(300)
@given(st.dictionaries(st.sampled_from(NAMES).map(lambda n: f"REPLCACHE_{n.upper()}"), TEXTS, max_size=4))
def test_any_environment(environment: dict[str, str]) -> None:
    check(environment=environment)


@fuzz(300)
@given(st.data())
def test_any_damaged_file(file: Path, data: st.DataObject) -> None:
    file.write_bytes(data.draw(st.one_of(damaged(SAMPLE), damaged(b'name = "n1"\nmembers = []\n'))))
    check(file)


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "a = " + "{ a = " * 20_000])
def test_deep_nesting_is_an_error_of_the_file(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError):
        load_config(file, {})
