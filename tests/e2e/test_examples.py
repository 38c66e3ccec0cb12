"""The example programs run as written and end with 0."""

import subprocess
import sys

from tests.e2e.conftest import ROOT


def test_standard_library_survives_killed_leaders(seed: int) -> None:
    """A short form of the example: 300 files, the leader killed twice, 0 lost and 0 wrong."""
    arguments = ["--limit", "300", "--kills", "2", "--seconds-between-kills", "0.5", "--seed", str(seed)]
    done = subprocess.run(
        [sys.executable, "examples/load_stdlib.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "150"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "0 lost, 0 wrong" in done.stdout
    assert "leader killed 2 times" in done.stdout
