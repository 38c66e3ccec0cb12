"""`import replcache` stays light, and the client knows nothing of the server's side."""

import subprocess
import sys

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
