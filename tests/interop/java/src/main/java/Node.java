import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.time.Duration;
import java.util.concurrent.Executor;
import replcache.v1.CacheGrpc;
import replcache.v1.ClusterGrpc;
import replcache.v1.LockGrpc;
import replcache.v1.WatchGrpc;

/** The services of one node. */
record Node(ManagedChannel channel) implements AutoCloseable {
    private static final Duration TRY_TIMEOUT = Duration.ofSeconds(10);

    /** caFile and token may be null. */
    static Node connect(String address, String caFile, String token) throws IOException {
        ChannelCredentials credentials = InsecureChannelCredentials.create();
        if (caFile != null) {
            credentials = TlsChannelCredentials.newBuilder().trustManager(new File(caFile)).build();
            if (token != null) {
                credentials = CompositeChannelCredentials.create(credentials, new Bearer(token));
            }
        }
        return new Node(Grpc.newChannelBuilder(address, credentials).build());
    }

    CacheGrpc.CacheBlockingStub cache() {
        return CacheGrpc.newBlockingStub(channel).withDeadlineAfter(TRY_TIMEOUT);
    }

    LockGrpc.LockBlockingStub lock() {
        return LockGrpc.newBlockingStub(channel).withDeadlineAfter(TRY_TIMEOUT);
    }

    ClusterGrpc.ClusterBlockingStub cluster() {
        return ClusterGrpc.newBlockingStub(channel).withDeadlineAfter(TRY_TIMEOUT);
    }

    WatchGrpc.WatchBlockingStub watch() {
        return WatchGrpc.newBlockingStub(channel);
    }

    @Override
    public void close() {
        channel.shutdownNow();
    }

    /** A token that goes with every call. */
    private static final class Bearer extends CallCredentials {
        private static final Metadata.Key<String> AUTHORIZATION =
                Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
        private final String token;

        Bearer(String token) {
            this.token = token;
        }

        @Override
        public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier applier) {
            var headers = new Metadata();
            headers.put(AUTHORIZATION, "Bearer " + token);
            applier.apply(headers);
        }
    }
}
