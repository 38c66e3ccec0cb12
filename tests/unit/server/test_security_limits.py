"""Buckets, counts and lines by a clock that stands still until it is told otherwise."""

import pytest
from structlog.testing import capture_logs

from replcache import constants
from replcache.errors import RateLimited
from replcache.server.security.auth_file import LimitSettings
from replcache.server.security.limits import Limits
from replcache.server.security.refusals import FailureBrake, RefusalLog
from replcache.server.security.tokens import TokenMemory

NONE = LimitSettings(None, None, None)


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at


def test_rate_is_what_was_granted_over_time() -> None:
    clock = Hand()
    client = Limits(LimitSettings(100.0), clock, 10).of("user a", NONE)
    done = 0
    for _ in range(1000):
        clock.at += 0.01
        try:
            client.admit(5, 0)
        except RateLimited:
            continue
        done += 5
    # 10 s at 100/s, and what the full bucket held at the beginning.
    assert 1000 <= done <= 1105


def test_refusal_says_when_to_come_back() -> None:
    clock = Hand()
    client = Limits(LimitSettings(10.0), clock, 10).of("user a", NONE)
    client.admit(30, 0)
    with pytest.raises(RateLimited) as caught:
        client.admit(1, 0)
    wait_s = caught.value.retry_after_s
    assert wait_s is not None
    assert caught.value.metadata == {"limit": "10", "unit": "operations"}
    clock.at += wait_s - 0.11
    with pytest.raises(RateLimited):
        client.admit(1, 0)
    clock.at += 0.12
    client.admit(1, 0)


def test_bytes_of_answers_count_too() -> None:
    clock = Hand()
    client = Limits(LimitSettings(0.0, 1000.0), clock, 10).of("user a", NONE)
    assert client.counts_bytes
    client.admit(1, 10)
    client.charge_answer(5000)
    with pytest.raises(RateLimited, match="1000 bytes a second"):
        client.admit(1, 10)
    clock.at += 4.02
    client.admit(1, 10)


def test_calls_at_once() -> None:
    client = Limits(LimitSettings(calls=2), Hand(), 10).of("user a", NONE)
    client.begin_call()
    client.begin_call()
    with pytest.raises(RateLimited, match="2 calls of this client are under way"):
        client.begin_call()
    client.end_call()
    client.begin_call()


def test_own_limits_win_and_a_user_has_them_over_all_connections() -> None:
    limits = Limits(LimitSettings(10.0, 20.0, 3), Hand(), 10)
    own = LimitSettings(None, 0.0, 7)
    client = limits.of("user a", own)
    assert client.settings == LimitSettings(10.0, 0.0, 7)
    assert limits.of("user a", own) is client
    assert limits.of("user b", own) is not client
    assert limits.of("user a", NONE) is not client


def test_idle_clients_are_forgotten_and_busy_ones_are_not() -> None:
    limits = Limits(LimitSettings(10.0), Hand(), 2)
    busy = limits.of("busy", NONE)
    busy.begin_call()
    for number in range(10):
        limits.of(f"client {number}", NONE)
    assert limits.of("busy", NONE) is busy


def test_one_line_for_each_source_and_cause_in_an_interval() -> None:
    clock = Hand()
    log = RefusalLog(clock)
    with capture_logs() as lines:
        for _ in range(500):
            log.note("ipv4:10.0.0.1", "UNAUTHENTICATED", why="x")
        log.note("ipv4:10.0.0.1", "PERMISSION_DENIED")
        log.note("ipv4:10.0.0.2", "UNAUTHENTICATED")
        assert len(lines) == 3
        clock.at += constants.REFUSAL_LOG_INTERVAL_S
        log.note("ipv4:10.0.0.1", "UNAUTHENTICATED")
    assert lines[-1]["not_logged_before"] == 499


def test_many_sources_do_not_flood_the_log() -> None:
    clock = Hand()
    log = RefusalLog(clock)
    with capture_logs() as lines:
        for number in range(1000):
            log.note(f"ipv6:{number}", "UNAUTHENTICATED")
        assert len(lines) == constants.REFUSAL_LOG_LINES_MAX
        clock.at += constants.REFUSAL_LOG_INTERVAL_S
        log.note("one more", "UNAUTHENTICATED")
    assert lines[-2]["number"] == 1000 - constants.REFUSAL_LOG_LINES_MAX


def test_brake_holds_one_source_and_lets_go() -> None:
    clock = Hand()
    brake = FailureBrake(clock)
    for _ in range(constants.AUTH_FAILURES_MAX):
        assert brake.wait_s("a") == 0.0
        brake.note("a")
    assert brake.wait_s("a") == constants.AUTH_FAILURES_INTERVAL_S
    assert brake.wait_s("b") == 0.0
    clock.at += constants.AUTH_FAILURES_INTERVAL_S
    assert brake.wait_s("a") == 0.0


def test_token_memory_is_bounded_and_forgets() -> None:
    clock = Hand()
    memory: TokenMemory[str] = TokenMemory(clock, entries_max=3, good_s=10.0, bad_s=5.0)
    right = memory.digest("Bearer right")
    memory.remember(right, "caller")
    for number in range(100):
        memory.remember_wrong(memory.digest(f"Bearer {number}"))
    assert len(memory) == 4
    assert memory.find(right) == "caller"
    last = memory.digest("Bearer 99")
    assert memory.is_wrong(last)
    assert not memory.is_wrong(right)
    clock.at += 5.0
    assert not memory.is_wrong(last)
    clock.at += 5.0
    assert memory.find(right) is None
    other: TokenMemory[str] = TokenMemory(clock, entries_max=3, good_s=10.0, bad_s=5.0)
    assert other.digest("Bearer right") != right, "the key is each process's own"
