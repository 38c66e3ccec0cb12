"""Parsing of REPLCACHE_FAILPOINTS; that the points kill is shown by tests/fault/test_storage_kill.py."""

import pytest

from replcache.errors import ConfigError
from replcache.raft.failpoints import fail_point, parse_failpoints


def test_empty_is_off() -> None:
    assert parse_failpoints("") is None
    assert parse_failpoints(" , ") is None
    fail_point("wal.before_fsync")


def test_points_with_counts() -> None:
    assert parse_failpoints("wal.before_fsync=kill:17, x=kill:1") == {"wal.before_fsync": 17, "x": 1}


@pytest.mark.parametrize("text", ["x", "x=kill", "x=kill:0", "x=kill:-1", "x=stop:1", "=kill:1", "x=kill:a"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="name=kill:n"):
        parse_failpoints(text)
