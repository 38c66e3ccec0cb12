"""Generated files are what their generators make today, and lists name all that there is."""

import re
import subprocess
import sys

from tests.tidy.sources import ROOT


def test_proto_stubs_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "proto/generate.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_sample_configuration_is_up_to_date() -> None:
    from replcache.config import sample_toml

    path = ROOT / "deploy" / "replcache.toml"
    assert path.read_text(encoding="utf-8") == sample_toml(), (
        "run: replcache config --sample > deploy/replcache.toml"
    )


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
