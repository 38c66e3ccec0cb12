"""Plain pysyncobj 0.3.17 breaks its promises in these ways (the open peer port)."""

import pathlib
from collections.abc import Callable

import pytest

from tests.simulation import plain_security
from tests.simulation.plain import Evidence


@pytest.mark.parametrize(
    "show",
    [
        plain_security.show_h33,
        plain_security.show_h34,
        plain_security.show_h35,
        plain_security.show_h36,
        plain_security.show_h37,
        plain_security.show_h38,
    ],
    ids=lambda show: show.__name__.removeprefix("show_"),
)
def test_plain_library_violates(tmp_path: pathlib.Path, show: Callable[[pathlib.Path], Evidence]) -> None:
    evidence = show(tmp_path)
    print(evidence)
    assert evidence.violated, evidence
