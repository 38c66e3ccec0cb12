"""`import replcache` stays light, and the client knows nothing of the server's side."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import replcache

HEAVY = ("grpc", "google.protobuf", "asyncio", "replcache.client.core")
FOREIGN = (
    "replcache.server",
    "replcache.raft",
    "replcache.statemachine",
    "pysyncobj",
    "structlog",
    "pydantic",
)


def loaded_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_the_package_alone_loads_neither_grpc_nor_protobuf() -> None:
    assert loaded_after("import replcache").isdisjoint(HEAVY)
    assert loaded_after("from replcache import ReplcacheError").isdisjoint(HEAVY)


def test_the_client_loads_nothing_of_the_server() -> None:
    loaded = loaded_after("from replcache import Client, AsyncClient, Consistency")
    assert "grpc" in loaded
    assert not [name for name in loaded if name.startswith(FOREIGN)]


def test_every_public_name_can_be_imported() -> None:
    for name in replcache.__all__:
        assert getattr(replcache, name) is not None
    assert set(dir(replcache)) == set(replcache.__all__)


@pytest.mark.parametrize("module", ["replcache", "replcache.client", "replcache.testing"])
def test_type_checkers_know_the_names_of_a_module_that_loads_them_late(module: str) -> None:
    """A __getattr__ that they see makes them believe in every name, misspelt ones too."""
    path = importlib.import_module(module).__file__
    assert path is not None
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    shown = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert "__getattr__" not in shown
