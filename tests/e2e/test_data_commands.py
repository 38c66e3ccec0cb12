"""get, set, update, incr, del, touch, scan against a running cluster: answers, JSON shapes, exit codes."""

import base64
import json
from pathlib import Path

import pytest

from replcache.localcluster import LocalCluster
from tests.e2e.conftest import Shell

OK, NEGATIVE, USAGE, UNAVAILABLE, REFUSED = 0, 1, 2, 3, 4


def test_value_comes_back_byte_for_byte(shell: Shell, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40 + b"\n"
    (tmp_path / "in").write_bytes(data)
    assert shell("set", "bytes", "--file", "in").code == OK
    assert shell("get", "bytes").out == data
    assert shell("set", "bytes", "-", stdin=data[::-1]).code == OK
    assert shell("get", "bytes").out == data[::-1]


@pytest.mark.parametrize("value", ["", "0", "None", "grün ✓", "-5", "two words"])
def test_falsy_and_odd_values_are_hits(shell: Shell, value: str) -> None:
    assert shell("set", "odd", "--", value).code == OK
    got = shell("get", "odd")
    assert (got.code, got.text) == (OK, value)


def test_missing_key_is_a_negative_answer(shell: Shell) -> None:
    got = shell("get", "missing/key")
    assert (got.code, got.out) == (NEGATIVE, b"")
    assert "missing/key" in got.err
    assert (shell("get", "missing/key", "--json").json(), shell("del", "missing/key").code) == (
        None,
        NEGATIVE,
    )


def test_entry_as_json_has_version_type_and_origin(shell: Shell) -> None:
    assert shell("set", "json", "text", "--ttl", "1h").code == OK
    entry = shell("get", "json", "--json").json()
    assert (entry["key"], entry["value"], entry["version"]) == ("json", "text", 1)
    assert entry["content_type"] == "text/plain"
    assert 3500 < entry["expires_in_s"] <= 3600
    assert entry["served"]["as"] == "linearizable"
    assert entry["served"]["node"] in ("n1", "n2", "n3")
    shell("set", "binary", "-", stdin=b"\xff\xfe")
    binary = shell("get", "binary", "--json").json()
    assert base64.b64decode(binary["value"]) == b"\xff\xfe"
    assert binary["value_encoding"] == "base64"


def test_conditions_answer_with_1_and_change_nothing(shell: Shell) -> None:
    assert shell("set", "once", "first", "--if-absent").code == OK
    second = shell("set", "once", "second", "--if-absent", "--json")
    assert second.code == NEGATIVE
    assert second.error()["reason"] == "CONDITION_FAILED"
    assert second.error()["may_have_executed"] is False
    assert shell("set", "once", "third", "--if-version", "7").code == NEGATIVE
    assert shell("set", "once", "fourth", "--if-version", "1").code == OK
    assert shell("set", "not there", "x", "--if-present").code == NEGATIVE
    assert shell("get", "once").text == "fourth"


def test_update_changes_an_existing_entry_only(shell: Shell) -> None:
    assert shell("update", "u/missing", "x").code == NEGATIVE
    shell("set", "u", "ab")
    assert shell("update", "u", "--append", "cd").text == "abcd"
    assert shell("update", "u", "5").text == "5"
    assert shell("update", "u", "--add", "37").text == "42"
    assert shell("update", "u", "--add", "x").code == USAGE
    shell("set", "u", '{"a": 1, "b": 2}')
    merged = shell("update", "u", "--merge", '{"a": null, "c": 3}')
    assert json.loads(merged.text) == {"b": 2, "c": 3}
    assert shell("update", "u", "--add", "1").code == REFUSED


def test_increment_counts_and_respects_its_bounds(shell: Shell) -> None:
    assert shell("incr", "n").text == "1\n"
    assert shell("incr", "n", "9", "--json").json() == {"key": "n", "value": 10}
    assert shell("incr", "n", "--", "-4").text == "6\n"
    assert shell("incr", "n", "5", "--max", "10").code == REFUSED
    assert shell("incr", "m", "--initial", "100").text == "101\n"


def test_touch_gives_and_takes_a_ttl(shell: Shell) -> None:
    shell("set", "t", "x")
    assert shell("touch", "t", "--ttl", "90m").code == OK
    assert shell("get", "t", "--json").json()["expires_in_s"] > 5000
    assert shell("touch", "t").code == OK
    assert "expires_in_s" not in shell("get", "t", "--json").json()
    assert shell("touch", "t/missing").code == NEGATIVE


def test_scan_lists_by_prefix_in_order(shell: Shell) -> None:
    for name in ("s/c", "s/a", "s/b", "r/x"):
        shell("set", name, name)
    listed = shell("scan", "s/", "--json").json()
    assert [entry["key"] for entry in listed["entries"]] == ["s/a", "s/b", "s/c"]
    assert listed["more"] is False
    cut = shell("scan", "s/", "--limit", "2", "--keys-only")
    assert cut.text.split() == ["s/a", "s/b"]
    assert "more than 2" in cut.err
    assert "s/b" in shell("scan", "s/").text


def test_read_one_says_how_stale_it_can_be(shell: Shell, cluster: LocalCluster) -> None:
    shell("set", "one", "x")
    for layout in cluster.layouts:
        served = shell("get", "one", "--json", "-e", layout.grpc_address).json()["served"]
        assert served["as"] == "linearizable"
        local = shell("get", "one", "--read", "one", "--max-staleness", "5s", "--json").json()["served"]
        assert (local["as"], local["staleness_s"] <= 5) == ("one", True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("set", "k"), "exactly one"),
        (("set", "k", "v", "--file", "f"), "exactly one"),
        (("set", "k", "--file", "no-such-file"), "no-such-file"),
        (("set", "k", "v", "--fence", "name"), "LOCK:TOKEN"),
        (("get", "k", "--read", "sometimes"), "sometimes"),
        (("get", "k", "--timeout", "soon"), "soon"),
        (("get", "k", "-e", "http://x"), "scheme"),
        (("get", "k", "--ca", "no-such-file"), "no-such-file"),
        (("get",), "get"),
        (("fly",), "fly"),
    ],
)
def test_wrong_usage_is_2_and_named(shell: Shell, arguments: tuple[str, ...], expected: str) -> None:
    result = shell(*arguments)
    assert result.code == USAGE, result
    assert expected in result.err
    assert result.out == b""


@pytest.mark.parametrize(
    "arguments", [("set", "", "v"), ("set", "k" * 2000, "v"), ("set", "k", "v", "--ttl", "0")]
)
def test_unacceptable_input_is_refused_with_its_limit(shell: Shell, arguments: tuple[str, ...]) -> None:
    result = shell(*arguments, "--json")
    assert result.code == REFUSED
    assert result.error()["reason"] in ("INVALID_ARGUMENT", "TOO_LARGE")


def test_no_cluster_is_3_and_nothing_was_executed(tmp_path: Path) -> None:
    nobody = Shell(tmp_path, "127.0.0.1:1")
    result = nobody("set", "k", "v", "--timeout", "500ms", "--json")
    assert result.code == UNAVAILABLE
    assert result.error()["may_have_executed"] is False
    assert nobody("status", "--timeout", "500ms").code == UNAVAILABLE
