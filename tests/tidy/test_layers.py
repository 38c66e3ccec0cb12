"""Imports point down only, and libraries stay in their layer (the diagram is in ARCHITECTURE.md)."""

import subprocess
import sys

import pytest

from tests.tidy.sources import ROOT, imported_modules, is_within, under

# Library -> the only folders that may import it.
LIBRARY_HOMES = {
    "pysyncobj": ("replcache/raft/", "tests/"),
    "grpc": (
        "replcache/server/",
        "replcache/client/",
        "replcache/cli/",
        "replcache/verify/",
        "tests/",
        "benchmarks/",
    ),
    "opentelemetry": ("replcache/observability/tracing.py", "replcache/client/", "tests/"),
    "typer": ("replcache/cli/", "replcache/verify/", "tests/"),
    # The scripts against the plain library speak its language, pickle included.
    # Values are pickled only by clients that ask for it.
    "pickle": ("tests/simulation/plain_", "replcache/client/pickled.py"),
    "marshal": (),
    "shelve": (),
}

# The state machine is a function of its input: nothing that differs between nodes may be reachable.
IMPURE = [
    "time",
    "random",
    "os",
    "sys",
    "socket",
    "asyncio",
    "threading",
    "logging",
    "datetime",
    "secrets",
    "uuid",
    "pathlib",
    "subprocess",
    "structlog",
]


@pytest.mark.parametrize("library", sorted(LIBRARY_HOMES))
def test_library_outside_its_home_is_not_imported(library: str) -> None:
    homes = LIBRARY_HOMES[library]
    found = [
        f"{source.name}:{line} imports {module}"
        for source in under("replcache/", "examples/", "benchmarks/", "tests/")
        if not (homes and source.name.startswith(homes))
        for line, module in imported_modules(source.tree)
        if is_within(module, library)
    ]
    assert not found, "\n".join(found)


def test_statemachine_imports_nothing_that_differs_between_nodes() -> None:
    found = [
        f"{source.name}:{line} imports {module}"
        for source in under("replcache/statemachine/")
        for line, module in imported_modules(source.tree)
        if any(is_within(module, impure) for impure in IMPURE)
    ]
    assert not found, "\n".join(found)


def test_only_the_clock_module_reads_time() -> None:
    """Command line, verification and tests measure for people; everything that decides takes a Clock."""
    deciding = under("replcache/statemachine/", "replcache/raft/", "replcache/server/")
    found = [
        f"{source.name}:{line} imports {module}"
        for source in deciding
        for line, module in imported_modules(source.tree)
        if is_within(module, "time")
    ]
    assert not found, "\n".join(found)


def test_layers_hold() -> None:
    """The contracts of [tool.importlinter] in pyproject.toml, also through indirect imports."""
    done = subprocess.run(
        [sys.executable, "scripts/check_layers.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
