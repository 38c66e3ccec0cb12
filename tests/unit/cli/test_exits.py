"""Exit codes: every error of the public tree has the one that is documented."""

import pytest

from replcache import errors
from replcache.cli.exits import Exit, exit_code


def all_errors(
    kind: type[errors.ReplcacheError] = errors.ReplcacheError,
) -> list[type[errors.ReplcacheError]]:
    return [kind, *(deeper for sub in kind.__subclasses__() for deeper in all_errors(sub))]


EXPECTED = {
    errors.NotFound: Exit.NEGATIVE,
    errors.ConditionFailed: Exit.NEGATIVE,
    errors.LockTimeout: Exit.NEGATIVE,
    errors.LockLost: Exit.LOCK_LOST,
    errors.FenceRejected: Exit.REFUSED,
    errors.QuotaExceeded: Exit.REFUSED,
    errors.TooLarge: Exit.REFUSED,
    errors.NoLeader: Exit.UNAVAILABLE,
    errors.Overloaded: Exit.UNAVAILABLE,
    errors.StalenessUnavailable: Exit.UNAVAILABLE,
    errors.DeadlineExceeded: Exit.UNAVAILABLE,
    errors.OutcomeUnknown: Exit.UNKNOWN,
    errors.PermissionDenied: Exit.NOT_ALLOWED,
    errors.ConfigError: Exit.USAGE,
    errors.CorruptLog: Exit.BROKEN,
    errors.NodeHalted: Exit.BROKEN,
}


@pytest.mark.parametrize(("kind", "expected"), EXPECTED.items(), ids=lambda value: str(value))
def test_error_has_its_documented_exit_code(kind: type[errors.ReplcacheError], expected: Exit) -> None:
    assert exit_code(kind("x")) == expected


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_code_3_promises_that_nothing_was_executed(kind: type[errors.ReplcacheError]) -> None:
    """A script may repeat a command that ended with 3, and must not be told so when it may have executed."""
    code = exit_code(kind("x"))
    assert code is not Exit.OK
    if kind.may_have_executed:
        assert code is Exit.UNKNOWN
    if code is Exit.UNAVAILABLE:
        assert issubclass(kind, errors.NotApplied)
