"""Shows the hazards of the plain library, one after the other: `python -m tests.hazards.show`.

Prints a row for each: what was seen, and how long it took to find it with its directed schedule.
"""

import importlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.simulation.plain import Evidence

MODULES = ("plain_log", "plain_reads", "plain_durability", "plain_security")


def scripts() -> Iterator[tuple[int, Callable[[Path], Evidence]]]:
    """(number of the hazard, script) in order."""
    found = []
    for name in MODULES:
        module = importlib.import_module(f"tests.simulation.{name}")
        for attribute in dir(module):
            if match := re.fullmatch(r"show_h(\d+)", attribute):
                found.append((int(match[1]), getattr(module, attribute)))
    yield from sorted(found, key=lambda item: item[0])


def main() -> None:
    table = Table("hazard", "violated", "what the plain library did", "found in")
    for number, script in scripts():
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as directory:
            evidence = script(Path(directory))
        milliseconds = (time.perf_counter() - started) * 1000
        table.add_row(f"H{number}", str(evidence.violated), evidence.what, f"{milliseconds:.0f} ms")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
