"""Help texts: every command is listed, explains itself, and the exit codes are said."""

import pytest
import typer.testing

from replcache.cli.main import app

COMMANDS = [
    *("serve", "config", "version"),
    *("get", "set", "update", "incr", "del", "touch", "scan", "watch"),
    *("lock", "locks", "status", "members", "transfer", "cluster", "certs", "auth", "verify", "bench"),
    *("top", "hash", "snapshot", "prewarm", "reconcile"),
    *("find", "invalidate", "del-prefix", "sweep", "statistics"),
    *("lease", "election", "namespace", "guard"),
]
CLUSTER_COMMANDS = ["up", "down", "status", "kill", "tour"]


def output_of(*arguments: str) -> str:
    result = typer.testing.CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result.output


def test_help_lists_every_command_and_the_exit_codes() -> None:
    text = output_of("--help")
    for name in COMMANDS:
        assert f" {name} " in text
    for code in range(9):
        assert f" {code} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_command_explains_itself(name: str) -> None:
    text = output_of(name, "--help")
    assert "Usage: " in text
    assert len(text.splitlines()) > 5


@pytest.mark.parametrize("name", CLUSTER_COMMANDS)
def test_cluster_command_explains_itself(name: str) -> None:
    assert "--directory" in output_of("cluster", name, "--help")


@pytest.mark.parametrize("words", [("check",), ("token", "create"), ("token", "list"), ("token", "revoke")])
def test_auth_command_explains_itself(words: tuple[str, ...]) -> None:
    text = output_of("auth", *words, "--help")
    assert "--file" in text
    assert "--json" in text


SUB_COMMANDS = [
    *(("lease", name) for name in ("grant", "keep", "revoke", "show")),
    *(("election", name) for name in ("campaign", "leader", "observe")),
    *(("namespace", name) for name in ("set", "remove", "list")),
    *(("guard", name) for name in ("add", "remove", "list")),
]


@pytest.mark.parametrize("words", SUB_COMMANDS, ids=" ".join)
def test_sub_command_explains_itself(words: tuple[str, ...]) -> None:
    text = output_of(*words, "--help")
    assert "--json" in text
    assert "--endpoints" in text


WITHOUT_JSON = ("serve", "lock", "cluster", "auth", "lease", "election", "namespace", "guard", "snapshot")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in WITHOUT_JSON])
def test_what_prints_data_prints_json_too(name: str) -> None:
    assert "--json" in output_of(name, "--help")
