"""Frames between gateway and core: any cut of the bytes, broken frames, windows of streams."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from replcache.server import gateway_wire as wire
from replcache.server.gateway_wire import BrokenFrame, End, Kind, Link, Stream
from tests.helpers.wait import async_wait_until

Frame = tuple[int, int, bytes]


def record(frames: list[Frame], *frame: Any) -> None:
    frames.append(frame)


@asynccontextmanager
async def two_ends(on_left: list[Frame], on_right: list[Frame]) -> AsyncIterator[tuple[Link, Link]]:
    """Two links over a real pair of sockets that write what they get into the lists."""
    links = []
    for sock, frames in zip(socket.socketpair(), (on_left, on_right), strict=True):
        sock.setblocking(False)
        make = partial(Link, partial(record, frames))
        _, link = await asyncio.get_running_loop().create_unix_connection(make, sock=sock)
        links.append(link)
    try:
        yield links[0], links[1]
    finally:
        for link in links:
            link.close()
            await link.closed.wait()


def sent_bytes(frames: list[Frame]) -> bytes:
    return b"".join(
        len(body).to_bytes(4, "little") + bytes([kind]) + call.to_bytes(4, "little") + body
        for kind, call, body in frames
    )


@pytest.mark.parametrize("seed", range(5))
def test_frames_arrive_whole_however_the_bytes_are_cut(seed: int) -> None:
    rng = random.Random(seed)
    frames = [
        (rng.randint(1, 11), rng.getrandbits(32), rng.randbytes(rng.choice((0, 1, 9, 300, 70_000))))
        for _ in range(40)
    ]
    got: list[Frame] = []
    link = Link(lambda *frame: got.append(frame))
    data = sent_bytes(frames)
    while data:
        size = rng.choice((1, 3, 8, 9, 10, 1000, 65536))
        link.data_received(data[:size])
        data = data[size:]
    assert got == frames, f"seed {seed}"


async def test_frames_of_one_turn_leave_in_order() -> None:
    got: list[Frame] = []
    async with two_ends([], got) as (left, _):
        for number in range(1000):
            left.send(Kind.MESSAGE, number, b"x" * (number % 7))
        await async_wait_until(lambda: len(got) == 1000, 5, "all frames")
    assert got == [(Kind.MESSAGE, number, b"x" * (number % 7)) for number in range(1000)]


async def test_both_ends_learn_that_the_other_is_gone() -> None:
    async with two_ends([], []) as (left, right):
        left.close()
        await asyncio.wait_for(right.closed.wait(), 5)
        right.send(Kind.MESSAGE, 1, b"into the void")


async def test_frame_that_is_too_long_closes_the_connection() -> None:
    async with two_ends([], []) as (left, right):
        right.data_received((wire.FRAME_BYTES_MAX + 1).to_bytes(4, "little") + b"\1" + bytes(4))
        await asyncio.wait_for(left.closed.wait(), 5)
        assert "frame of" in right.fault


def test_heads_and_ends_come_back() -> None:
    assert wire.unpack_call(wire.pack_call(7, 12.5, 3, b"request")) == (7, 12.5, 3, b"request")
    end = End(14, "naïve ü", b"\0\1details")
    assert wire.unpack_end(wire.pack_end(end)) == end
    assert wire.unpack_grace(wire.pack_grace(0.25)) == 0.25


@pytest.mark.parametrize("cut", [0, 3])
def test_short_bodies_are_broken_frames(cut: int) -> None:
    for unpack, whole in (
        (wire.unpack_call, wire.pack_call(1, 2.0, 0)),
        (wire.unpack_end, wire.pack_end(End(0))),
        (wire.unpack_end, wire.pack_end(End(1, "text"))),
        (wire.unpack_grace, wire.pack_grace(1.0)),
    ):
        with pytest.raises(BrokenFrame):
            unpack(whole[:cut] if cut == 0 else whole[:-cut])


async def test_sender_holds_back_at_the_window_and_goes_on_with_credit() -> None:
    got: list[Frame] = []
    credits: list[Frame] = []
    message = b"m" * (64 * 1024)
    total = 64  # four windows
    async with two_ends(credits, got) as (left, right):
        sender, receiver = Stream(left, 5), Stream(right, 5)
        written = 0

        async def write_all() -> None:
            nonlocal written
            for _ in range(total):
                await sender.write(message)
                written += 1

        async with asyncio.TaskGroup() as group:
            group.create_task(write_all())
            await async_wait_until(lambda: len(got) >= 16, 5, "a window full")
            for _ in range(50):
                await asyncio.sleep(0)
            assert written == 16
            taken = 0
            while taken < total:
                await async_wait_until(lambda: bool(got), 5, "more messages")
                receiver.deliver(got.pop(0)[2])
                assert await receiver.read() == message
                taken += 1
                for _ in range(3):
                    await asyncio.sleep(0)
                while credits:
                    sender.credit(credits.pop(0)[2])
        assert written == total


async def test_end_comes_after_the_messages_that_were_there() -> None:
    stream = Stream(Link(lambda *_: None), 1)
    stream.deliver(b"a")
    stream.finish()
    assert [await stream.read(), await stream.read(), await stream.read()] == [b"a", None, None]


def test_credit_that_was_not_used_is_a_broken_frame() -> None:
    with pytest.raises(BrokenFrame):
        Stream(Link(lambda *_: None), 1).credit(b"\1\0\0\0")
