"""Generated files are what their generators make today."""

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
