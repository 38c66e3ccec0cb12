"""Exactly once: sessions with sequence numbers (Raft dissertation 6.3), and plain request ids (AIP-155).

A command's reply is kept until its sender can't ask again: a session acknowledges by `acked_below`, or is
forgotten as a whole when it was not used for its ttl; a request id is kept for a fixed time. What is not
known any more is refused, never executed again. What can't be kept is refused before it is executed.

Invariant: bytes is the sum of reply_size over all stored replies, of sessions and request ids.
"""

from collections import deque
from typing import Final

from replcache.constants import (
    REQUEST_ID_TTL_MS,
    SECRET_SESSION_IDS_FROM,
    SESSION_REPLIES_MAX,
    SESSIONS_MAX,
)
from replcache.statemachine.expiry import Timers
from replcache.statemachine.frozen import FrozenTable
from replcache.statemachine.invariants import require
from replcache.statemachine.plain import PlainReader, PlainWriter
from replcache.statemachine.results import CommandResult, Refusal, RefusalCode, SessionResult
from replcache.statemachine.stored_results import read_result, reply_size, write_result
from replcache.statemachine.turn import Turn

# One session's share, and that of all sessions and request ids together: replies may carry values.
SESSION_REPLY_BYTES_MAX: Final = 16 * 1024 * 1024
REPLY_BYTES_MAX: Final = 256 * 1024 * 1024
# At 400 bytes each; a client that needs more uses sessions, which acknowledge.
REQUEST_IDS_MAX: Final = 500_000
# Sessions and request ids forgotten per applied entry; those past their time are unknown at once.
REMOVALS_PER_ENTRY_MAX: Final = 500


# due_ms, request id, reply
FrozenRequest = tuple[int, bytes, CommandResult]


class Session:
    """Invariant: every stored sequence is >= acked_below."""

    __slots__ = ("acked_below", "bytes", "due_ms", "replies", "ttl_ms")

    def __init__(self, ttl_ms: int, due_ms: int) -> None:
        self.ttl_ms = ttl_ms
        self.due_ms = due_ms
        self.acked_below = 0
        self.replies: dict[int, CommandResult] = {}
        self.bytes = 0


class Replies:
    """Both tables."""

    __slots__ = ("_order", "_timers", "_turn", "bytes", "requests", "sessions", "views")

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self.sessions: dict[int, Session] = {}
        self._timers: Timers[int] = Timers()
        self.requests: dict[bytes, FrozenRequest] = {}
        # All request ids live equally long, so the order of arrival is the order of expiry.
        self._order: deque[FrozenRequest] = deque()
        self.bytes = 0
        # Snapshots of the sessions that are being read.
        self.views: list[FrozenSessions] = []

    # --- time ---

    def next_due_ms(self) -> int | None:
        due = self._timers.next_due_ms()
        if self._order and (due is None or self._order[0][0] < due):
            due = self._order[0][0]
        return due

    def expire(self) -> None:
        clock_ms = self._turn.clock_ms
        for removed, (_, session_id) in enumerate(self._timers.due(clock_ms)):
            if removed >= REMOVALS_PER_ENTRY_MAX:
                break
            self._forget(session_id, self.sessions[session_id])
        removed = 0
        while self._order and self._order[0][0] <= clock_ms and removed < REMOVALS_PER_ENTRY_MAX:
            self._forget_request(self._order.popleft())
            removed += 1

    def _forget_request(self, request: FrozenRequest) -> None:
        """It must be out of the order."""
        del self.requests[request[1]]
        self.bytes -= reply_size(request[2])

    def _save(self, session_id: int, session: Session) -> None:
        """Before the first change of a session in each operation."""
        for view in self.views:
            view.save(session_id, session)

    def _forget(self, session_id: int, session: Session) -> None:
        self._save(session_id, session)
        del self.sessions[session_id]
        self.bytes -= session.bytes
        self._timers.cancel(session.due_ms, session_id)

    # --- sessions as such ---

    def open(self, ttl_ms: int, secret_id: int = 0) -> SessionResult | Refusal:
        """The id is the revision of the opening, never given twice; or the secret one, if nobody has it.

        Whoever knows the id of a session and a number gets the reply that is stored there.
        """
        if ttl_ms <= 0:
            return Refusal(RefusalCode.INVALID, f"session ttl {ttl_ms} ms: must be above 0")
        if len(self.sessions) >= SESSIONS_MAX:
            return Refusal(RefusalCode.QUOTA_EXCEEDED, f"there are {SESSIONS_MAX} sessions already")
        revision = self._turn.next_revision()
        is_free = secret_id >= SECRET_SESSION_IDS_FROM and secret_id not in self.sessions
        session_id = secret_id if is_free else revision
        due_ms = self._turn.clock_ms + ttl_ms
        self.sessions[session_id] = Session(ttl_ms, due_ms)
        self._timers.add(due_ms, session_id)
        return SessionResult(session_id, True, revision, ttl_ms)

    def find(self, session_id: int) -> Session | None:
        """The session, if its time is not over."""
        session = self.sessions.get(session_id)
        return None if session is None or session.due_ms <= self._turn.clock_ms else session

    def _used(self, session_id: int, session: Session) -> None:
        self._save(session_id, session)
        due_ms = self._turn.clock_ms + session.ttl_ms
        if due_ms != session.due_ms:
            self._timers.cancel(session.due_ms, session_id)
            session.due_ms = due_ms
            self._timers.add(due_ms, session_id)

    def keep(self, session_id: int) -> SessionResult:
        session = self.find(session_id)
        if session is None:
            return SessionResult(0, False, self._turn.revision, 0)
        self._used(session_id, session)
        return SessionResult(session_id, True, self._turn.revision, session.ttl_ms)

    def close(self, session_id: int) -> SessionResult:
        session = self.find(session_id)
        if session is None:
            return SessionResult(0, False, self._turn.revision, 0)
        self._forget(session_id, session)
        return SessionResult(session_id, True, self._turn.revision, 0)

    # --- exactly once ---

    def before_session_command(
        self, session_id: int, sequence: int, acked_below: int
    ) -> CommandResult | None:
        """The stored reply, or a refusal; None: execute it now, then call keep_session_reply."""
        session = self.find(session_id)
        if session is None:
            return Refusal(RefusalCode.SESSION_EXPIRED, f"session {session_id} is unknown or expired")
        self._used(session_id, session)
        stored = session.replies.get(sequence)
        if stored is not None:
            return stored
        if acked_below > session.acked_below:
            self._acknowledge(session, acked_below)
        if sequence < session.acked_below or sequence <= 0:
            return Refusal(
                RefusalCode.SESSION_EXPIRED,
                f"sequence {sequence} is below {session.acked_below}, up to where replies were acknowledged",
            )
        if len(session.replies) >= SESSION_REPLIES_MAX or session.bytes >= SESSION_REPLY_BYTES_MAX:
            return Refusal(
                RefusalCode.QUOTA_EXCEEDED,
                f"{len(session.replies)} replies, {session.bytes} bytes are unacknowledged",
            )
        return self._refuse_when_full()

    def _refuse_when_full(self) -> Refusal | None:
        if self.bytes < REPLY_BYTES_MAX:
            return None
        return Refusal(RefusalCode.QUOTA_EXCEEDED, f"stored replies take {self.bytes} bytes already")

    def _acknowledge(self, session: Session, acked_below: int) -> None:
        gone = range(session.acked_below, acked_below)
        if len(gone) > 2 * len(session.replies):
            # A great leap (the first command of a client that starts high): look at what is there instead.
            numbers = [sequence for sequence in session.replies if sequence < acked_below]
        else:
            numbers = [sequence for sequence in gone if sequence in session.replies]
        for sequence in numbers:
            size = reply_size(session.replies.pop(sequence))
            session.bytes -= size
            self.bytes -= size
        session.acked_below = acked_below

    def keep_session_reply(self, session_id: int, sequence: int, result: CommandResult) -> None:
        session = self.sessions.get(session_id)
        if session is None:
            # The command closed its own session.
            return
        size = reply_size(result)
        session.replies[sequence] = result
        session.bytes += size
        self.bytes += size

    def before_request(self, request_id: bytes) -> CommandResult | None:
        """As before_session_command, for a request id."""
        stored = self.requests.get(request_id)
        if stored is not None and stored[0] > self._turn.clock_ms:
            return stored[2]
        if stored is not None:
            # Past its time, only its removal is behind; so it is among the first of the order.
            self._order.remove(stored)
            self._forget_request(stored)
        if len(self.requests) >= REQUEST_IDS_MAX:
            return Refusal(
                RefusalCode.QUOTA_EXCEEDED, f"{REQUEST_IDS_MAX} request ids are remembered already"
            )
        return self._refuse_when_full()

    def keep_request_reply(self, request_id: bytes, result: CommandResult) -> None:
        request = (self._turn.clock_ms + REQUEST_ID_TTL_MS, request_id, result)
        self.requests[request_id] = request
        self._order.append(request)
        self.bytes += reply_size(result)

    # --- snapshot ---

    def freeze(self) -> "tuple[FrozenSessions, list[FrozenRequest]]":
        """Both tables as they are now, to be read later: sessions by id, request ids by arrival."""
        view = FrozenTable(self.sessions, freeze_session)
        self.views.append(view)
        return view, list(self._order)

    def load(self, sessions: "list[FrozenSession]", requests: "list[FrozenRequest]") -> None:
        """Fills empty tables."""
        for session_id, ttl_ms, due_ms, acked_below, replies in sessions:
            session = self.sessions[session_id] = Session(ttl_ms, due_ms)
            session.acked_below = acked_below
            session.replies.update(replies)
            session.bytes = sum(reply_size(result) for _, result in replies)
            self.bytes += session.bytes
            self._timers.add(due_ms, session_id)
        for request in requests:
            self.requests[request[1]] = request
            self._order.append(request)
            self.bytes += reply_size(request[2])

    def check_invariants(self) -> None:
        total = 0
        for session_id, session in self.sessions.items():
            size = sum(reply_size(result) for result in session.replies.values())
            require(
                size == session.bytes, f"session {session_id}: {size} bytes kept, {session.bytes} counted"
            )
            lowest = min(session.replies, default=session.acked_below)
            require(
                lowest >= session.acked_below, f"session {session_id} keeps sequence {lowest}, acknowledged"
            )
            is_possible = session_id <= self._turn.revision or session_id >= SECRET_SESSION_IDS_FROM
            require(is_possible, f"session {session_id} is ahead of the revision")
            total += size
        require(len(self._timers) == len(self.sessions), "each session has one timer")
        total += sum(reply_size(request[2]) for request in self._order)
        require(total == self.bytes, f"{total} bytes of replies kept, {self.bytes} counted")
        ordered = {request[1]: request for request in self._order}
        require(ordered == self.requests, "request ids and their order of expiry differ")
        require(len(ordered) == len(self._order), "a request id would expire twice")


def _sequence(item: tuple[int, CommandResult]) -> int:
    return item[0]


# id, ttl_ms, due_ms, acked_below, replies by sequence
FrozenSession = tuple[int, int, int, int, list[tuple[int, CommandResult]]]
FrozenSessions = FrozenTable[int, Session, FrozenSession]


def freeze_session(session_id: int, session: Session) -> FrozenSession:
    # list() first: it runs without a break, sorting by a function does not.
    replies = list(session.replies.items())
    replies.sort(key=_sequence)
    return session_id, session.ttl_ms, session.due_ms, session.acked_below, replies


def write_session(writer: PlainWriter, session: FrozenSession) -> None:
    session_id, ttl_ms, due_ms, acked_below, replies = session
    writer.unsigned_column([session_id, ttl_ms, due_ms, acked_below, len(replies)])
    for sequence, result in replies:
        writer.unsigned(sequence)
        write_result(writer, result)


def read_session(reader: PlainReader) -> FrozenSession:
    session_id, ttl_ms, due_ms, acked_below, count = reader.unsigned_column(5)
    replies = [(reader.unsigned(), read_result(reader)) for _ in range(count)]
    return session_id, ttl_ms, due_ms, acked_below, replies


def write_request(writer: PlainWriter, request: FrozenRequest) -> None:
    due_ms, request_id, result = request
    writer.unsigned(due_ms)
    writer.blob(request_id)
    write_result(writer, result)


def read_request(reader: PlainReader) -> FrozenRequest:
    return reader.unsigned(), reader.blob(), read_result(reader)
