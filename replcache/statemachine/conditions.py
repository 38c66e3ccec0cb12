"""Conditions of writes: checked against the living entry, answered with what did not hold."""

from replcache.statemachine.commands import Condition
from replcache.statemachine.entries import Row
from replcache.statemachine.results import Refusal, RefusalCode


def check_condition(condition: Condition, row: Row | None) -> Refusal | None:
    """None when all that is given holds. Messages show versions, never values."""
    version = 0 if row is None else row[3]
    if condition.if_absent and row is not None:
        return _failed(f"if_absent: the key exists with version {version}")
    if condition.if_present and row is None:
        return _failed("if_present: the key is missing")
    if condition.if_version is not None and condition.if_version != version:
        found = f"the version is {version}" if version else "the key is missing"
        return _failed(f"if_version {condition.if_version}: {found}")
    if condition.if_value is not None and (row is None or row[0] != condition.if_value):
        found = "the key is missing" if row is None else f"the value of version {version} is another"
        return _failed(f"if_value: {found}")
    if condition.if_mod_revision is not None and (row is None or row[2] != condition.if_mod_revision):
        found = "the key is missing" if row is None else f"the last change was at revision {row[2]}"
        return _failed(f"if_mod_revision {condition.if_mod_revision}: {found}")
    return None


def _failed(message: str) -> Refusal:
    return Refusal(RefusalCode.CONDITION_FAILED, message)
