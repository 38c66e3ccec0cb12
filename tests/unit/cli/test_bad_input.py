"""What no cluster is needed to refuse: a message and exit code 2, never a traceback with exit code 1."""

from pathlib import Path

import pytest
import typer.testing

from replcache.cli.main import app

NOT_UTF8 = "\udcff"  # how Python hands over the byte 0xff of a command line


def replcache(*arguments: str) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app, [*arguments], env={"REPLCACHE_URL": "127.0.0.1:1"})


@pytest.mark.parametrize(
    "command",
    [
        ("cluster", "up", "--directory", "{file}/c", "--base-port", "28500"),
        ("cluster", "up", "--directory", "/proc/c", "--base-port", "28500"),
        ("certs", "{file}"),
        ("certs", "{file}/certs", "--node", "n1"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    result = replcache(*(word.format(file=file) for word in command))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: /")
    assert "[CONFIG]" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("lock", NOT_UTF8, "--", "true"),
        ("lock", "name", "--note", NOT_UTF8, "--", "true"),
        ("locks", NOT_UTF8),
        ("find", NOT_UTF8),
        ("set", "key", "value", "--tag", NOT_UTF8),
        ("set", "key", "value", "--content-type", NOT_UTF8),
        ("update", "key", "value", "--content-type", NOT_UTF8),
        ("transfer", NOT_UTF8),
    ],
)
def test_text_that_is_not_utf8_is_refused(command: tuple[str, ...]) -> None:
    result = replcache(*command)
    assert (result.exit_code, "is no UTF-8 text" in result.stderr) == (2, True), result.output


@pytest.mark.parametrize(
    "options",
    [
        ("--ttl", "\u00b2"),
        ("--ttl", "\u0663s"),
        ("--timeout", "\u0663"),
        ("--fence", "lock:\u0663"),
        ("--fence", "lock:" + "9" * 5000),
    ],
)
def test_other_digits_than_ascii_ones_are_refused(options: tuple[str, str]) -> None:
    result = replcache("set", "key", "value", "--timeout", "50ms", *options)
    assert result.exit_code in (2, 4), result.output
    assert options[0] in result.stderr or "duration" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("info",),
        (
            "restore",
            "--name",
            "n1",
            "--members",
            "n1=h:1/h:2",
            "--cluster-name",
            "c",
            "--data-dir",
            "{file}.new",
        ),
    ],
)
def test_a_snapshot_file_that_is_not_there_is_a_wrong_command_line(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "none"
    words = (word.format(file=file) for word in command[1:])
    result = replcache("snapshot", command[0], str(file), *words)
    assert (result.exit_code, "No such file" in result.stderr) == (2, True), result.output


def test_a_revision_that_cannot_be_is_refused() -> None:
    result = replcache("watch", "--start", "9" * 30, "--for", "1s")
    assert (result.exit_code, "is no revision" in result.stderr) == (4, True), result.output


def test_files_that_are_no_certificates_and_no_token_are_named(tmp_path: Path) -> None:
    """Not "unavailable, try again" after the whole timeout, which is all that gRPC says."""
    file = tmp_path / "file"
    file.write_bytes(b"p\xf6ssword\x01")
    for options in (["--ca"], ["--cert", str(file), "--key"], ["--token-file"]):
        result = replcache("get", "key", *options, str(file))
        assert (result.exit_code, str(file) in result.stderr) == (2, True), result.output
        assert "ssword" not in result.output


def test_a_token_cannot_outlive_the_calendar(tmp_path: Path) -> None:
    file = tmp_path / "auth.toml"
    file.write_text("[users.x]\nroles = []\n")
    result = replcache("auth", "token", "create", "x", "--file", str(file), "--ttl", "9999999d")
    assert (result.exit_code, "no time that a token lives" in result.stderr) == (2, True), result.output


def test_a_backup_without_a_node_says_so(tmp_path: Path) -> None:
    result = replcache("snapshot", "save", str(tmp_path / "file"))
    assert (result.exit_code, "error: no node answers (127.0.0.1:1 not reachable)" in result.stderr) == (
        3,
        True,
    )
