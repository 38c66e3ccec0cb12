"""Log lines: one renderer for ours and for the libraries' records."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from replcache.observability.logs import get_logger, setup_logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_have_event_level_time_and_fields() -> None:
    stream = io.StringIO()
    setup_logs("INFO", "json", stream)
    get_logger("replcache.test").info("leader_changed", node="n1", term=7)
    logging.getLogger("library").warning("an old %s message", "style")
    ours, theirs = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (ours["event"], ours["level"], ours["node"], ours["term"]) == ("leader_changed", "info", "n1", 7)
    assert ours["logger"] == "replcache.test"
    assert ours["timestamp"].endswith("Z")
    assert (theirs["event"], theirs["level"]) == ("an old style message", "warning")


def test_level_is_respected_and_exceptions_are_shown() -> None:
    stream = io.StringIO()
    setup_logs("WARNING", "json", stream)
    log = get_logger("replcache.test")
    log.info("not_shown")
    try:
        raise ValueError("what went wrong")
    except ValueError:
        log.exception("it_failed")
    (line,) = stream.getvalue().splitlines()
    assert "what went wrong" in json.loads(line)["exception"]


def test_console_lines_are_for_people() -> None:
    stream = io.StringIO()
    setup_logs("INFO", "console", stream)
    get_logger("replcache.test").info("serving", grpc="127.0.0.1:1")
    assert "serving" in stream.getvalue()
    assert "grpc=127.0.0.1:1" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_show_no_local_variables(form: str) -> None:
    """They may be users' keys and values, or secrets."""
    stream = io.StringIO()
    setup_logs("INFO", form, stream)

    def fails() -> None:
        secret = "the value of a user"  # noqa: F841
        raise ValueError("what went wrong")

    try:
        fails()
    except ValueError:
        get_logger("replcache.test").exception("it_failed")
    assert "what went wrong" in stream.getvalue()
    assert "the value of a user\n" not in stream.getvalue().replace('secret = "the value of a user"', "")
    assert "locals" not in stream.getvalue()
