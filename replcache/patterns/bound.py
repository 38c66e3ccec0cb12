"""Whether the database is too far behind for another write: what one process knows of it.

Every write brings the drainer's last status along, which costs nothing, and says enough while the drainer
works or the database refuses. A writer that hangs and a drainer that is not there publish nothing: then the
last status may be a clean one, for ever. So when writes of this process are not confirmed for a while, the
queue itself is looked at.
"""

from dataclasses import dataclass, replace

from replcache.clock import Clock
from replcache.errors import Overloaded
from replcache.patterns.behind import Lag, Queue, Status
from replcache.patterns.source import CacheStep, Steps
from replcache.patterns.through_options import ThroughOptions, ThroughStatistics

# The cluster is asked again how far the database is behind, when it was too far, at most this often.
_LAG_INTERVAL_S = 0.25
# Writes that are not confirmed for so long, and for so many flush_every, are a reason to look; at the latest
# for half of max_lag.
_PATIENCE_S = 1.0
_PATIENCE_FLUSHES = 3


@dataclass(slots=True)
class _Shard:
    """What the writes of this process have seen of a shard.

    status: the last, without its age. waiting_since: when the first write was accepted that came after its
    swept_revision. quiet_since: when the first was that came with exactly this status: nothing was published
    since. is_late: the last write still saw an old confirmation.
    """

    status: Status | None = None
    waiting_since: float | None = None
    quiet_since: float = 0.0
    is_late: bool = False


class LagBound:
    """Keeps max_rows and max_lag of one view. Serves any number of threads or tasks."""

    def __init__(
        self, clock: Clock, queue: Queue, options: ThroughOptions, statistics: ThroughStatistics
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._options = options
        self._statistics = statistics
        self._patience_s = min(
            options.max_lag_s / 2, max(_PATIENCE_S, _PATIENCE_FLUSHES * options.draining.flush_every_s)
        )
        self._shards = [_Shard() for _ in range(options.shards)]
        self._swept_revision = 0
        self._lag = Lag(0, 0.0)
        self._lag_at = float("-inf")
        # Accepted here since the figure of _lag.
        self._accepted = 0

    def note(self, shard: int, status: Status) -> None:
        """What the write brought along for nothing. The drainer counts rows of one shard."""
        self._note_shard(self._shards[shard], replace(status, age_s=0.0))
        self._accepted += 1
        if status.swept_revision > self._swept_revision and not status.is_failing:
            self._swept_revision = status.swept_revision
            self._accepted = 0
            self._see(Lag(status.left, 0.0))
        elif status.rows > status.left:
            rows = max(status.rows * self._options.shards, self._lag.rows)
            self._see(Lag(rows, status.behind_s + status.age_s))

    def _note_shard(self, shard: _Shard, status: Status) -> None:
        now = self._clock.now()
        known = shard.status
        if status != known:
            shard.quiet_since = now
            shard.status = status
        if shard.waiting_since is None or known is None or status.swept_revision > known.swept_revision:
            shard.waiting_since = now
        shard.is_late = now - shard.waiting_since >= self._patience_s

    def _see(self, lag: Lag) -> None:
        self._lag = lag
        self._statistics.lag_rows, self._statistics.lag_s = lag.rows, lag.seconds

    def check(self) -> Steps:
        """Refuses when the database is too far behind.

        Raises:
            Overloaded: nothing was written.
        """
        options = self._options
        waited_s = self._clock.now() - self._lag_at
        is_due = self._is_late() and waited_s >= max(self._patience_s, _LAG_INTERVAL_S)
        if not is_due and not self._is_too_far():
            return
        if waited_s >= _LAG_INTERVAL_S:
            self._lag_at = self._clock.now()
            lag: Lag = yield CacheStep(self._look)
            self._accepted = 0
            self._see(lag)
        if self._is_too_far():
            self._statistics.refused_writes += 1
            lag = self._lag
            rows = lag.rows + self._accepted
            raise Overloaded(
                f"the database is behind view {options.name!r} by {rows} rows and {lag.seconds:.1f} s; "
                f"at most {options.max_rows} rows and {options.max_lag_s:g} s are allowed",
                retry_after_s=max(_LAG_INTERVAL_S, options.draining.flush_every_s),
                metadata={"view": options.name, "rows": str(rows), "seconds": f"{lag.seconds:.3f}"},
            )

    def _is_late(self) -> bool:
        """Of who writes rarely, the last write has seen nothing that is wrong; its confirmation is older."""
        now, longest_s = self._clock.now(), self._options.max_lag_s
        return any(
            shard.is_late or (shard.waiting_since is not None and now - shard.waiting_since > longest_s)
            for shard in self._shards
        )

    def _is_too_far(self) -> bool:
        lag, options = self._lag, self._options
        return lag.rows + self._accepted >= options.max_rows or lag.seconds > options.max_lag_s

    async def _look(self) -> Lag:
        """The queue itself. A row that changes all the time is always young: while the drainer is silent, it
        is as old as the first change that this process knows of."""
        rows, seconds = 0, 0.0
        for number, shard in enumerate(self._shards):
            found = await self._queue.shard_lag(number, max(0, self._options.max_rows - rows))
            rows += found.rows
            seconds = max(seconds, found.waiting_s)
            if not found.waiting:
                shard.waiting_since, shard.is_late = None, False
            elif shard.status == replace(found.status, age_s=0.0):
                seconds = max(seconds, self._clock.now() - shard.quiet_since)
        return Lag(rows, seconds)
