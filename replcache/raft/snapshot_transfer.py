"""Bringing a peer up by snapshot: chunks bound to (term, snapshot, offset), paced by acknowledgement.

Raft paper 7, with the chunks made resumable. One chunk is under way for each peer. A receiver acknowledges
"installed" only when the whole file was verified, is durable, and is loaded; it never goes behind what it has
committed. Replaces pysyncobj's transmission code: hazards H4, H5, H6, H12, H23.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from replcache.raft.membership import Configuration
from replcache.raft.messages import SnapshotChunk, SnapshotReply
from replcache.statemachine.machine import StateMachine

if TYPE_CHECKING:
    from replcache.raft.engine import Engine

RESEND_HEARTBEATS = 10


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A durable snapshot: the state after `index`, whose entry had `term`. `size`: bytes of its file."""

    index: int
    term: int
    size: int


class SnapshotPort(Protocol):
    """What the engine needs of the snapshot store; small, synchronous file work only."""

    def latest(self) -> SnapshotInfo | None: ...

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes | None:
        """Bytes of the file; None when this snapshot is gone (a newer one replaced it)."""
        ...

    def receive(self, index: int, term: int, total: int, offset: int, data: bytes) -> int:
        """Stores a chunk; returns the next offset that is wanted (not moved by a gap)."""
        ...


@dataclass(slots=True)
class _Sending:
    info: SnapshotInfo
    offset: int = 0
    sequence: int = 0
    is_waiting: bool = False
    sent_at: float = float("-inf")


class SnapshotSender:
    """The leader's side."""

    def __init__(self, engine: "Engine", port: SnapshotPort) -> None:
        self._engine = engine
        self._port = port
        self._sending: dict[str, _Sending] = {}
        self.chunks_sent = 0

    @property
    def is_sending(self) -> bool:
        return bool(self._sending)

    def reset(self) -> None:
        self._sending = {}

    def forget(self, peer: str) -> None:
        """The connection was lost: the next chunk asks for the offset anew."""
        sending = self._sending.get(peer)
        if sending is not None:
            sending.is_waiting = False

    def drop(self, peer: str) -> None:
        """The peer is gone, or has another disk: a transfer to it begins anew."""
        self._sending.pop(peer, None)

    def send_to(self, peer: str) -> None:
        """Called whenever the peer needs entries that are gone here."""
        engine = self._engine
        now = engine.clock.now()
        sending = self._sending.get(peer)
        if sending is not None and sending.info.index < engine.wal.base_index:
            sending = None  # what follows it is gone from the log by now: a newer snapshot is needed
        if sending is None:
            info = self._port.latest()
            assert info is not None and info.index >= engine.wal.base_index, (info, engine.wal.base_index)
            sending = self._sending[peer] = _Sending(info)
        patience = engine.config.heartbeat_s * RESEND_HEARTBEATS
        if sending.is_waiting and now - sending.sent_at < patience:
            return
        data = self._port.read(sending.info, sending.offset, engine.config.snapshot_chunk_bytes)
        if data is None:
            del self._sending[peer]
            return
        sending.sequence += 1
        info = sending.info
        chunk = SnapshotChunk(
            engine.term, sending.sequence, info.index, info.term, sending.offset, info.size, data
        )
        sending.is_waiting = True
        sending.sent_at = now
        self.chunks_sent += 1
        engine.send(peer, chunk, lsn=engine.term_lsn)

    def on_reply(self, peer: str, message: SnapshotReply) -> None:
        """Only called with a reply of the current term."""
        engine = self._engine
        progress = engine.leadership.progress.get(peer)
        if progress is None:
            return
        progress.last_heard = engine.clock.now()
        if message.installed:
            self._sending.pop(peer, None)
            progress.match = max(progress.match, message.match_index)
            progress.next = max(progress.next, progress.match + 1)
            engine.leadership.probe(peer, progress)
            engine.leadership.advance_commit()
            engine.leadership.replicate_to(peer, progress)
            return
        sending = self._sending.get(peer)
        if sending is None or (sending.info.index, sending.info.term) != (
            message.last_index,
            message.last_term,
        ):
            return
        if message.refused:
            # Damaged on the way or at the receiver: from the beginning, no sooner than the next tick.
            sending.offset = 0
            return
        if message.sequence == sending.sequence:
            is_taken = message.offset > sending.offset
            sending.offset = message.offset
            if not is_taken:
                return  # no room for it, or started anew: sent again in a while, not in a circle without end
            if sending.offset < sending.info.size:
                sending.is_waiting = False
                self.send_to(peer)
            else:
                # All bytes are there; the receiver verifies and loads. Ask again when it stays silent.
                sending.is_waiting = True
                sending.sent_at = engine.clock.now()


class SnapshotReceiver:
    """The follower's side. Verifying and loading are slow: the shell does them and calls `installed`."""

    def __init__(self, engine: "Engine", port: SnapshotPort) -> None:
        self._engine = engine
        self._port = port
        self._installing: tuple[int, int] | None = None
        self._asked_by = ("", 0, 0)
        self.ignored_old = 0
        self.installed_count = 0

    def on_chunk(self, peer: str, message: SnapshotChunk) -> None:
        """The caller has settled the term. Chunks move no commit index (H3)."""
        engine = self._engine
        if message.last_index <= engine.commit_index:
            # Older than what is applied here: never go back (H4), say what is committed instead.
            self.ignored_old += 1
            self._reply(peer, message, installed=True, match=engine.commit_index)
            return
        wanted = (message.last_index, message.last_term)
        if self._installing is not None:
            if self._installing == wanted:
                self._asked_by = (peer, message.term, message.sequence)
                self._reply(peer, message, offset=message.total)
            return
        offset = self._port.receive(*wanted, message.total, message.offset, message.data)
        self._reply(peer, message, offset=offset)
        if offset == message.total:
            self._installing = wanted
            self._asked_by = (peer, message.term, message.sequence)
            engine.shell.install_snapshot(*wanted)

    def on_verified(self, index: int, term: int, *, is_good: bool) -> bool:
        """The shell has verified (or refused) the file. True: the engine wants it loaded now."""
        assert self._installing == (index, term), (self._installing, index, term)
        self._installing = None
        peer, asked_term, sequence = self._asked_by
        engine = self._engine
        if not is_good:
            reply = SnapshotReply(engine.term, sequence, index, term, 0, refused=True)
            if asked_term == engine.term:
                engine.send(peer, reply, lsn=engine.term_lsn)
            return False
        if index <= engine.commit_index:
            self.ignored_old += 1
            return False
        return True

    def on_loaded(self, index: int, term: int, members: Configuration, machine: StateMachine) -> None:
        """The snapshot is durable and loaded: it takes the place of state and log (Raft paper 7)."""
        engine, wal = self._engine, self._engine.wal
        if engine.halted or index <= engine.commit_index:
            return
        if wal.term_at(index) == term:
            wal.compact_to(index)  # entries behind it stay
        else:
            wal.reset(index, term)
        engine.take_over_snapshot(index, members, machine)
        self.installed_count += 1
        peer, asked_term, sequence = self._asked_by
        if asked_term == engine.term:
            reply = SnapshotReply(
                engine.term, sequence, index, term, 0, installed=True, match_index=engine.commit_index
            )
            engine.send(peer, reply, lsn=engine.log_lsn)

    def _reply(
        self, peer: str, message: SnapshotChunk, *, offset: int = 0, installed: bool = False, match: int = 0
    ) -> None:
        engine = self._engine
        reply = SnapshotReply(
            engine.term,
            message.sequence,
            message.last_index,
            message.last_term,
            offset,
            installed=installed,
            match_index=match,
        )
        # A claim about committed entries waits until they are durable here.
        is_durable = not match or engine.wal.durable_index >= match
        engine.send(peer, reply, lsn=engine.term_lsn if is_durable else engine.log_lsn)


def compact_log(engine: "Engine", index: int) -> None:
    """An own snapshot at `index` is durable: the log before it may go, but for a reserve for slow peers."""
    wal, config = engine.wal, engine.config
    keep_from, kept_bytes = wal.last_index, 0
    oldest = max(wal.base_index, wal.last_index - config.log_kept_entries)
    while keep_from > oldest:
        kept_bytes += len(wal.entry(keep_from)[3])
        if kept_bytes > config.log_kept_bytes:
            break
        keep_from -= 1
    keep_from = min(index, keep_from)
    if keep_from > wal.base_index:
        wal.compact_to(keep_from)
    engine.configurations.forget_before(wal.base_index)
