"""Checks the import contracts of [tool.importlinter] in pyproject.toml (`make lint`).

The `lint-imports` command does the same, but only when its folder is on PATH, which a virtual environment
that was not activated is not.
"""

import sys

from importlinter.cli import lint_imports

if __name__ == "__main__":
    sys.path.insert(0, ".")
    sys.exit(lint_imports())
