"""Who goes when a namespace nears its quota: chosen by the leader, executed by the log.

Every node notes which keys are used through it and tells the leader now and then (activity.py, digests). When
a namespace is near its quota the leader proposes to evict those entries that its policy likes least
(victims.py).

The state machine takes the list as it is and checks only that a victim was not written since, so all replicas
evict the same, whatever the leader's estimates were. A new leader begins with what it has seen itself.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence

from replcache import constants
from replcache.errors import ReplcacheError
from replcache.observability.logs import get_logger
from replcache.raft.port import Role
from replcache.server.activity import Activity, common_namespace, decode_digest, encode_digest
from replcache.server.backend import Backend
from replcache.server.victims import Keys, Usage, Victims, new_keys
from replcache.statemachine.commands import Command, Evict
from replcache.statemachine.entries import MOD
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.namespaces import NamespaceTable, Policy
from replcache.statemachine.results import CountResult
from replcache.tasks import Supervisor

_log = get_logger(__name__)
REASONS = {Policy.LRU: "lru", Policy.LFU: "lfu"}


class Evictor:
    """Keeps namespaces within their quotas while this node leads. At rest while no namespace evicts."""

    def __init__(self, backend: Backend, activity: Activity, rng: random.Random) -> None:
        self._backend = backend
        self._activity = activity
        self._rng = rng
        self._usage = Usage()
        # By name of the namespace, while this node leads.
        self._victims: dict[str, Victims] = {}
        self._machine: StateMachine | None = None
        self._is_active = False
        self._wake = asyncio.Event()

    def start(self, supervisor: Supervisor) -> None:
        port = self._backend.port
        port.add_applied_listener(self._on_applied)
        port.set_hint_listener(self._on_hint)
        supervisor.background("eviction", self._run())

    # --- what is used ---

    def _on_used(self, used: Mapping[bytes, int]) -> None:
        """Keys used through this node: for its own estimates, and for the leader's."""
        self._note(used)
        if not self._leads():
            self._backend.port.hint_leader(encode_digest(used))

    def _on_hint(self, _: str, data: bytes) -> None:
        if self._is_active:
            self._note(decode_digest(data))

    def _note(self, used: Mapping[bytes, int]) -> None:
        """At most DIGEST_KEYS_MAX of them, spread over all: beyond that the most used ones are noted at
        another time."""
        machine = self._backend.machine
        revision, note = machine.revision, self._usage.note
        keys = list(used)
        for key in keys[:: len(keys) // constants.DIGEST_KEYS_MAX + 1]:
            note(key, used[key], revision)

    def _leads(self) -> bool:
        return self._backend.port.status().role is Role.LEADER

    # --- quotas ---

    def _on_applied(self, _: int, events: Sequence[object]) -> None:
        namespaces = self._backend.machine.store.namespaces
        if not (namespaces.active or self._is_active):
            return
        self._wake.set()
        if self._victims:
            for event in events:
                if keys := new_keys(event):
                    self._add(namespaces, keys)

    def _add(self, namespaces: NamespaceTable, keys: Sequence[bytes]) -> None:
        for name, victims in self._victims.items():
            namespace = namespaces.by_name.get(name)
            if namespace is None:
                continue
            if not namespace.prefix or common_namespace(namespaces, keys) == name:
                victims.keys.add(keys)
            else:
                victims.keys.add([key for key in keys if key.startswith(namespace.prefix)])

    async def _run(self) -> None:
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._prepare()
            if self._victims:
                try:
                    await self._keep_quotas()
                except ReplcacheError as err:
                    # What is too much stays until the next look; above a fifth too much, writes are refused.
                    _log.info("not_evicted", reason=err.reason)
            await asyncio.sleep(constants.EVICTION_CHECK_INTERVAL_S)

    def _prepare(self) -> None:
        machine = self._backend.machine
        evicting = machine.store.namespaces.evicting()
        everything = any(not namespace.prefix for namespace in evicting)
        keys = len(machine.store.rows) if everything else sum(namespace.keys for namespace in evicting)
        self._usage.prepare({namespace.policy for namespace in evicting}, keys)
        self._is_active = bool(evicting)
        self._activity.on_used = self._on_used if evicting else None
        if machine is not self._machine or not self._leads():
            # Of another state, or without the keys that came while another node led.
            self._victims.clear()
            self._machine = machine
        if not self._leads():
            return
        wanted = {namespace.name: namespace for namespace in evicting}
        for name in self._victims.keys() - wanted.keys():
            del self._victims[name]
        for name, namespace in wanted.items():
            victims = self._victims.get(name)
            if victims is None:
                keys_of = Keys(machine, namespace.prefix)
                victims = self._victims[name] = Victims(self._usage, keys_of, self._rng)
            victims.keys.collect(machine)
            victims.keys.forget_gone(machine, namespace.keys if namespace.prefix else len(machine.store.rows))

    async def _keep_quotas(self) -> None:
        for name, victims in list(self._victims.items()):
            while await self._evict(name, victims):
                pass

    async def _evict(self, name: str, victims: Victims) -> bool:
        """One command of evictions, when the namespace is near its quota; whether another one is needed."""
        machine = self._backend.machine
        namespace = machine.store.namespaces.by_name.get(name)
        if namespace is None or namespace.policy is Policy.NONE:
            return False
        used = namespace.used_bytes if namespace.prefix else machine.store.quota_bytes
        if used <= namespace.max_bytes * constants.EVICTION_START:
            return False
        surplus = used - int(namespace.max_bytes * constants.EVICTION_TARGET)
        chosen = victims.choose(machine, namespace, surplus)
        if not chosen:
            return False
        op = Evict(
            tuple([key for key, _ in chosen]),
            tuple([row[MOD] for _, row in chosen]),
            REASONS[namespace.policy],
        )
        deadline = self._backend.clock.now() + constants.DEFAULT_DEADLINE_S
        results = await self._backend.port.propose(Command(ops=(op,)), deadline)
        assert isinstance(results, tuple)
        evicted = results[0]
        assert isinstance(evicted, CountResult)
        return evicted.count > 0
