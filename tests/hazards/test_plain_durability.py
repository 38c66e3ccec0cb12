"""Plain pysyncobj 0.3.17 breaks its promises in these ways (what is on the disk)."""

import pathlib
from collections.abc import Callable

import pytest

from tests.simulation import plain_durability
from tests.simulation.plain import Evidence


@pytest.mark.parametrize(
    "show",
    [
        plain_durability.show_h8,
        plain_durability.show_h11,
        plain_durability.show_h12,
        plain_durability.show_h14,
        plain_durability.show_h27,
        plain_durability.show_h28,
        plain_durability.show_h29,
        plain_durability.show_h30,
        plain_durability.show_h31,
    ],
    ids=lambda show: show.__name__.removeprefix("show_"),
)
def test_plain_library_violates(tmp_path: pathlib.Path, show: Callable[[pathlib.Path], Evidence]) -> None:
    evidence = show(tmp_path)
    print(evidence)
    assert evidence.violated, evidence
