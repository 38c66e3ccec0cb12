"""Sequence numbers and what has been answered."""

from hypothesis import given
from hypothesis import strategies as st

from replcache.client.sessions import Session
from replcache.constants import CLIENT_UNSETTLED_WRITES_MAX


def test_sequences_count_from_one_and_acked_below_follows_the_oldest() -> None:
    session = Session(7, 60.0, 0.0)
    assert session.acked_below == 1
    assert [session.take() for _ in range(3)] == [1, 2, 3]
    assert session.acked_below == 1
    session.settle(2)
    assert session.acked_below == 1
    session.settle(1)
    assert session.acked_below == 3
    session.settle(3)
    session.settle(3)
    assert session.acked_below == 4
    assert session.unsettled == 0


def test_full_when_the_oldest_is_too_far_behind() -> None:
    session = Session(7, 60.0, 0.0)
    for _ in range(CLIENT_UNSETTLED_WRITES_MAX):
        assert not session.is_full
        session.settle(session.take() if session.unsettled else session.take() * 0)
    assert session.is_full
    session.settle(1)
    assert not session.is_full


@given(st.lists(st.integers(0, 9)))
def test_nothing_that_may_be_sent_again_is_acknowledged(choices: list[int]) -> None:
    session = Session(1, 60.0, 0.0)
    open_: list[int] = []
    last = 0
    for choice in choices:
        if choice < 5 or not open_:
            open_.append(session.take())
        else:
            session.settle(open_.pop(choice % len(open_)))
        assert all(session.acked_below <= sequence for sequence in open_)
        assert session.acked_below >= last
        last = session.acked_below
