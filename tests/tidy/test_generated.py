"""Generated files are what their generators make today, and lists name all that there is."""

import os
import re
import subprocess
import sys

import pytest

from tests.tidy.sources import ROOT


@pytest.mark.parametrize("generator", ["proto/generate.py", "scripts/generate_docs.py"])
def test_generated_files_are_up_to_date(generator: str) -> None:
    done = subprocess.run(
        [sys.executable, generator, "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_test_folder_belongs_to_a_stage_of_make_test() -> None:
    """A folder that no stage names would never run in CI."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    staged = set(re.findall(r"\btests/(\w+)", makefile))
    folders = {path.parent.relative_to(ROOT / "tests").parts[0] for path in ROOT.glob("tests/*/**/test_*.py")}
    assert folders <= staged, sorted(folders - staged)


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in folder.glob("0*.md") if f"({path.name})" not in listed]
    assert not missing, missing
