"""Plain pysyncobj 0.3.17 breaks its promises in these ways (log and commit): why the engine is hardened."""

import pathlib
from collections.abc import Callable

import pytest

from tests.simulation import plain_log
from tests.simulation.plain import Evidence


@pytest.mark.parametrize(
    "show",
    [
        plain_log.show_h1,
        plain_log.show_h2,
        plain_log.show_h3,
        plain_log.show_h4,
        plain_log.show_h5,
        plain_log.show_h6,
        plain_log.show_h7,
        plain_log.show_h9,
        plain_log.show_h10,
        plain_log.show_h13,
        plain_log.show_h15,
    ],
    ids=lambda show: show.__name__.removeprefix("show_"),
)
def test_plain_library_violates(tmp_path: pathlib.Path, show: Callable[[pathlib.Path], Evidence]) -> None:
    evidence = show(tmp_path)
    print(evidence)
    assert evidence.violated, evidence
