"""Configurations: who votes, who learns, and how that changes one step at a time.

The configuration in force is the last one in the log, committed or not (Raft dissertation 4.1), also after a
restart; a truncated entry takes its configuration with it. A change needs a leader that has committed an
entry of its own term, and the change before it committed (the fix of the single-server bug, raft-dev 2015).
Cures hazard H15. No time and no I/O here.
"""

from dataclasses import replace

from replcache.errors import ConfigError, InvalidRequest, Refused
from replcache.pb.internal import log_pb2
from replcache.raft.messages import ENTRY_MEMBERSHIP
from replcache.raft.peer_listener import parse_address
from replcache.raft.port import Member
from replcache.raft.wal import Wal
from replcache.statemachine.invariants import UnknownFormat

CONFIGURATION_VERSION = 1
Configuration = tuple[Member, ...]


def encode_configuration(members: Configuration) -> bytes:
    message = log_pb2.Configuration(version=CONFIGURATION_VERSION)
    for member in sorted(members, key=lambda m: m.name):
        message.members.add(
            name=member.name,
            incarnation=member.incarnation,
            peer_address=member.peer_address,
            client_address=member.client_address,
            voter=member.voter,
            promote=member.promote,
        )
    return message.SerializeToString(deterministic=True)


def decode_configuration(payload: bytes) -> Configuration:
    """Raises UnknownFormat for a version of the future."""
    message = log_pb2.Configuration.FromString(payload)
    if message.version != CONFIGURATION_VERSION:
        raise UnknownFormat(f"configuration version {message.version} is unknown to this release")
    return tuple(
        Member(m.name, m.peer_address, m.client_address, m.incarnation, m.voter, m.promote)
        for m in message.members
    )


class Configurations:
    """The configurations in the log, oldest first; the first is that of the snapshot or of the bootstrap.

    Invariant: indexes strictly increase.

    Attributes (read only for others):
        current, current_index: the configuration in force, and its place in the log.
        voters: names of its voters.
    """

    def __init__(self, base_index: int, base: Configuration) -> None:
        self._history: list[tuple[int, Configuration]] = [(base_index, base)]
        self._look_up()

    def _look_up(self) -> None:
        """Asked several times for each message, changed once in a while."""
        self.current_index, self.current = self._history[-1]
        self._by_name = {m.name: m for m in self.current}
        self.voters = tuple(m.name for m in self.current if m.voter)

    def at(self, index: int) -> Configuration:
        """The configuration that was in force at a log index (what a snapshot of that index stores)."""
        for at, members in reversed(self._history):
            if at <= index:
                return members
        raise AssertionError(f"no configuration at index {index}; oldest is {self._history[0][0]}")

    def read_log(self, wal: Wal) -> None:
        """At start: the configurations in the log behind the first one, committed or not."""
        for index in range(self.current_index + 1, wal.last_index + 1):
            _, _, kind, payload = wal.entry(index)
            if kind == ENTRY_MEMBERSHIP:
                self.append(index, decode_configuration(payload))

    def append(self, index: int, members: Configuration) -> None:
        assert index > self.current_index, (index, self.current_index)
        self._history.append((index, members))
        self._look_up()

    def truncate_from(self, index: int) -> None:
        while len(self._history) > 1 and self._history[-1][0] >= index:
            self._history.pop()
        self._look_up()

    def forget_before(self, index: int) -> None:
        """Drops what lies wholly before a durable snapshot at `index`."""
        while len(self._history) > 1 and self._history[1][0] <= index:
            self._history.pop(0)

    def reset(self, index: int, members: Configuration, last_index: int) -> None:
        """An installed snapshot replaced the log up to `index`; what is left of it ends at `last_index`."""
        later = [(at, m) for at, m in self._history if index < at <= last_index]
        self._history = [(index, members), *later]
        self._look_up()

    def may_lead(self, name: str, incarnation: int, commit_index: int) -> bool:
        """Whether the node votes in the newest configuration or in the committed one.

        A voter that only its own log has removed must still campaign: the others may lack that entry, so that
        nobody else can win, and need it as a leader to commit the entry (dissertation 4.2.2).
        """
        return any(
            m.name == name and m.incarnation == incarnation and m.voter
            for members in (self.current, self.at(commit_index))
            for m in members
        )

    def member(self, name: str) -> Member | None:
        return self._by_name.get(name)


def quorum(voters: int) -> int:
    """The smallest majority."""
    return voters // 2 + 1


def changed(current: Configuration, action: str, subject: Member) -> Configuration:
    """The configuration after one single-server change.

    Args:
        action: "add" (a learner), "promote", "remove", "rejoin" (the member came back with an empty disk: a
            learner under its new incarnation), "identify" (first incarnation of an added member).
    Raises:
        InvalidRequest: unknown action, unknown or present name, bad address. Refused: would leave no voter.
    """
    known = next((m for m in current if m.name == subject.name), None)
    if action == "add":
        if known is not None:
            raise InvalidRequest(f"{subject.name} is a member already", field="name")
        if not subject.name or not subject.peer_address:
            raise InvalidRequest("a new member needs a name and a peer address", field="peer_address")
        try:
            parse_address(subject.peer_address)
        except ConfigError as error:
            # Before it is in the log, where every node would fail over it, and again at each start.
            raise InvalidRequest(str(error), field="peer_address") from error
        return (*current, replace(subject, voter=False))
    if known is None:
        raise InvalidRequest(f"{subject.name!r} is not a member", field="name")
    others = tuple(m for m in current if m.name != subject.name)
    match action:
        case "promote":
            if known.incarnation == 0:
                raise Refused(f"{known.name} has not been heard yet")
            return (*others, replace(known, voter=True, promote=False))
        case "remove":
            if known.voter and not any(m.voter for m in others):
                raise Refused(f"{known.name} is the last voter")
            return others
        case "rejoin":
            back = replace(known, incarnation=subject.incarnation, voter=False, promote=True)
            return (*others, back)
        case "identify":
            return (*others, replace(known, incarnation=subject.incarnation))
    raise InvalidRequest(f"unknown membership action {action!r}", field="action")
