"""Whether the replicas are still equal: the hash of the state at one applied index, compared by the leader.

Replicas apply the same log and must hold the same bytes. A bad memory bit, a bug or a meddled file breaks
that silently; the hash shows it. It reads the whole state (about 2 s for a million keys) in a thread, while
the node goes on.

How everybody meets at one index: the leader asks for the hash at the last index of its log. The question
overtakes the entries behind that index on every link, so it is there before anybody can have applied more.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from replcache.clock import Clock
from replcache.errors import DeadlineExceeded, OutOfRange, ReplcacheError
from replcache.observability.logs import get_logger
from replcache.observability.metrics import Metrics
from replcache.raft.port import RaftPort, Role
from replcache.statemachine.snapshot import SnapshotView

_log = get_logger(__name__)
QUESTION = "state-hash"
# For the slowest node to hash the largest state, and for an index that is still to be applied.
CHECK_TIMEOUT_S = 120.0
POLL_S = 0.02


class StateHasher:
    """Hashes this node's state; one at a time, because each reads everything."""

    def __init__(self, port: RaftPort, clock: Clock) -> None:
        self._port = port
        self._clock = clock
        self._hashing = asyncio.Lock()

    async def at(self, index: int, deadline: float) -> tuple[int, bytes]:
        """The index of the last entry that is in the state, and the state's SHA-256.

        Args:
            index: the state as of exactly this applied index, 0: as of now.
        Raises:
            OutOfRange: the node is past it. DeadlineExceeded: it was not there in time.
        """
        view = self._port.machine.begin_snapshot() if not index else await self._view_at(index, deadline)
        try:
            async with self._hashing:
                return view.index, await asyncio.to_thread(view.digest)
        finally:
            view.close()

    async def _view_at(self, index: int, deadline: float) -> SnapshotView:
        found: asyncio.Future[SnapshotView] = asyncio.get_running_loop().create_future()

        def on_applied(applied: int, _: Sequence[object]) -> None:
            if applied == index and not found.done():
                found.set_result(self._port.machine.begin_snapshot())

        self._port.add_applied_listener(on_applied)
        try:
            while not found.done():
                machine = self._port.machine
                if machine.applied_index > index:
                    raise OutOfRange(f"the state is past index {index} already, at {machine.applied_index}")
                if self._port.status().applied_index >= index:
                    return machine.begin_snapshot()
                if self._clock.now() > deadline:
                    raise DeadlineExceeded(f"index {index} was not applied here within the deadline")
                # Not by the listener alone: it hears of commands only, and the entry may be another one.
                await asyncio.wait((found,), timeout=POLL_S)
            return found.result()
        finally:
            self._port.remove_applied_listener(on_applied)
            if not found.done():
                found.cancel()

    async def answer(self, payload: bytes) -> bytes:
        """The peers' question QUESTION: `{"index": ...}`, answered with index and hash, or with nothing."""
        try:
            index = int(json.loads(payload)["index"])
            at, digest = await self.at(index, self._clock.now() + CHECK_TIMEOUT_S)
        except (ValueError, OverflowError, RecursionError, TypeError, KeyError, ReplcacheError) as error:
            _log.info("state_not_hashed", error=str(error))
            return b""
        return json.dumps({"index": at, "digest": digest.hex()}).encode()


@dataclass(frozen=True, slots=True)
class Comparison:
    """equal, diverged: names of nodes; the minority has diverged, and with a tie everybody is named."""

    index: int
    at: float
    equal: tuple[str, ...]
    diverged: tuple[str, ...]


class StateCheck:
    """Compares the replicas now and then, on the leader.

    Attributes:
        last: the newest comparison that this node made.
    """

    def __init__(
        self, port: RaftPort, hasher: StateHasher, metrics: Metrics, clock: Clock, interval_s: float
    ) -> None:
        self._port = port
        self._hasher = hasher
        self._metrics = metrics
        self._clock = clock
        self._interval_s = interval_s
        self.last: Comparison | None = None

    async def run(self) -> None:
        """The background task; without an interval it only waits for its end."""
        while True:
            await asyncio.sleep(self._interval_s or 3600.0)
            if self._interval_s and self._port.status().role is Role.LEADER:
                await self.compare()

    async def compare(self) -> Comparison | None:
        """Asks all connected peers; None when fewer than two nodes could say something."""
        status = self._port.status()
        payload = json.dumps({"index": status.last_log_index}).encode()
        deadline = self._clock.now() + CHECK_TIMEOUT_S
        answers, mine = await asyncio.gather(
            self._port.ask(QUESTION, payload, deadline), self._hasher.answer(payload)
        )
        answers[status.node] = mine
        found = compared(answers)
        if found is None:
            return None
        index, equal, diverged = found
        self.last = Comparison(index, self._clock.now(), equal, diverged)
        self._metrics.state_checks += 1
        self._metrics.state_diverged_nodes = len(diverged)
        if diverged:
            self._metrics.state_divergences += 1
            _log.error("state_diverged", nodes=", ".join(diverged), equal=", ".join(equal), index=index)
        else:
            _log.info("state_compared", nodes=", ".join(equal), index=index)
        return self.last


def compared(answers: dict[str, bytes]) -> tuple[int, tuple[str, ...], tuple[str, ...]] | None:
    """(index, equal nodes, diverged nodes) of the nodes' answers; None: nothing to compare.

    Only hashes of one index are compared: that of most nodes.
    """
    found: dict[str, tuple[int, str]] = {}
    for name, answer in answers.items():
        said = _index_and_digest(name, answer) if answer else None
        if said is not None:
            found[name] = said
    indexes = [index for index, _ in found.values()]
    if not indexes:
        return None
    index = max(indexes, key=lambda one: (indexes.count(one), one))
    digests = {name: digest for name, (at, digest) in found.items() if at == index}
    if len(digests) < 2:
        return None
    votes = list(digests.values())
    counts = sorted({digest: votes.count(digest) for digest in votes}.items(), key=lambda item: -item[1])
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        return index, (), tuple(sorted(digests))
    equal = tuple(sorted(name for name, digest in digests.items() if digest == counts[0][0]))
    return index, equal, tuple(sorted(set(digests) - set(equal)))


def _index_and_digest(name: str, answer: bytes) -> tuple[int, str] | None:
    """What a node answered; None, and logged, when it is no answer: another version's, or a damaged one."""
    try:
        fields = json.loads(answer)
        index, digest = fields["index"], fields["digest"]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        _log.warning("state_answer_unreadable", node=name, error=str(error))
        return None
    # bool is an int in Python: true would be index 1.
    if type(index) is not int or not 0 <= index < 2**64 or type(digest) is not str:
        _log.warning("state_answer_unreadable", node=name, error="index and digest of other types")
        return None
    return index, digest
