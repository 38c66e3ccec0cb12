"""A cluster for directed schedules: the simulated world without chance, moved by hand.

Same nodes, network, disks and oracles as in the random runs, but no clients and no faults of their own
accord: a script decides who campaigns, which messages wait, who crashes. Everything that the script does not
hold arrives at once and in order. An oracle that sees a broken promise raises Violation, as in any run.
"""

from collections.abc import Callable
from typing import Any

from replcache.errors import ReplcacheError
from replcache.statemachine.commands import Command, Set
from tests.simulation.oracles import Violation
from tests.simulation.process import Process
from tests.simulation.schedule import Options, Schedule
from tests.simulation.world import World, quiet_logs

# Beyond every election timeout of a script: whoever has this patience never campaigns.
NEVER_S = 1e6


class Stage:
    """Nodes n1, n2, ...; `elect` makes one of them the leader."""

    def __init__(self, nodes: int = 3, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "nodes": nodes,
            "clients": 0,
            "tick_s": 0.02,
            "delay_s": 0.001,
            "jitter": 0.0,
            "sync_s": 0.0005,
            "probe_s": NEVER_S,
            "snapshot_after_entries": 10**6,
            "operations": {},
        }
        schedule = Schedule(0, Options(**{**defaults, **options}), ())
        self.world = World(schedule)
        self.world.network.filter = self._pass
        # (source, target) -> what waits.
        self._holds: dict[tuple[str, str], Callable[[Any], bool]] = {}
        self._held: dict[tuple[str, str], list[Any]] = {}
        self.seen: list[tuple[float, str, str, Any]] = []
        self.acknowledged: dict[bytes, bytes] = {}
        for node in self.world.nodes.values():
            node.start()
        self.run(0.1)
        for name in self.names:
            self.calm(name)

    @property
    def names(self) -> list[str]:
        return self.world.names

    def __getitem__(self, name: str) -> Process:
        process = self.world.process(name)
        assert process is not None, f"{name} is down"
        return process

    # --- time ----------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        self.world.run_until(self.world.now + seconds)

    def run_while(self, condition: Callable[[], bool], seconds: float, what: str) -> float:
        """Runs until the condition is false; returns how long it took. Raises Violation after `seconds`."""
        start = self.world.now
        while condition():
            if self.world.now - start > seconds:
                raise Violation("too slow", f"{what}: not within {seconds} s; {self.world.describe()}")
            self.run(0.005)
        return self.world.now - start

    # --- elections -----------------------------------------------------------------------------------------

    def calm(self, name: str) -> None:
        """Will not campaign by itself."""
        engine = self[name].engine
        engine.election_deadline = engine.clock.now() + NEVER_S

    def campaign(self, name: str) -> None:
        """Its election timeout has passed; nobody has heard a leader for a while."""
        for other in self.names:
            process = self.world.process(other)
            if process is not None:
                process.engine.election.last_leader_contact = float("-inf")
                if other != name:
                    self.calm(other)
        engine = self[name].engine
        engine.election_deadline = engine.clock.now()

    def elect(self, name: str) -> None:
        self.campaign(name)
        self.run_while(lambda: not self[name].engine.is_leader, 1.0, f"{name} is elected")

    def calm_all(self) -> None:
        for name in self.names:
            if self.world.process(name) is not None:
                self.calm(name)

    # --- messages ------------------------------------------------------------------------------------------

    def _pass(self, source: str, target: str, message: Any) -> bool:
        self.seen.append((self.world.now, source, target, message))
        key = (source, target)
        if key in self._holds and self._holds[key](message):
            self._held.setdefault(key, []).append(message)
            return False
        return True

    def hold(self, source: str, target: str, *kinds: type) -> None:
        """Messages of these types (none named: all) wait from now on."""
        self._holds[source, target] = lambda message: not kinds or isinstance(message, kinds)

    def hold_if(self, source: str, target: str, condition: Callable[[Any], bool]) -> None:
        """Messages for which this holds wait from now on."""
        self._holds[source, target] = condition

    def hold_between(self, side: str, rest: str) -> None:
        """All messages between two groups of nodes, named by their numbers ("12", "345").

        Nobody campaigns for that reason: whoever shall do so is named by `elect`.
        """
        self.calm_all()
        for one in side:
            for other in rest:
                self.hold(f"n{one}", f"n{other}")
                self.hold(f"n{other}", f"n{one}")

    def held(self, source: str, target: str) -> list[Any]:
        return self._held.get((source, target), [])

    def release(self, source: str, target: str, *, deliver: bool = True) -> None:
        """The hold ends; what waited arrives now, or is lost with its connection."""
        self._holds.pop((source, target), None)
        messages = self._held.pop((source, target), [])
        if deliver:
            for message in messages:
                self.deliver(source, target, message)

    def release_all(self, *, deliver: bool = False) -> None:
        for source, target in list(self._holds):
            self.release(source, target, deliver=deliver)

    def deliver(self, source: str, target: str, message: Any) -> None:
        """A message arrives now, maybe for the second time."""
        self[target].receive(source, message)
        self.run(0.0)

    # --- nodes ---------------------------------------------------------------------------------------------

    def crash(self, name: str, *, power: bool = False, keep: bool = False) -> None:
        """kill -9, or a power cut: then unsynced bytes are gone (keep: all of them happen to be there)."""
        node = self.world.nodes[name]
        if power:
            node.disk_rng.choice = lambda _choices: 1.0 if keep else 0.0  # type: ignore[method-assign]
        node.stop(power=power)

    def restart(self, name: str) -> None:
        self.world.nodes[name].start()
        self.run(0.01)
        self.calm(name)

    def hold_disk(self, name: str) -> None:
        """No sync of this node ends until the disk is released."""
        self.world.nodes[name].is_disk_held = True

    def release_disk(self, name: str) -> None:
        self.world.nodes[name].is_disk_held = False
        process = self.world.process(name)
        if process is not None:
            process.kick()

    # --- calls ---------------------------------------------------------------------------------------------

    def command(self, name: str, command: Command, timeout_s: float = 1e4) -> list[Any]:
        """Submits; the list gets the outcome."""
        outcome: list[Any] = []
        process = self[name]
        process.run(process.propose, command, timeout_s, outcome.append)
        return outcome

    def write(self, name: str, key: bytes, value: bytes = b"v") -> list[Any]:
        """A set; once it is acknowledged it must never be lost (`finish`)."""
        outcome: list[Any] = []

        def done(result: Any) -> None:
            outcome.append(result)
            if not isinstance(result, ReplcacheError):
                self.acknowledged[key] = value

        process = self[name]
        process.run(process.propose, Command(ops=(Set(key, value),)), 1e4, done)
        return outcome

    def read(self, name: str, key: bytes) -> list[Any]:
        """A linearizable read; the list gets the value, None, or an error. Too old a one is a Violation."""
        outcome: list[Any] = []
        since = self.world.ledger.newest_revision
        process = self[name]

        def confirmed(error: ReplcacheError | None) -> None:
            if error is not None:
                outcome.append(error)
                return
            self.world.oracles.on_linearizable_read(process, since)
            entry = process.machine.peek(key)
            outcome.append(entry.value if entry is not None else None)

        process.run(process.read_index, 1e4, confirmed)
        return outcome

    # --- the end -------------------------------------------------------------------------------------------

    def expect(self, condition: object, kind: str, text: str) -> None:
        if not condition:
            raise Violation(kind, text)

    def finish(self) -> None:
        """Everything works again: the cluster must too, and have all that it acknowledged."""
        self.release_all()
        for name in self.names:
            self.release_disk(name)
        world = self.world
        world.is_healed = True
        world.faults.repair_all()
        for name in self.names:
            process = world.process(name)
            if process is not None:
                process.engine.set_election_deadline()
        if not world.run_until(world.now + 5.0, world._has_leader):
            raise Violation("no leader", world.describe())
        if not world.run_until(world.now + 8.0, world._is_settled):
            raise Violation("not settled", world.describe())
        world.oracles.check_end()
        leader = world.leader()
        assert leader is not None
        for key, value in self.acknowledged.items():
            entry = leader.machine.peek(key)
            self.expect(
                entry is not None and entry.value == value, "acknowledged write lost", f"{key!r} = {value!r}"
            )


Script = Callable[[], None]


def play_script(script: Script) -> Violation | None:
    """What the script finds; None: every promise is kept. Anything else that goes wrong is a finding too."""
    with quiet_logs():
        try:
            script()
        except Violation as violation:
            return violation
        except (AssertionError, ReplcacheError, OSError) as error:
            return Violation("exception", f"{type(error).__name__}: {error}")
    return None
