"""Things that have gone wrong in replicated systems too often to be left to reviews."""

import ast
import re
from collections.abc import Iterator

from tests.tidy.sources import Source, all_sources, under

# Where a broad except is the point: the boundary itself reports, halts or answers.
BROAD_EXCEPT_ALLOWED = (
    "replcache/tasks.py",
    "replcache/raft/apply.py",
    "replcache/raft/node.py",
    "replcache/raft/log_sync.py",
    "replcache/raft/questions.py",
    "replcache/server/interceptors.py",
    "replcache/server/gateway_calls.py",
    "replcache/client/bridge.py",
    "replcache/client/pipeline.py",
    "replcache/patterns/source.py",
    "replcache/patterns/cached_drivers.py",
)
# Tests wait for conditions (tests/helpers/wait.py); only helpers may pause, and
# programs that show how to use replcache: they wait before they retry.
SLEEP_ALLOWED = ("tests/helpers/", "tests/simulation/", "tests/fault/soak.py", "tests/interop/python/")
# Owners of tasks: everybody else uses asyncio.TaskGroup or them.
TASKS_ALLOWED = ("replcache/tasks.py", "replcache/client/tasks.py", "tests/")


def calls(source: Source) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each call whose function is a name or an attribute chain."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            parts = []
            function = node.func
            while isinstance(function, ast.Attribute):
                parts.append(function.attr)
                function = function.value
            parts.append(function.id if isinstance(function, ast.Name) else "?")
            yield node.lineno, ".".join(reversed(parts))


def test_tests_do_not_sleep() -> None:
    found = [
        f"{source.name}:{line} {name}"
        for source in under("tests/")
        if not source.name.startswith(SLEEP_ALLOWED)
        for line, name in calls(source)
        if name in ("time.sleep", "sleep") or name == "asyncio.sleep"
    ]
    # asyncio.sleep(0) is a yield to the loop, not a wait.
    found = [hit for hit in found if not _is_zero_sleep(hit)]
    assert not found, "wait for the condition (tests/helpers/wait.py) instead:\n" + "\n".join(found)


def _is_zero_sleep(hit: str) -> bool:
    name, line = hit.split(" ")[0].rsplit(":", 1)
    text = next(source.lines[int(line) - 1] for source in all_sources() if source.name == name)
    return "sleep(0)" in text


def test_broad_except_only_at_named_boundaries() -> None:
    found = []
    for source in under("replcache/"):
        if source.name in BROAD_EXCEPT_ALLOWED:
            continue
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            reraises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if broad and not reraises:
                found.append(f"{source.name}:{node.lineno}")
    assert not found, "name the errors, or handle them at a boundary:\n" + "\n".join(found)


def test_tasks_have_an_owner() -> None:
    found = [
        f"{source.name}:{line} {name}"
        for source in under("replcache/")
        if not source.name.startswith(TASKS_ALLOWED)
        for line, name in calls(source)
        if name.rsplit(".", 1)[-1] in ("create_task", "ensure_future")
        and name.split(".")[0] in ("asyncio", "loop", "?", "create_task", "ensure_future")
    ]
    assert not found, "use asyncio.TaskGroup or replcache/tasks.py:\n" + "\n".join(found)


def test_no_unfinished_business() -> None:
    marks = re.compile(r"\b(FIX" + r"ME|XX" + r"X|TO" + r"DO)\b")
    found = [
        f"{source.name}:{number}: {line.strip()}"
        for source in all_sources()
        for number, line in enumerate(source.lines, 1)
        if marks.search(line)
    ]
    assert not found, "\n".join(found)


def test_nothing_forks() -> None:
    """gRPC's threads do not survive a fork; subprocesses belong to the command line and the tests."""
    found = [
        f"{source.name}:{line} {name}"
        for source in under("replcache/")
        for line, name in calls(source)
        if name in ("os.fork", "os.forkpty") or name.startswith("multiprocessing.")
    ]
    assert not found, "\n".join(found)


def test_modules_say_what_they_are() -> None:
    found = [
        source.name
        for source in under("replcache/")
        if source.text.strip() and not ast.get_docstring(source.tree)
    ]
    assert not found, "no module docstring:\n" + "\n".join(found)
