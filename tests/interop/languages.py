"""What there is to build and run: for each language its tools, its programs and its build.

tests/interop/<language>/build.sh makes everything below build, target or node_modules there (git-ignored)
and in the package managers' own caches. A stamp remembers what the last build was made from.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROTO = ROOT / "proto"
MADE = ("build", "target", "node_modules", "__pycache__")
BUILD_TIMEOUT_S = 1200


class BuildFailed(Exception):
    """build.sh ended with an error; the message has the end of its output."""


@dataclass(frozen=True)
class Language:
    """`first` and `scenario` are command lines, run in the language's folder."""

    name: str
    tools: tuple[str, ...]
    first: tuple[str, ...]
    scenario: tuple[str, ...]
    # Quick enough for every run of CI, also from nothing.
    in_ci: bool = True
    # Files that tell whether a library is there.
    files: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return HERE / self.name

    def missing(self) -> list[str]:
        """Tools and libraries that this machine lacks."""
        tools = [tool for tool in self.tools if shutil.which(tool) is None]
        return tools + [name for name in self.files if not Path(name).exists()]

    def sources(self) -> Iterator[Path]:
        for top in (self.folder, PROTO):
            for path in sorted(top.rglob("*")):
                inside = path.relative_to(top).parts
                if path.is_file() and not any(part in MADE for part in inside):
                    yield path

    def build(self, log: Path, environment: dict[str, str]) -> bool:
        """Builds, unless nothing has changed since the last time; False: there was nothing to do.

        Raises:
            BuildFailed: build.sh failed.
        """
        digest = hashlib.sha256(sys.version.encode())
        for path in self.sources():
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
        stamp = self.folder / "build" / ".stamp"
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return False
        stamp.parent.mkdir(exist_ok=True)
        stamp.unlink(missing_ok=True)
        # Twice: package registries fail now and then.
        if self._run_build(log, environment) != 0 and self._run_build(log, environment) != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            raise BuildFailed(f"tests/interop/{self.name}/build.sh failed; the end of {log}:\n{tail}")
        stamp.write_text(digest.hexdigest())
        return True

    def _run_build(self, log: Path, environment: dict[str, str]) -> int:
        with log.open("wb") as output:
            return subprocess.run(
                ["./build.sh"],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=BUILD_TIMEOUT_S,
                check=False,
            ).returncode


def build_environment(folder: Path) -> dict[str, str]:
    """The environment for builds; where there is no protoc, one that grpcio-tools has is put on the path."""
    environment = dict(os.environ)
    if shutil.which("protoc") is None:
        shim = folder / "bin" / "protoc"
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grpc_tools.protoc "$@"\n')
        shim.chmod(0o755)
        environment["PATH"] = f"{shim.parent}{os.pathsep}{environment['PATH']}"
    return environment


LANGUAGES = (
    Language(
        name="python",
        tools=("python3",),
        first=("build/venv/bin/python", "first.py"),
        scenario=("build/venv/bin/python", "scenario.py"),
    ),
    Language(
        name="node",
        tools=("node", "npm"),
        first=("node", "first.mjs"),
        scenario=("node", "scenario.mjs"),
    ),
    Language(
        name="go",
        tools=("go",),
        first=("build/first",),
        scenario=("build/scenario",),
    ),
    Language(
        name="java",
        tools=("java", "mvn"),
        first=("java", "-cp", "target/classes:target/lib/*", "First"),
        scenario=("java", "-cp", "target/classes:target/lib/*", "Scenario"),
    ),
    Language(
        name="rust",
        tools=("cargo",),
        first=("target/debug/first",),
        scenario=("target/debug/scenario",),
    ),
    Language(
        name="cpp",
        tools=("cmake", "g++", "protoc", "grpc_cpp_plugin"),
        first=("build/first",),
        scenario=("build/scenario",),
        # Debian's gRPC must be installed first, and its headers take their time.
        in_ci=False,
        files=("/usr/include/grpcpp/grpcpp.h",),
    ),
)
