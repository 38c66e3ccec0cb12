"""Directed schedules: each ends with every promise kept."""

import pytest

from tests.simulation.directed import SCRIPTS, play_script


@pytest.mark.parametrize("name", SCRIPTS)
def test_directed_schedule_breaks_no_promise(name: str) -> None:
    violation = play_script(SCRIPTS[name])
    assert violation is None, violation
