"""Futures that wait for a number (applied index, revision) to be reached."""

import asyncio
import heapq
import itertools

# Fewer than this are never looked through.
TIDY_MIN = 256


class Waiters:
    """A heap of (number, future). Cancelled futures are skipped when their turn comes, and dropped when there
    may be as many of them as of others: a number that is never reached has no turn."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._tidy_at = TIDY_MIN

    def add(self, number: int) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (number, next(self._order), future))
        if len(self._heap) >= self._tidy_at:
            self._heap = [entry for entry in self._heap if not entry[2].done()]
            heapq.heapify(self._heap)
            self._tidy_at = max(TIDY_MIN, 2 * len(self._heap))
        return future

    def reached(self, number: int) -> None:
        while self._heap and self._heap[0][0] <= number:
            future = heapq.heappop(self._heap)[2]
            if not future.done():
                future.set_result(None)

    def fail_all(self, error: Exception) -> None:
        heap, self._heap = self._heap, []
        for _, _, future in heap:
            if not future.done():
                future.set_exception(error)
