"""Planted bugs: reads, sessions, locks, time and the rest of the state machine."""

from tests.simulation.planting import Edit, Mutant, method, state

LOCKS = "locks:LockTable."
SESSIONS = "sessions:Replies."


def restored(old: str, new: str) -> Edit:
    """Edit of what a snapshot is loaded with."""
    place = "replcache.statemachine.snapshot:restore_into"
    return Edit(place, old, new, ("replcache.statemachine.machine",))


def reads(name: str, about: str, *edits: Edit, directed: str = "") -> Mutant:
    return Mutant(name, "reads", about, edits, directed)


def sessions(name: str, about: str, *edits: Edit, directed: str = "") -> Mutant:
    return Mutant(name, "sessions", about, edits, directed)


def locks(name: str, about: str, *edits: Edit, directed: str = "") -> Mutant:
    return Mutant(name, "locks", about, edits, directed)


def ttl(name: str, about: str, *edits: Edit, directed: str = "") -> Mutant:
    return Mutant(name, "ttl", about, edits, directed)


MUTANTS = (
    reads(
        "serve a read without a round",
        "H18: the leader believes that it still leads",
        method("read_index:ReadRounds.try_finish", "if confirmed < majority:", "if False:"),
        directed="read at a cut-off leader",
    ),
    reads(
        "read before the own term has committed",
        "6.4: a new leader's commit index may be behind",
        method("engine:Engine.start_reads", "if self.commit_index < self.term_start_index:", "if False:"),
        directed="read index across a leader change",
    ),
    reads(
        "count answers to an earlier round",
        "etcd#20418: an old confirmation confirms a new read",
        method(
            "read_index:ReadRounds.try_finish",
            "self._acknowledged.get(name, 0) >= self.round",
            "self._acknowledged.get(name, 0) >= 1",
        ),
        directed="earlier round",
    ),
    reads(
        "join a round that has begun",
        "a read is confirmed by answers from before it arrived",
        method(
            "read_index:ReadRounds.add",
            "self._waiting.append(done)",
            "(self._under_way if self._under_way else self._waiting).append(done)",
        ),
        directed="read joins a round",
    ),
    reads(
        "take the answer to an earlier question",
        "a follower's read uses an index that was confirmed before",
        method(
            "remote_reads:RemoteReads.on_reply",
            "message.id != self._id",
            "False",
        ),
        directed="late read index",
    ),
    reads(
        "forget what a leader change asks",
        "confirmations of an earlier term count in the next",
        method("read_index:ReadRounds.fail_all", "    self._acknowledged.clear()\n", ""),
        method(
            "read_index:ReadRounds.fail_all",
            "    self._under_way, self._waiting = [], []\n",
            "    self._under_way, self._waiting = [], []\n    self.round = 0\n",
        ),
        directed="confirmations of an earlier term",
    ),
    sessions(
        "execute a retry again",
        "P3: the reply is not kept",
        state(
            SESSIONS + "keep_session_reply",
            "session = self.sessions.get(session_id)\n",
            "return\n    session = None\n",
        ),
    ),
    sessions(
        "execute a request id again",
        "P3: the reply is not kept",
        state(SESSIONS + "keep_request_reply", "request = (self._turn", "return\n    request = (self._turn"),
    ),
    sessions(
        "apply a forwarded group twice",
        "H17: groups are not told apart",
        state(
            "groups:GroupLog.take",
            "if sequence < origin.done_below or sequence in origin.applied:",
            "if False:",
        ),
        directed="group forwarded twice",
    ),
    sessions(
        "apply what was given up",
        "a group below done_below is executed late",
        state("groups:GroupLog.take", "if sequence < origin.done_below or sequence in", "if sequence in"),
        directed="group forwarded twice",
    ),
    sessions(
        "drop sessions on a snapshot",
        "retries after it execute again or are refused",
        restored("machine.replies.load(", "(lambda *_: None)("),
    ),
    sessions(
        "drop the group table on a snapshot",
        "a group that was forwarded before is applied again",
        restored("machine.groups.load(", "(lambda *_: None)("),
    ),
    sessions(
        "execute below what was acknowledged",
        "a late copy of an old write takes effect",
        state(
            SESSIONS + "before_session_command",
            "if sequence < session.acked_below or sequence <= 0:",
            "if sequence <= 0:",
        ),
        directed="late copy of an old write",
    ),
    sessions(
        "ignore conditions",
        "compare-and-set sets without comparing",
        Edit(
            "replcache.statemachine.conditions:check_condition",
            "def check_condition(",
            "def check_condition(*_):\n    return None\n\n\ndef _unused_check_condition(",
            ("replcache.statemachine.keyops",),
        ),
    ),
    locks(
        "grant the lock twice",
        "P5: whoever asks gets it",
        state(LOCKS + "acquire", "if not lock.waiters and lock.has_room(op.shared):", "if True:"),
    ),
    locks(
        "accept any fencing token",
        "P5: the server does not look",
        state(LOCKS + "check_fence", "if self._tokens.get(fence.token) == fence.name:", "if True:"),
    ),
    locks(
        "accept older fencing tokens",
        "P5: an earlier holder writes",
        state(
            LOCKS + "check_fence",
            "if self._tokens.get(fence.token) == fence.name:",
            "if any(fence.token <= t for t, n in self._tokens.items() if n == fence.name):",
        ),
    ),
    locks(
        "give the same token again",
        "P5: tokens do not grow",
        state(
            LOCKS + "_grant",
            "token = turn.next_revision()",
            "turn.next_revision()\n    token = 1 + len(self._tokens)",
        ),
    ),
    locks(
        "drop locks on a snapshot",
        "the lock is granted twice after a transfer of state",
        restored("machine.locks.load(", "(lambda *_: None)("),
    ),
    locks(
        "never end a lease",
        "A6: the lock of a dead holder is never free",
        state(
            LOCKS + "expire",
            "for _, (name, owner) in self._holder_timers.due(turn.clock_ms):",
            "for _, (name, owner) in ():",
        ),
    ),
    locks(
        "leave the queue standing",
        "A6: a release does not wake the next in the queue",
        state(LOCKS + "_move_queue", "while lock.waiters:", "while False:"),
    ),
    ttl(
        "expire by the local clock",
        "P6: each leader stamps with its own clock",
        method(
            "engine:Engine.cluster_now_ms",
            "base_ms, base_at = self._clock_base\n",
            "return max(self.machine.clock_ms, int(self.clock.now() * 1000))\n"
            "    base_ms, base_at = self._clock_base\n",
        ),
    ),
    ttl(
        "count the time before the last stamp",
        "P6: a new leader's clock runs ahead: the stamp is added to its own time since it started",
        method(
            "engine:Engine.cluster_now_ms",
            "elapsed_ms = int((self.clock.now() - base_at) * 1000)",
            "elapsed_ms = int((self.clock.now() - base_at) * 2000)",
        ),
    ),
    ttl(
        "expire early",
        "P6: a tenth of a second before the time",
        state(
            "store:Store.is_dead",
            "if 0 < meta[1] <= self._turn.clock_ms:",
            "if 0 < meta[1] <= self._turn.clock_ms + 100:",
        ),
        directed="ttl to the moment",
    ),
    ttl(
        "never expire",
        "P6: nothing goes by itself",
        method("engine:Engine._tick_cluster_clock", "due = self.machine.next_due_ms()\n", "due = None\n"),
    ),
    ttl(
        "let the cluster clock go back",
        "P6: a new leader's lower stamp counts",
        state(
            "machine:StateMachine._apply",
            "turn.clock_ms = max(turn.clock_ms, clock_ms)",
            "turn.clock_ms = clock_ms - index % 400",
        ),
    ),
    ttl(
        "restore an older cluster clock",
        "P6: replicas expire at different entries",
        restored(
            "machine.load_header(index, clock_ms, revision, chain)",
            "machine.load_header(index, clock_ms - 200, revision, chain)",
        ),
    ),
    ttl(
        "differ by replica",
        "P6: apply looks at something that is not in the log",
        state(
            "machine:StateMachine._apply",
            "    self._expire_leases_and_locks()\n",
            "    if len(self.history) % 40 == 39:\n"
            "        turn.revision += 1\n"
            "    self._expire_leases_and_locks()\n",
        ),
    ),
)
