"""Plain pysyncobj 0.3.17 breaks its promises in these ways (outcomes, reads, elections, liveness)."""

import pathlib
from collections.abc import Callable

import pytest

from tests.simulation import plain_reads
from tests.simulation.plain import Evidence


@pytest.mark.parametrize(
    "show",
    [
        plain_reads.show_h16,
        plain_reads.show_h17,
        plain_reads.show_h18,
        plain_reads.show_h19,
        plain_reads.show_h20,
        plain_reads.show_h21,
        plain_reads.show_h22,
        plain_reads.show_h23,
        plain_reads.show_h24,
        plain_reads.show_h25,
        plain_reads.show_h26,
    ],
    ids=lambda show: show.__name__.removeprefix("show_"),
)
def test_plain_library_violates(tmp_path: pathlib.Path, show: Callable[[pathlib.Path], Evidence]) -> None:
    evidence = show(tmp_path)
    print(evidence)
    assert evidence.violated, evidence
