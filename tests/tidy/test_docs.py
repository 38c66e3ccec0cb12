"""Documents name only what exists: tests, files, settings and make targets."""

import re
from pathlib import Path

import pytest

from tests.tidy.sources import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "tests/*.md", "replcache/**/*.md")
    for path in ROOT.glob(pattern)
)
TEST_NAME = re.compile(r"`(?:tests/)?([\w/]+\.py)::(\w+)`")
LINK = re.compile(r"\]\(([^)#\s]+?)(?:#[^)]*)?\)")
PROMISES = range(1, 10)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_tests_exist(page: Path) -> None:
    missing = []
    for file, name in TEST_NAME.findall(page.read_text(encoding="utf-8")):
        path = ROOT / "tests" / file
        if not path.is_file() or not re.search(rf"def {name}\(", path.read_text(encoding="utf-8")):
            missing.append(f"{file}::{name}")
    assert not missing, missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    targets = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    broken = [target for target in targets if not (page.parent / target).exists()]
    assert not broken, broken


def test_every_promise_names_a_test() -> None:
    text = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## P(\d): [^\n]*\n(.*?)(?=^## |\Z)", text, flags=re.S | re.M))
    assert sorted(map(int, sections)) == list(PROMISES)
    silent = [number for number, section in sections.items() if not TEST_NAME.search(section)]
    assert not silent, silent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    named = re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", page.read_text(encoding="utf-8"), flags=re.M)
    assert set(named) <= targets, sorted(set(named) - targets)
