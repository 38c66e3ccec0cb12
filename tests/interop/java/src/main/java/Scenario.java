import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import io.grpc.StatusRuntimeException;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.function.ToLongFunction;
import replcache.v1.AcquireRequest;
import replcache.v1.BatchRequest;
import replcache.v1.Compare;
import replcache.v1.Condition;
import replcache.v1.DeleteRequest;
import replcache.v1.Fence;
import replcache.v1.GetRequest;
import replcache.v1.IncrementRequest;
import replcache.v1.Operation;
import replcache.v1.ReadLevel;
import replcache.v1.ReadOptions;
import replcache.v1.ReleaseRequest;
import replcache.v1.SetRequest;
import replcache.v1.TxnRequest;
import replcache.v1.UpdateRequest;

/**
 * The scenario that every language runs. Usage: java Scenario ADDRESS,ADDRESS,... PREFIX [CA_FILE]
 *
 * <p>The token, if any, is in REPLCACHE_TOKEN. Prints one line a step; after `kill NODE` it waits for a line.
 */
final class Scenario {
    private static final Duration TEN_MINUTES = Duration.newBuilder().setSeconds(600).build();

    private final Cluster cluster;
    private final String prefix;

    private Scenario(Cluster cluster, String prefix) {
        this.cluster = cluster;
        this.prefix = prefix;
    }

    public static void main(String[] arguments) throws Exception {
        var addresses = arguments[0].split(",");
        var prefix = arguments[1];
        var caFile = arguments.length > 2 ? arguments[2] : null;
        var variable = System.getenv("REPLCACHE_TOKEN");
        var token = variable == null || variable.isEmpty() ? null : variable;
        var nodes = new ArrayList<Node>();
        for (var address : addresses) {
            nodes.add(Node.connect(address, caFile, token));
        }
        var cluster = new Cluster(nodes);
        var scenario = new Scenario(cluster, prefix);
        scenario.readAndWrite();
        scenario.refusals();
        scenario.count();
        scenario.manyAtOnce();
        scenario.transaction();
        scenario.lock();
        if (token != null) {
            try (var stranger = Node.connect(addresses[0], caFile, null)) {
                print("no token:", outcome(() -> stranger.cache().get(get(prefix))));
            }
            print("no right:", outcome(() -> nodes.get(0).cache().get(get("not/ours"))));
        }
        new Watching(cluster, prefix + "watch/").run();
        nodes.forEach(Node::close);
    }

    private void readAndWrite() {
        var key = prefix + "user";
        var written = node(0).cache().set(set(key, "{\"name\":\"Ada\"}")
                .setContentType("application/json")
                .setTtl(TEN_MINUTES)
                .build());
        print("set: version", written.getVersion());

        var entry = node(1).cache().get(get(key)).getEntry();
        print("get linearizable:", text(entry.getValue()), entry.getContentType());

        var revision = written.getHeader().getRevision();
        var session = ReadOptions.newBuilder().setLevel(ReadLevel.READ_LEVEL_SESSION).setMinRevision(revision);
        var own = node(2).cache().get(get(key).toBuilder().setRead(session).build());
        ensure(own.getHeader().getRevision() >= revision, "an older state was read");
        print("get session:", text(own.getEntry().getValue()));

        var local = ReadOptions.newBuilder()
                .setLevel(ReadLevel.READ_LEVEL_ONE)
                .setMaxStaleness(Duration.newBuilder().setSeconds(2));
        var near = node(0).cache().get(get(key).toBuilder().setRead(local).build());
        var staleness = near.getHeader().getStaleness();
        ensure(staleness.getSeconds() + staleness.getNanos() / 1e9 <= 2, "too stale");
        print("get one:", text(near.getEntry().getValue()));

        print("get missing:", node(0).cache().get(get(key + "/none")).hasEntry() ? "present" : "absent");

        var merged = node(0).cache().update(UpdateRequest.newBuilder()
                .setKey(bytes(key))
                .setMergeJson(bytes("{\"admin\":true}"))
                .setIdempotency(Cluster.once())
                .build()).getEntry();
        print("update:", text(merged.getValue()), "version", merged.getVersion());
    }

    private void refusals() throws InvalidProtocolBufferException {
        var append = UpdateRequest.newBuilder().setKey(bytes(prefix + "none")).setAppend(bytes("x"));
        print("update missing:", outcome(() -> node(1).cache().update(append.build())));
        var create = set(prefix + "user", "").setCondition(Condition.newBuilder().setIfAbsent(true));
        print("set if absent:", outcome(() -> node(1).cache().set(create.build())));
        var longKey = set(prefix + "x".repeat(1024), "");
        print("key too long:", outcome(() -> node(1).cache().set(longKey.build())));
    }

    /** The same request sent twice, to two nodes, counts once. */
    private void count() {
        var five = increment("count", 5).getIncrement().toBuilder().setIdempotency(Cluster.once()).build();
        var first = node(0).cache().increment(five).getValue();
        var second = node(1).cache().increment(five).getValue();
        print("increment twice with one request id:", first, second);
    }

    private void manyAtOnce() throws InvalidProtocolBufferException {
        var read = Operation.newBuilder().setGet(get(prefix + "a"));
        var batch = BatchRequest.newBuilder()
                .setAtomic(true)
                .setIdempotency(Cluster.once())
                .addOperations(Operation.newBuilder().setSet(set(prefix + "a", "1")))
                .addOperations(increment("count", 1))
                .addOperations(read);
        var done = node(2).cache().batch(batch.build()).getResultsList();
        var value = text(done.get(2).getGet().getEntry().getValue());
        print("batch:", done.get(0).getSet().getVersion(), done.get(1).getIncrement().getValue(), value);

        var delete = DeleteRequest.newBuilder().setKey(bytes(prefix + "a"));
        var append = UpdateRequest.newBuilder().setKey(bytes(prefix + "none")).setAppend(bytes("x"));
        var failing = BatchRequest.newBuilder()
                .setAtomic(true)
                .setIdempotency(Cluster.once())
                .addOperations(Operation.newBuilder().setDelete(delete))
                .addOperations(Operation.newBuilder().setUpdate(append));
        print("batch undone:", outcome(() -> node(2).cache().batch(failing.build())));
    }

    /** Takes 6 from the counter and adds it to another, if nobody was faster; the second time it is not 6. */
    private void transaction() throws InvalidProtocolBufferException {
        var isSix = Compare.newBuilder()
                .setKey(bytes(prefix + "count"))
                .setCondition(Condition.newBuilder().setIfValue(bytes("6")));
        Supplier<Object> move = () -> {
            var done = node(1).cache().txn(TxnRequest.newBuilder()
                    .addCompares(isSix)
                    .addThen(increment("count", -6))
                    .addThen(increment("other", 6))
                    .addOtherwise(Operation.newBuilder().setGet(get(prefix + "count")))
                    .setIdempotency(Cluster.once())
                    .build());
            return done.getSucceeded()
                    ? "then " + done.getResults(1).getIncrement().getValue()
                    : "otherwise " + text(done.getResults(0).getGet().getEntry().getValue());
        };
        print("txn:", outcome(move));
        print("txn:", outcome(move));
    }

    private void lock() throws InvalidProtocolBufferException {
        var name = prefix + "lock";
        ToLongFunction<String> acquire = owner -> node(0).lock().acquire(AcquireRequest.newBuilder()
                .setName(name)
                .setOwner(bytes(owner))
                .setTtl(Duration.newBuilder().setSeconds(10))
                .build()).getToken();
        Function<Long, String> write = token -> {
            var fence = Fence.newBuilder().setName(name).setToken(token);
            var written = node(0).cache().set(set(prefix + "guarded", "x").setFence(fence).build());
            return "version " + written.getVersion();
        };

        long first = acquire.applyAsLong("first");
        print("fenced write:", write.apply(first));
        print("lock held by another:", outcome(() -> acquire.applyAsLong("second")));
        release(name, "first");
        long second = acquire.applyAsLong("second");
        print("later token is larger:", second > first);
        print("stale fence:", outcome(() -> write.apply(first)));
        print("fenced write:", write.apply(second));
        release(name, "second");
    }

    private void release(String name, String owner) {
        node(0).lock().release(ReleaseRequest.newBuilder().setName(name).setOwner(bytes(owner)).build());
    }

    private Node node(int number) {
        return cluster.nodes.get(number);
    }

    private static GetRequest get(String key) {
        return GetRequest.newBuilder().setKey(bytes(key)).build();
    }

    /** A write with its own request id. */
    static SetRequest.Builder set(String key, String value) {
        return SetRequest.newBuilder().setKey(bytes(key)).setValue(bytes(value)).setIdempotency(Cluster.once());
    }

    private Operation increment(String key, long delta) {
        var increment = IncrementRequest.newBuilder().setKey(bytes(prefix + key)).setDelta(delta);
        return Operation.newBuilder().setIncrement(increment).build();
    }

    /** What the call returns, or why it was refused. */
    private static String outcome(Supplier<Object> call) throws InvalidProtocolBufferException {
        try {
            return String.valueOf(call.get());
        } catch (StatusRuntimeException error) {
            return Cluster.reason(error);
        }
    }

    static ByteString bytes(String text) {
        return ByteString.copyFromUtf8(text);
    }

    private static String text(ByteString bytes) {
        return bytes.toStringUtf8();
    }

    static void print(Object... parts) {
        System.out.println(String.join(" ", List.of(parts).stream().map(String::valueOf).toList()));
    }

    static void ensure(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
