"""Limits and defaults: unit in the name, reason above, relations asserted at the end."""

# --- sizes -------------------------------------------------------------------------------------------------
# Long enough for URL-like keys; every key is in memory on every node.
KEY_BYTES_MAX = 1024
# One value must fit a log record and a message with room to spare; larger ones are chunked by the client.
VALUE_BYTES_MAX = 1024 * 1024
# Parts of larger values: several fit a message, and none keeps the log from others for long.
PART_BYTES = 512 * 1024
# gRPC's own default of 4 MiB: every language's client accepts it without configuration.
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
# A batch is one log entry and is applied in one go: as columns about 5 ms of the loop, as single operations
# about 30 ms.
BATCH_OPERATIONS_MAX = 4096
BATCH_BYTES_MAX = 3 * 1024 * 1024
# Content type of the manifest of a value in parts; nodes refuse to change such an entry in place.
MANIFEST_TYPE = "application/vnd.replcache.parts+json"
SCAN_PAGE_ENTRIES_MAX = 1000
SCAN_PAGE_ENTRIES_DEFAULT = 100
CONTENT_TYPE_BYTES_MAX = 128
TAG_BYTES_MAX = 128
# Keys of write-behind queues (replcache/patterns/behind.py), which are never evicted.
WRITE_BEHIND_PREFIX = b"\0behind\0"
TAGS_PER_ENTRY_MAX = 32
# Tags that one Find or InvalidateTags names.
TAGS_PER_REQUEST_MAX = 64
# Keys that one DeleteRange deletes: about 5 ms of every node's loop.
DELETE_RANGE_KEYS_MAX = 2000
NAMESPACE_NAME_BYTES_MAX = 64
# More than any node's memory; keeps sums of quotas far from 64 bits.
NAMESPACE_QUOTA_BYTES_MAX = 1 << 50
LOCK_NAME_BYTES_MAX = 256
LOCK_OWNER_BYTES_MAX = 64
LOCK_NOTE_BYTES_MAX = 256
LOCK_PERMITS_MAX = 1024
# A queue longer than this is a thundering herd, not a lock.
LOCK_WAITERS_MAX = 10_000
REQUEST_ID_BYTES_MAX = 64

# --- raft --------------------------------------------------------------------------------------------------
HEARTBEAT_INTERVAL_S = 0.1
ELECTION_TIMEOUT_MIN_S = 0.5
ELECTION_TIMEOUT_MAX_S = 1.0
# How often time-driven raft work is looked at; a fifth of the heartbeat keeps its jitter low.
TICK_INTERVAL_S = 0.02
# Followers on which nobody waits hear of a commit this much later, if no entry has told them by then.
COMMIT_NEWS_DELAY_S = 0.002
# One log entry of group commit: what followers receive, sync and apply in one go.
ENTRY_BYTES_MAX = 4 * 1024 * 1024
# Above message and entry limits plus framing; checked before anything is buffered.
PEER_FRAME_BYTES_MAX = 8 * 1024 * 1024
PEER_OUTBOX_BYTES_MAX = 64 * 1024 * 1024
# Control messages (heartbeats, votes, replies) take 20 to 50 bytes: room for many seconds of them, apart from
# the room for bulk, so that a full bulk queue never silences a heartbeat.
PEER_CONTROL_BYTES_MAX = 1024 * 1024
# A Hello with a few dozen members fits many times; a stranger can't make us hold more than this.
PEER_HANDSHAKE_FRAME_BYTES_MAX = 64 * 1024
PEER_HANDSHAKE_TIMEOUT_S = 3.0
PEER_CONNECTIONS_MAX = 64
PEER_RECONNECT_MIN_S = 0.05
PEER_RECONNECT_MAX_S = 1.0
# Questions of the peers' servers (status, state hash): answered at once, and bytes of one answer.
PEER_QUESTIONS_MAX = 64
PEER_ANSWER_BYTES_MAX = 64 * 1024
# A half-open connection is found within about ping interval + pong timeout, also when nothing else is sent.
PEER_PING_INTERVAL_S = 1.0
PEER_PONG_TIMEOUT_S = 3.0
# An accepted connection without any frame for this long is of a peer that is gone: several pings are missing.
PEER_IDLE_TIMEOUT_S = 10.0
APPEND_BYTES_MAX = 1024 * 1024
# Messages of one node that wait for its disk. A leader asks ten times a second: this many wait after 100 s.
GATED_MESSAGES_MAX = 1000
# A frame full of empty entries would become millions of objects; a leader's message has far fewer.
APPEND_ENTRIES_MAX = 256 * 1024
APPENDS_IN_FLIGHT_MAX = 64
# Drawn ids of sessions are from here to its double: above every revision, and exact as a double.
SECRET_SESSION_IDS_FROM = 1 << 52
# What one command may cost when it is applied: bytes of values, weighted. A value that goes into the reply is
# kept for exactly-once and sent; a JSON merge parses and writes all of it. So 16 MiB of replies, or 5 MiB of
# documents that are merged (about 0.2 s).
COMMAND_WORK_MAX = 128 * 1024 * 1024
COMMAND_WORK_REPLY = 8
COMMAND_WORK_MERGE = 16
SNAPSHOT_CHUNK_BYTES = 512 * 1024
# After each chunk of a snapshot that it takes, a node rests this many times as long as the chunk took.
SNAPSHOT_REST = 3.0
SNAPSHOT_REST_S_MAX = 0.2
WAL_SEGMENT_BYTES = 64 * 1024 * 1024
# A full disk is asked again this often whether there is room for the log.
DISK_FULL_RETRY_S = 0.2
# Log entries kept behind a snapshot, so that a node that was away briefly needs no snapshot.
LOG_KEPT_ENTRIES = 10_000
# And no more than this of them: they are in memory.
LOG_KEPT_BYTES = 32 * 1024 * 1024
# Log bytes after which a snapshot is taken, or the size of the last snapshot if that is more: so that writing
# snapshots never costs more than writing the log.
SNAPSHOT_AFTER_BYTES = 64 * 1024 * 1024
SNAPSHOT_AFTER_ENTRIES = 200_000
PROPOSALS_IN_FLIGHT_MAX = 20_000
PROPOSALS_IN_FLIGHT_BYTES_MAX = 128 * 1024 * 1024

# --- gRPC server -------------------------------------------------------------------------------------------
# Calls at once on one connection; more wait in the client. A stream that nobody reads holds one of them.
STREAMS_PER_CONNECTION_MAX = 1000
# Operations of a batch that are turned into commands, or results into answers, before others get the loop:
# about a millisecond.
BATCH_SLICE_OPERATIONS = 256
# grpcio refuses larger request headers before any of our code runs.
METADATA_BYTES_MAX = 8 * 1024
# Measured: without it grpcio keeps a silent connection for 120 s.
GRPC_HANDSHAKE_TIMEOUT_S = 3.0
# A connection without calls is closed politely; clients reconnect by themselves.
GRPC_CONNECTION_IDLE_S = 60.0
# Clients may ping this often, also without calls; the Python client pings every 20 s.
GRPC_KEEPALIVE_MIN_S = 10.0
# The server's own pings find dead clients, whose streams and lock waits then end.
GRPC_KEEPALIVE_S = 20.0
GRPC_KEEPALIVE_TIMEOUT_S = 10.0
# One Pipeline stream: above either bound the server stops reading, which is gRPC's flow control.
PIPELINE_BATCHES_IN_FLIGHT_MAX = 64
PIPELINE_BYTES_IN_FLIGHT_MAX = 8 * 1024 * 1024
# Entries of one reply; fits the 4 MiB that every client accepts, with room for the rest of the message.
REPLY_BYTES_MAX = BATCH_BYTES_MAX
# Reads of entries with a sliding expiry are put into the log together, this often and this many at most.
ACCESS_FLUSH_INTERVAL_S = 0.02
ACCESSED_KEYS_MAX = 50_000
# Which keys are used is merged into the figures this often; of more reads, or writes, only so many count
# (below 1 µs each).
ACTIVITY_FLUSH_INTERVAL_S = 0.1
ACTIVITY_SAMPLES = 2000
# Most frequent keys that are kept: of N counted uses an estimate is wrong by at most about N / 1024.
HOT_KEYS_KEPT = 1024
# What a node tells the leader about used keys every ACTIVITY_FLUSH_INTERVAL_S: at most 640 kB/s.
DIGEST_KEYS_MAX = 1000
DIGEST_BYTES_MAX = 64 * 1024
DIGEST_COUNT_MAX = 255
# A namespace that evicts is kept between these parts of its quota. Up to a fifth above it writes are still
# taken: room for what is written while an eviction is under way.
EVICTION_START = 0.97
EVICTION_TARGET = 0.92
# Victims in one command: 2 to 4 ms of every node's loop.
EVICTION_KEYS_MAX = 1000
# Entries looked at for each victim: with 5 the choice is near that of an exact list (measured by Redis, whose
# maxmemory-samples has the same meaning).
EVICTION_SAMPLES = 5
EVICTION_SAMPLES_MIN = 64
# Candidates that are kept for the next choice.
EVICTION_POOL_MAX = 1000
# How often quotas are looked at while entries are applied.
EVICTION_CHECK_INTERVAL_S = 0.01
LOCKS_DESCRIBED_MAX = 1000
# Keys, and locks, of a lease in one Describe.
LEASE_THINGS_DESCRIBED_MAX = 1000
HOT_KEYS_DEFAULT = 10
HOT_KEYS_MAX = 100
MEMBER_NAME_BYTES_MAX = 64
ADDRESS_BYTES_MAX = 256
# A request that has less time than this left can't be answered in time any more.
DEADLINE_LEFT_MIN_S = 0.001
# Time kept back from the caller's deadline, so that the typed error still reaches the caller: a tenth of
# what is left, at most this.
DEADLINE_MARGIN_MAX_S = 0.05
# A lock wait keeps back more: giving up the place in the queue takes a round through the log.
LOCK_GIVE_UP_MARGIN_MAX_S = 0.25
# How long giving up a lock after the caller went away may take; the queue forgets it by itself later.
LOCK_GIVE_UP_TIMEOUT_S = 2.0
# A waiter looks at the lock itself this often: an installed snapshot brings no events.
LOCK_RECHECK_INTERVAL_S = 1.0
# Health follows the node's state at this pace: NOT_SERVING well within 1 s of a lost quorum.
HEALTH_POLL_INTERVAL_S = 0.1
LOOP_LAG_PROBE_INTERVAL_S = 0.25
# Certificates on disk are looked at this often.
TLS_RELOAD_INTERVAL_S = 10.0
# So is the auth file: a revoked token must not live for long.
AUTH_RELOAD_INTERVAL_S = 1.0
# A token that was right is believed for this long without another argon2 (a change of the auth file counts at
# once); one that was wrong is refused for this long without one.
AUTH_GOOD_S = 600.0
AUTH_WRONG_S = 60.0
# Tokens remembered, right and wrong ones each: about 200 bytes an entry.
AUTH_REMEMBERED_MAX = 4096
# A source with so many wrong tokens within the interval waits for its end: each costs 10 ms of a processor.
AUTH_FAILURES_MAX = 20
AUTH_FAILURES_INTERVAL_S = 10.0
# One log line for each source and cause of refusal in this time, and so many lines for all sources together.
REFUSAL_LOG_INTERVAL_S = 60.0
REFUSAL_LOG_LINES_MAX = 100
# Sources and identities that are told apart; the least recently seen is forgotten.
SOURCES_MAX = 10_000
# More connections are closed at once: a descriptor and some 100 kB each.
CONNECTIONS_MAX = 10_000
STOP_GRACE_S = 5.0
STOP_TRANSFER_TIMEOUT_S = 1.0
# After the last batch was answered while stopping, streams stay open this long for stragglers.
STOP_STREAM_LINGER_S = 0.1
GATEWAYS_MAX = 64
# Callers that a gateway and its core tell apart by number; with more the numbers begin anew.
GATEWAY_CALLERS_MAX = 4096
# Importing gRPC takes a second on an idle machine.
GATEWAY_START_TIMEOUT_S = 30.0
# A gateway that died is started again after this, doubled each time it dies before it listens.
GATEWAY_RESTART_S = 0.1
GATEWAY_RESTART_MAX_S = 5.0
# So many deaths in a row before it listens are no accident: the node stops.
GATEWAY_STARTS_MAX = 6

# --- time (cluster clock, milliseconds) ---
TTL_MS_MAX = 10 * 365 * 24 * 3600 * 1000
LOCK_TTL_MS_MIN = 100
LOCK_TTL_MS_MAX = 3600 * 1000
LOCK_WAIT_MS_MAX = 3600 * 1000
SESSION_TTL_MS_DEFAULT = 10 * 60 * 1000
SESSION_TTL_MS_MIN = 1000
SESSION_TTL_MS_MAX = 24 * 3600 * 1000
REQUEST_ID_TTL_MS = 10 * 60 * 1000
# Stored replies of one session; a client with more unanswered writes is refused, not forgotten.
SESSION_REPLIES_MAX = 4096
SESSIONS_MAX = 100_000
# Shorter than a failover, and a change of leaders would end leases that are kept alive.
LEASE_TTL_MS_MIN = 1000
LEASE_TTL_MS_MAX = 24 * 3600 * 1000

# --- reads -------------------------------------------------------------------------------------------------
# How often a node proves how fresh its copy is (READ_LEVEL_ONE), with one ReadIndex round.
STALENESS_PROBE_INTERVAL_S = 0.1
DEFAULT_DEADLINE_S = 2.0

# --- Python client -----------------------------------------------------------------------------------------
# A failover takes 1 to 2 s: with this a leader's death is invisible to callers.
CLIENT_TIMEOUT_S = 5.0
# A node that is paused or cut off breaks no connection; after this long another one is asked (the same
# session sequence makes that safe). Above an election, so that a healthy follower is not given up.
CLIENT_ATTEMPT_TIMEOUT_S = 1.5
# Messages of one kind under way at once; what is asked meanwhile is packed into the next one.
CLIENT_MESSAGES_IN_FLIGHT_MAX = 4
# From so many reads on, two messages that are worked on side by side beat one.
CLIENT_HALVED_READS_MIN = 96
# A call may join a message that was opened at most this fraction of its timeout ago, because it gets the
# message's deadline.
CLIENT_JOIN_FRACTION = 0.05
# Writes whose reply is still stored by the cluster; half of what it stores, then new ones wait.
CLIENT_UNSETTLED_WRITES_MAX = 2048
CLIENT_RETRY_MIN_S = 0.02
CLIENT_RETRY_MAX_S = 0.5
# Leader unknown or moved: ask for the members at most this often.
CLIENT_MEMBERS_INTERVAL_S = 1.0
# close() gives the session and the locks back within this; the cluster forgets them by itself later.
CLIENT_CLOSE_TIMEOUT_S = 1.0
# Twice what a server is allowed to ping at (GRPC_KEEPALIVE_MIN_S of the server).
CLIENT_KEEPALIVE_S = 20.0
CLIENT_KEEPALIVE_TIMEOUT_S = 5.0
# Large values whose parts a client remembers, to delete them with the value.
CLIENT_LARGE_KEYS_MAX = 4096
NEAR_ENTRIES_MAX_DEFAULT = 10_000
# Below this the proofs of freshness cost more than the reads that they save.
NEAR_STALENESS_S_MIN = 0.02
# How rarely a near cache that nobody uses looks whether it is used again.
NEAR_PROBE_IDLE_S_MAX = 1.0

# --- history (watches) ---
HISTORY_EVENTS_MAX = 200_000
HISTORY_BYTES_MAX = 64 * 1024 * 1024
WATCHES_MAX = 10_000
# A watcher that is this far behind is cut off; it can come back from its last revision.
WATCH_QUEUE_EVENTS_MAX = 20_000
WATCH_QUEUE_BYTES_MAX = 16 * 1024 * 1024
# One response holds about this much, but never less than a whole revision.
WATCH_MESSAGE_BYTES = 256 * 1024
WATCH_PAGE_ENTRIES = 500
# Changes of one election that an observer has not read yet; beyond, it is cut off.
OBSERVER_QUEUE_MAX = 1000
# An observer is sent away after its node was without a leader for this long: longer than an election.
OBSERVER_BLIND_S_MAX = 3.0
WATCH_PROGRESS_MS_DEFAULT = 1000
WATCH_PROGRESS_MS_MIN = 10
WATCH_PROGRESS_MS_MAX = 60_000

assert 2 * PART_BYTES <= VALUE_BYTES_MAX
assert HEARTBEAT_INTERVAL_S * 3 < ELECTION_TIMEOUT_MIN_S < ELECTION_TIMEOUT_MAX_S
assert TICK_INTERVAL_S * 2 <= HEARTBEAT_INTERVAL_S
assert VALUE_BYTES_MAX + KEY_BYTES_MAX < BATCH_BYTES_MAX < MESSAGE_BYTES_MAX <= ENTRY_BYTES_MAX
assert ENTRY_BYTES_MAX + BATCH_BYTES_MAX < PEER_FRAME_BYTES_MAX < PEER_OUTBOX_BYTES_MAX
assert PEER_PING_INTERVAL_S < PEER_PONG_TIMEOUT_S < PEER_IDLE_TIMEOUT_S
assert STALENESS_PROBE_INTERVAL_S >= TICK_INTERVAL_S
assert CLIENT_UNSETTLED_WRITES_MAX * 2 <= SESSION_REPLIES_MAX
assert ELECTION_TIMEOUT_MAX_S < CLIENT_ATTEMPT_TIMEOUT_S < CLIENT_TIMEOUT_S
assert REPLY_BYTES_MAX + VALUE_BYTES_MAX <= MESSAGE_BYTES_MAX
assert MESSAGE_BYTES_MAX < PIPELINE_BYTES_IN_FLIGHT_MAX
assert HEALTH_POLL_INTERVAL_S < 1.0
assert GRPC_KEEPALIVE_MIN_S <= GRPC_KEEPALIVE_S
