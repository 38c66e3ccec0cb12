import io.grpc.StatusRuntimeException;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.Queue;
import java.util.stream.IntStream;
import replcache.v1.StatusRequest;
import replcache.v1.WatchEvent;
import replcache.v1.WatchRequest;
import replcache.v1.WatchResponse;

/** Half of the writes before the leader is killed, half after; the watch was served by that leader. */
final class Watching {
    private static final int EVENTS = 20;

    private final Cluster cluster;
    private final String prefix;
    private final Queue<WatchEvent> received = new ArrayDeque<>();
    private Iterator<WatchResponse> responses;
    private long start;

    Watching(Cluster cluster, String prefix) {
        this.cluster = cluster;
        this.prefix = prefix;
    }

    void run() throws Exception {
        String leader = "";
        for (int i = 0; i < cluster.nodes.size(); i++) {
            var header = cluster.nodes.get(i).cluster().status(StatusRequest.getDefaultInstance()).getHeader();
            leader = header.getLeader();
            if (header.getNode().equals(leader)) {
                cluster.first = i;
            }
        }
        var keys = IntStream.range(0, EVENTS).mapToObj(i -> String.format("%s%02d", prefix, i)).toList();
        start = put(prefix + "before") + 1;

        var seen = new ArrayList<WatchEvent>();
        half(keys.subList(0, EVENTS / 2), seen);
        Scenario.print("kill", leader);
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        half(keys.subList(EVENTS / 2, EVENTS), seen);

        long last = 0;
        for (int i = 0; i < EVENTS; i++) {
            var event = seen.get(i);
            Scenario.ensure(event.getKey().toStringUtf8().equals(keys.get(i)), "a gap, or out of order: " + event);
            Scenario.ensure(event.getRevision() > last, "revisions do not increase");
            last = event.getRevision();
        }
        Scenario.print("watch:", seen.size(), "events in order over a leader kill");
    }

    private void half(List<String> keys, List<WatchEvent> seen) throws InterruptedException {
        if (responses == null) {
            responses = cluster.call(this::open);
        }
        for (var key : keys) {
            put(key);
        }
        for (int i = 0; i < keys.size(); i++) {
            seen.add(next());
        }
    }

    /** Writes whatever happens to a node, once; returns the revision. */
    private long put(String key) throws InterruptedException {
        var request = Scenario.set(key, "x").build();
        return cluster.call(node -> node.cache().set(request)).getHeader().getRevision();
    }

    /** The next change; goes on at another node when the one that serves the watch is gone. */
    private WatchEvent next() throws InterruptedException {
        while (received.isEmpty()) {
            try {
                received.addAll(responses.next().getEventsList());
            } catch (StatusRuntimeException error) {
                if (!Cluster.mayPass(error)) {
                    throw error;
                }
                responses = cluster.call(this::open);
            }
        }
        var event = received.remove();
        start = event.getRevision() + 1;
        return event;
    }

    private Iterator<WatchResponse> open(Node node) {
        var request = WatchRequest.newBuilder().setPrefix(Scenario.bytes(prefix)).setStartRevision(start);
        var opened = node.watch().watch(request.build());
        opened.next(); // created
        return opened;
    }
}
