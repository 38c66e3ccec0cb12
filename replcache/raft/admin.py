"""Administration through the log: membership changes and leadership transfer, from any node.

A call that reaches a follower goes to the leader by AdminRequest. The leader also looks after the members by
itself: it records the first incarnation of an added member, takes a member that came back with an empty disk
in again as a learner (its vote counted on a disk that is gone), and promotes learners that have caught up.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from replcache.errors import InvalidRequest, NotApplied, OutcomeUnknown, Refused, ReplcacheError
from replcache.raft.membership import Configuration, changed, quorum
from replcache.raft.messages import AdminReply, AdminRequest
from replcache.raft.port import Member

if TYPE_CHECKING:
    from replcache.raft.engine import Engine

# Called once, with the error or None.
AdminDone = Callable[[ReplcacheError | None], None]

# A learner this close to the leader's log has caught up: less than one Append at full speed.
PROMOTE_LAG_ENTRIES_MAX = 100
# Requests to a leader that are waited for. Callers have deadlines: nobody waits for older ones any more.
ASKED_MAX = 256


class Admin:
    """Invariant: at most one configuration entry behind the commit index."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._pending: dict[int, AdminDone] = {}
        self._asked: dict[int, AdminDone] = {}
        self._id = 0

    # --- calls of this node ---

    def request(self, action: str, member: Member, done: AdminDone) -> None:
        """action: "add", "promote", "remove", "transfer". `done` may never be called: keep a deadline."""
        engine = self._engine
        if engine.is_leader:
            self._perform(action, member, done)
            return
        if not engine.leader:
            done(NotApplied("no leader is known"))
            return
        self._id += 1
        if engine.send(engine.leader, AdminRequest(self._id, engine.boot, action, member)):
            self._asked[self._id] = done
            if len(self._asked) > ASKED_MAX:
                del self._asked[next(iter(self._asked))]
        else:
            done(NotApplied(f"{engine.leader} is not connected"))

    def _perform(self, action: str, member: Member, done: AdminDone) -> None:
        try:
            if action == "transfer":
                self._engine.transfer.start(member.name, done)
            else:
                self._pending[self._change(action, member)] = done
        except ReplcacheError as error:
            done(error)

    def _change(self, action: str, member: Member) -> int:
        """Appends the changed configuration; returns its index."""
        engine = self._engine
        if not self._may_change:
            raise NotApplied("another membership change is under way, try again", retry_after_s=0.2)
        members = changed(engine.configurations.current, action, member)
        if action == "promote" and not self._is_caught_up(member.name):
            raise NotApplied(f"{member.name} has not caught up yet, try again", retry_after_s=0.5)
        if action in ("promote", "remove"):
            self._require_quorum(action, member, members)
        return engine.append_configuration(members)

    def _is_caught_up(self, name: str) -> bool:
        """Its log is nearly the leader's, and holds the entry that names its disk.

        A learner that votes before that is a voter that can't vote: with one other voter lost nobody could
        be elected any more.
        """
        engine = self._engine
        progress = engine.leadership.progress.get(name)
        return (
            progress is not None
            and progress.match >= engine.configurations.current_index
            and progress.match + PROMOTE_LAG_ENTRIES_MAX >= engine.wal.last_index
        )

    def _require_quorum(self, action: str, member: Member, members: Configuration) -> None:
        """Refuses a change after which the voters that are there now could not decide anything any more.

        A voter that lost its disk and was not taken in again yet counts as absent: removing a good one then
        could leave a cluster that never elects a leader again.
        """
        engine = self._engine
        voters = [m.name for m in members if m.voter]
        present = [n for n in voters if n == engine.name or engine.is_reachable_member(n)]
        if len(present) < quorum(len(voters)):
            raise Refused(
                f"{action} {member.name}: of the {len(voters)} voters that would be left only "
                f"{', '.join(present) or 'none'} can be reached"
            )

    @property
    def _may_change(self) -> bool:
        """After a committed entry of the own term, and one change at a time (hazard H15)."""
        engine = self._engine
        return (
            engine.is_leader
            and engine.commit_index >= engine.term_start_index
            and engine.configurations.current_index <= engine.commit_index
        )

    # --- calls of peers ---

    def on_request(self, peer: str, message: AdminRequest) -> None:
        engine = self._engine

        def done(error: ReplcacheError | None) -> None:
            text = f"{error.reason}: {error}" if error is not None else ""
            engine.send(peer, AdminReply(message.id, message.boot, text, engine.leader))

        if engine.is_leader and message.member is not None:
            self._perform(message.action, message.member, done)
        else:
            done(NotApplied(f"{engine.name} is not the leader"))

    def on_reply(self, peer: str, message: AdminReply) -> None:
        done = self._asked.pop(message.id, None) if message.boot == self._engine.boot else None
        if done is not None:
            done(_error_of(message.error) if message.error else None)

    # --- progress ---

    def on_applied(self, index: int) -> None:
        """A membership entry is committed."""
        engine = self._engine
        done = self._pending.pop(index, None)
        if done is not None:
            done(None)
        configurations = engine.configurations
        # Its removal may be in force and not committed yet, when this entry is the change before it.
        is_removed = engine.name not in configurations.voters and index == configurations.current_index
        if engine.is_leader and is_removed:
            engine.become_follower(engine.term, leader=None)

    def on_lost_leadership(self) -> None:
        pending, self._pending = self._pending, {}
        for done in pending.values():
            done(OutcomeUnknown("leadership was lost while the change was under way"))

    def tick(self, now: float) -> None:
        """The leader looks after one member at a time."""
        if not self._may_change:
            return
        engine = self._engine
        for member in engine.configurations.current:
            if member.name == engine.name:
                continue
            action = self._needed_action(member, now)
            if action is not None:
                incarnation = engine.peer_incarnations.get(member.name, member.incarnation)
                subject = Member(member.name, member.peer_address, member.client_address, incarnation)
                try:
                    self._change(action, subject)
                except Refused:
                    # Too many voters are away. Nobody asked for it, so nobody is told; a later tick does it.
                    continue
                return

    def _needed_action(self, member: Member, now: float) -> str | None:
        engine = self._engine
        heard = engine.peer_incarnations.get(member.name)
        progress = engine.leadership.progress.get(member.name)
        if heard is None or progress is None or member.name not in engine.connected:
            return None
        if member.incarnation == 0:
            return "identify"
        if heard != member.incarnation:
            # Not while the process with the right disk may still be there (two with one name).
            is_gone = now - progress.last_heard > 2 * engine.config.election_max_s
            return "rejoin" if is_gone else None
        if not member.voter and member.promote:
            return "promote" if self._is_caught_up(member.name) else None
        return None


def _error_of(text: str) -> ReplcacheError:
    """The error behind AdminReply.error ("REASON: message"), of its own class where that is known here."""
    reason, _, message = text.partition(": ")
    for kind in (NotApplied, OutcomeUnknown, InvalidRequest, Refused):
        if kind.reason == reason:
            return kind(message)
    return Refused(text)
