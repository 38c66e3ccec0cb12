"""Faults on the world: what each kind of the schedule does, and how it is repaired."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from replcache.raft.port import Member
from tests.simulation.schedule import Fault

if TYPE_CHECKING:
    from tests.simulation.world import SimNode, World


class Faults:
    def __init__(self, world: "World", rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._cuts: dict[int, list[tuple[str, str, str]]] = {}
        self._number = 0
        self.begun = 0

    def begin(self, fault: Fault) -> None:
        if self._world.is_healed:
            return
        node = self._target(fault)
        if node is None:
            return
        self.begun += 1
        self._world.trace("fault", fault.kind, node.name, fault.duration_s)
        getattr(self, f"_{fault.kind}")(node, fault)

    def _target(self, fault: Fault) -> "SimNode | None":
        world = self._world
        if fault.node >= 0:
            return world.nodes[world.names[fault.node % len(world.names)]]
        leader = world.leader()
        return leader.node if leader is not None else world.nodes[world.names[0]]

    def repair_all(self) -> None:
        """Everything that was broken works again; nodes that refuse their disk get a new one."""
        world = self._world
        self._cuts.clear()
        world.network.heal(world.names)
        for node in world.nodes.values():
            node.disk.capacity_bytes = None
            node.disk.fault = None
            node.extra_sync_s = 0.0
            if node.process is not None and node.process.is_paused:
                node.process.resume()
            self._start(node)

    def _start(self, node: "SimNode") -> None:
        node.start()
        if node.process is None and node.refused and node.is_damaged:
            # What the message of the refusal tells the operator to do.
            node.wipe()
            node.start()

    # --- processes -----------------------------------------------------------------------------------------

    def _stop(self, node: "SimNode", fault: Fault, power: bool) -> None:
        node.stop(power=power)
        self._world.after(fault.duration_s, self._start, node)

    def _crash(self, node: "SimNode", fault: Fault) -> None:
        self._stop(node, fault, power=False)

    def _power_cut(self, node: "SimNode", fault: Fault) -> None:
        self._stop(node, fault, power=True)

    def _crash_all(self, _: "SimNode", fault: Fault) -> None:
        for node in self._world.nodes.values():
            self._stop(node, fault, power=False)

    def _power_cut_all(self, _: "SimNode", fault: Fault) -> None:
        for node in self._world.nodes.values():
            self._stop(node, fault, power=True)

    def _pause(self, node: "SimNode", fault: Fault) -> None:
        process = node.process
        if process is not None and not process.is_paused:
            process.pause()
            self._world.after(fault.duration_s, process.resume)

    def _rolling_restart(self, _: "SimNode", fault: Fault) -> None:
        for number, node in enumerate(list(self._world.nodes.values())):
            self._world.after(number * 0.8, self._restart, node)

    def _restart(self, node: "SimNode") -> None:
        if not self._world.is_healed and node.process is not None:
            node.stop(power=False)
            self._world.after(0.3, self._start, node)

    def _clock_rate(self, node: "SimNode", fault: Fault) -> None:
        drift = self._world.options.clock_drift
        node.clock.set_rate(1.0 + drift * (2 * fault.argument - 1))

    # --- network -------------------------------------------------------------------------------------------

    def _cut(self, pairs: list[tuple[str, str]], fault: Fault, how: str) -> None:
        self._number += 1
        number = self._number
        self._cuts[number] = [(source, target, how) for source, target in pairs]
        for source, target in pairs:
            if how == "stall":
                self._world.network.stall(source, target)
            else:
                self._world.network.refuse(source, target)
        self._world.after(fault.duration_s, self._mend, number)

    def _mend(self, number: int) -> None:
        """Opens what no other cut still holds."""
        for source, target, _ in self._cuts.pop(number, []):
            still = any((s, t) == (source, target) for cut in self._cuts.values() for s, t, _ in cut)
            if not still:
                self._world.network.open(source, target)

    def _how(self, fault: Fault) -> str:
        return "stall" if fault.argument < 0.5 else "refuse"

    def _between(self, side: list[str], rest: list[str]) -> list[tuple[str, str]]:
        return [(a, b) for a in side for b in rest] + [(b, a) for a in side for b in rest]

    def _isolate(self, node: "SimNode", fault: Fault) -> None:
        others = [name for name in self._world.names if name != node.name]
        self._cut(self._between([node.name], others), fault, self._how(fault))

    def _split(self, node: "SimNode", fault: Fault) -> None:
        names = [name for name in self._world.names if name != node.name]
        self._rng.shuffle(names)
        side = [node.name, *names[: len(self._world.names) // 2]]
        rest = [name for name in self._world.names if name not in side]
        self._cut(self._between(side, rest), fault, self._how(fault))

    def _one_way(self, node: "SimNode", fault: Fault) -> None:
        others = [name for name in self._world.names if name != node.name]
        if fault.argument * 2 % 1 < 0.5:
            pairs = [(node.name, other) for other in others]
        else:
            pairs = [(other, node.name) for other in others]
        self._cut(pairs, fault, self._how(fault))

    def _bridge(self, node: "SimNode", fault: Fault) -> None:
        """Two sides that do not see each other; `node` sees both."""
        names = [name for name in self._world.names if name != node.name]
        half = len(names) // 2
        self._cut(self._between(names[:half], names[half:]), fault, self._how(fault))

    def _reset(self, node: "SimNode", fault: Fault) -> None:
        for other in self._world.names:
            if other != node.name and self._rng.random() < 0.7:
                self._world.network.reset(node.name, other)
                self._world.network.reset(other, node.name)

    def _flap(self, node: "SimNode", fault: Fault) -> None:
        others = [name for name in self._world.names if name != node.name]
        other = self._rng.choice(others) if others else node.name
        at = 0.0
        while at < fault.duration_s and others:
            brief = Fault(0.0, "flap", duration_s=0.05 + 0.3 * self._rng.random())
            self._world.after(at, self._flap_once, node.name, other, brief)
            at += brief.duration_s * 2

    def _flap_once(self, one: str, other: str, fault: Fault) -> None:
        if not self._world.is_healed:
            self._cut([(one, other), (other, one)], fault, "refuse")

    def _stall(self, node: "SimNode", fault: Fault) -> None:
        """One direction of one pair hangs; nobody is told."""
        others = [name for name in self._world.names if name != node.name]
        if others:
            self._cut([(node.name, self._rng.choice(others))], fault, "stall")

    # --- disks ---------------------------------------------------------------------------------------------

    def _slow_disk(self, node: "SimNode", fault: Fault) -> None:
        node.extra_sync_s = 0.02 + 0.4 * fault.argument
        self._world.after(fault.duration_s, self._fast_disk, node)

    def _fast_disk(self, node: "SimNode") -> None:
        node.extra_sync_s = 0.0

    def _sync_error(self, node: "SimNode", fault: Fault) -> None:
        """The next sync fails. The node must stop; its disk shows what it does not have."""
        if node.process is None:
            return
        node.disk_was_hurt = True
        armed = [True]

        def fail(operation: str, path: str) -> None:
            if operation == "fdatasync" and armed[0]:
                armed[0] = False
                raise OSError(5, "simulated I/O error", path)

        node.disk.fault = fail
        self._world.after(fault.duration_s, self._after_sync_error, node)

    def _after_sync_error(self, node: "SimNode") -> None:
        node.disk.fault = None
        self._start(node)

    def _disk_full(self, node: "SimNode", fault: Fault) -> None:
        node.disk.capacity_bytes = node.used_bytes() + int(2000 * fault.argument)
        self._world.after(fault.duration_s, self._disk_has_room, node)

    def _disk_has_room(self, node: "SimNode") -> None:
        node.disk.capacity_bytes = None

    def _wipe(self, node: "SimNode", fault: Fault) -> None:
        """The disk is lost. Only when all others have theirs: P1 needs a majority of the disks."""
        if self._is_safe_to_lose(node):
            node.wipe()
            self._world.after(fault.duration_s, self._start, node)

    def _damage(self, node: "SimNode", fault: Fault) -> None:
        """A bit flips while the node is down. It must refuse, or not care."""
        if not self._is_safe_to_lose(node):
            return
        node.stop(power=False)
        files = [path for path in node.disk.files() if node.disk.contents(path)]
        if files:
            path = self._rng.choice(files)
            bit = self._rng.randrange(8 * len(node.disk.contents(path)))
            node.disk.flip_bit(path, bit)
            node.disk_was_hurt = node.is_damaged = True
            self._world.trace("flip", node.name, path, bit)
        self._world.after(fault.duration_s, self._start, node)

    def _is_safe_to_lose(self, node: "SimNode") -> bool:
        """A majority of the voters' disks must be left, whichever of the last two configurations counts."""
        world = self._world
        if any(other.disk_was_hurt or other.refused for other in world.nodes.values() if other is not node):
            return False
        for other in world.nodes.values():
            process = other.process
            voters = process.engine.configurations.voters if process is not None else other.last_voters
            if node.name in voters and len(voters) < 3:
                return False
        return True

    # --- the cluster's own doings --------------------------------------------------------------------------

    def _snapshot(self, node: "SimNode", fault: Fault) -> None:
        if node.process is not None:
            node.process.run(node.process.take_snapshot)

    def _transfer(self, node: "SimNode", fault: Fault) -> None:
        leader = self._world.leader()
        if leader is not None:
            names = [name for name in self._world.names if name != leader.name]
            target = self._rng.choice([*names, ""])
            self._administer("transfer", Member(target, "", ""))

    def _member(self, node: "SimNode", fault: Fault) -> None:
        """A new node joins, is promoted, and, in half of the runs, an old one leaves."""
        name = f"n{len(self._world.nodes) + 1}"
        self._world.add_node(name)
        self._administer("add", Member(name, f"{name}:1", f"{name}:2"))
        for part in (0.3, 0.6, 0.9):  # refused until the new node has caught up
            self._world.after(part * fault.duration_s, self._administer, "promote", Member(name, "", ""))
        if fault.argument < 0.5:
            self._world.after(fault.duration_s, self._administer, "remove", Member(node.name, "", ""))

    def _administer(self, action: str, member: Member) -> None:
        if self._world.is_healed:
            return
        running = [n.process for n in self._world.nodes.values() if n.process is not None]
        process = self._world.leader()
        if running and (process is None or self._rng.random() < 0.4):
            process = self._rng.choice(running)  # any node takes such a call
        if process is not None:
            self._world.trace("admin", process.name, action, member.name)
            done: Callable[[object], None] = lambda outcome: self._world.trace("admin done", action, outcome)  # noqa: E731
            process.run(process.administer, action, member, done)
