"""`make docs`: the site builds, no link or anchor is broken, no page is missing, all comes from within."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.sources import ROOT


def build(folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder), *flags],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder, "--quiet")
    # A page that is missing in `nav` of mkdocs.yml is named here, too.
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in ROOT.glob("docs/**/*.md")}
    expected = {Path(str(page).replace("README.html", "index.html")) for page in pages}
    missing = [str(page) for page in expected if not (site / page).is_file()]
    assert not missing, missing
    assert (site / "index.html").is_file()
    assert (site / "runbook.html").is_file()


def test_every_page_shows_its_pictures(site: Path) -> None:
    broken = [
        f"{page.name}: {source}"
        for page in site.rglob("*.html")
        if page.name != "404.html"
        for source in re.findall(r"<img[^>]+src=\"?([^\"\s>]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / source).is_file()
    ]
    assert not broken, broken
