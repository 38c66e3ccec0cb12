"""The project's Python files, read and parsed once for all tidy tests."""

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("replcache", "tests", "examples", "benchmarks", "scripts", "proto")
GENERATED = "replcache/pb/"
# Folders that tools make; those of other languages are large.
MADE = ("__pycache__", "node_modules", "build", "target")


@dataclass(frozen=True)
class Source:
    """`name` is relative to the repository, with forward slashes."""

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@cache
def all_sources() -> tuple[Source, ...]:
    found = []
    for folder in FOLDERS:
        for path in sorted(_python_files(ROOT / folder)):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith(GENERATED):
                continue
            text = path.read_text(encoding="utf-8")
            found.append(Source(name, text, ast.parse(text, name)))
    assert found, f"no sources below {ROOT}"
    return tuple(found)


def _python_files(top: Path) -> Iterator[Path]:
    for folder, inner, names in os.walk(top):
        inner[:] = [name for name in inner if name not in MADE]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def under(*prefixes: str) -> list[Source]:
    return [source for source in all_sources() if source.name.startswith(prefixes)]


def imported_modules(tree: ast.Module) -> list[tuple[int, str]]:
    """(line, dotted name) of every import, also inside functions; `from a import b` counts as a and a.b."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.lineno, node.module))
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")
