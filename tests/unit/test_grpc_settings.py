"""gRPC's event engine is off where we know how, in whatever order a process loads us."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from replcache.grpc_settings import KNOWN_RELEASES, WITHOUT_EVENT_ENGINE, grpc_release

# What is expected here: newer releases, which may not know the names, are left alone.
RELEASE = grpc_release()
IS_KNOWN = RELEASE is not None and KNOWN_RELEASES[0] <= RELEASE <= KNOWN_RELEASES[1]
EXPECTED = WITHOUT_EVENT_ENGINE if IS_KNOWN else None
SHOW = "import os, sys; print(os.environ.get('GRPC_EXPERIMENTS'))"


def shown(code: str, experiments: str | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    if experiments is not None:
        environment["GRPC_EXPERIMENTS"] = experiments
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{SHOW}"], env=environment, capture_output=True, text=True, check=True
    )
    # Also no complaint of gRPC about a name that it doesn't know.
    assert done.stderr == ""
    return done.stdout.strip()


def test_the_installed_release_is_read_without_loading_it() -> None:
    major, minor = version("grpcio").split(".")[:2]
    assert (int(major), int(minor)) == RELEASE
    code = "import sys, replcache.grpc_settings; assert 'grpc' not in sys.modules"
    assert shown(code) == str(EXPECTED)


@pytest.mark.parametrize(
    "first",
    [
        "replcache.client.aio",
        "replcache.client.channel",
        "replcache.server.grpc_port",
        # The command line loads gRPC when a command needs it.
        "replcache.cli.main, grpc",
        "replcache.patterns.through",
        "replcache.compat.blocking",
    ],
)
def test_it_is_set_before_grpc_is_loaded(first: str) -> None:
    code = f"""
import importlib.abc, os, sys
class Spy(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "grpc._cython":
            assert os.environ.get("GRPC_EXPERIMENTS") == {EXPECTED!r}
            os.environ["SEEN"] = "1"
        return None
sys.meta_path.insert(0, Spy())
import {first}
assert os.environ["SEEN"] == "1"
"""
    assert shown(code) == str(EXPECTED)


def test_what_the_user_has_set_stays() -> None:
    assert shown("import replcache.client.aio", "") == ""
    assert shown("import replcache.client.aio", "-event_engine_client") == "-event_engine_client"


@pytest.mark.parametrize("stub", ["types.ModuleType('grpc')", "unittest.mock.MagicMock()"])
def test_a_stub_in_its_place_is_no_error(stub: str) -> None:
    code = f"import sys, types, unittest.mock; sys.modules['grpc'] = {stub}; import replcache.client"
    assert shown(code) == "None"
