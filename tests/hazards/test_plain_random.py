"""Chance alone finds many of the hazards of plain pysyncobj 0.3.17 (the table is in docs/hazards.md)."""

import logging

import pytest

from tests.simulation.plain_random import CONFIGURATIONS, play_plain


def test_one_seed_of_each_configuration_breaks_many_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library logs a critical line for each applied entry that it cuts off: thousands here."""
    monkeypatch.setattr(logging.getLogger("pysyncobj"), "disabled", True)
    broken = {promise for configuration in CONFIGURATIONS for promise in play_plain(0, configuration)}
    assert len(broken) >= 6, sorted(broken)
    assert {"acknowledged write lost", "stale read at a leader", "callback never called"} <= broken


def test_same_seed_breaks_the_same_promises() -> None:
    assert play_plain(3, "file journal, small batches") == play_plain(3, "file journal, small batches")
