"""Ports for local clusters: no two callers are given the same, also while nobody listens on them."""

import random
import socket
import subprocess
import sys

import pytest

from replcache.localcluster import free_ports
from replcache.localcluster.free_ports import RANGE_PORTS, is_free
from replcache.localcluster.layout import HOST

DRAW = """import random
from replcache.localcluster import free_ports
print(free_ports(3, random.Random(7)).grpc)
"""


def drawn_by_another_process() -> int:
    return int(subprocess.check_output([sys.executable, "-c", DRAW], timeout=60))


def test_another_process_that_draws_the_same_range_gets_another() -> None:
    mine = free_ports(3, random.Random(7)).grpc
    assert is_free(mine), "nobody listens: only the claim keeps the other away"
    assert abs(drawn_by_another_process() - mine) >= RANGE_PORTS


def test_the_claim_ends_with_its_process() -> None:
    # Three times: a test beside this one may take the range in between.
    assert any(drawn_by_another_process() == drawn_by_another_process() for _ in range(3))


def test_the_same_draw_twice_gives_two_ranges() -> None:
    first, second = (free_ports(9, random.Random(8)).grpc for _ in range(2))
    assert abs(first - second) >= RANGE_PORTS


def test_a_range_with_a_listener_is_not_given() -> None:
    taken = free_ports(3, random.Random(9))
    with socket.socket() as listener:
        listener.bind((HOST, taken.http + 2))
        listener.listen()
        assert not is_free(taken.http + 2)
        assert free_ports(3, random.Random(9)).grpc != taken.grpc


def test_no_room_is_said() -> None:
    with pytest.raises(OSError, match="no 11700 free ports"):
        for _ in range(2):
            free_ports(3_900, random.Random(10))
