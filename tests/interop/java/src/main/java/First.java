import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import replcache.v1.CacheGrpc;
import replcache.v1.GetRequest;
import replcache.v1.Idempotency;
import replcache.v1.SetRequest;

/** Stores a value and reads it back. Usage: java First 127.0.0.1:7401 */
class First {
    public static void main(String[] arguments) {
        var channel = Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
        var cache = CacheGrpc.newBlockingStub(channel).withWaitForReady().withDeadlineAfter(15, TimeUnit.SECONDS);
        var key = ByteString.copyFromUtf8("greeting");
        // A new one for each write, the same for its retries.
        var id = ByteString.copyFromUtf8(UUID.randomUUID().toString());
        cache.set(SetRequest.newBuilder()
                .setKey(key)
                .setValue(ByteString.copyFromUtf8("hello"))
                .setContentType("text/plain")
                .setTtl(Duration.newBuilder().setSeconds(600))
                .setIdempotency(Idempotency.newBuilder().setRequestId(id))
                .build());

        var entry = cache.get(GetRequest.newBuilder().setKey(key).build()).getEntry();
        System.out.println(entry.getValue().toStringUtf8() + " version " + entry.getVersion());
        channel.shutdown();
    }
}
