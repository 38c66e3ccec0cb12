import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.function.Function;
import replcache.v1.Idempotency;

/** All nodes, retries that execute once, and the reason of an error. */
final class Cluster {
    private static final Duration GIVE_UP = Duration.ofSeconds(30);
    private static final Duration PAUSE = Duration.ofMillis(100);
    /** Another node, or the same one a little later, may well answer. Safe for writes with a request id. */
    private static final Set<Status.Code> RETRIED = Set.of(Status.Code.UNAVAILABLE, Status.Code.DEADLINE_EXCEEDED);

    final List<Node> nodes;
    int first;

    Cluster(List<Node> nodes) {
        this.nodes = nodes;
    }

    /** Asks again after a failure that may pass, the next node: `ask` sends the same request each time. */
    <T> T call(Function<Node, T> ask) throws InterruptedException {
        for (var end = Instant.now().plus(GIVE_UP); ; Thread.sleep(PAUSE.toMillis())) {
            try {
                return ask.apply(nodes.get(first));
            } catch (StatusRuntimeException error) {
                if (!mayPass(error) || Instant.now().isAfter(end)) {
                    throw error;
                }
                first = (first + 1) % nodes.size();
            }
        }
    }

    static boolean mayPass(StatusRuntimeException error) {
        return RETRIED.contains(error.getStatus().getCode());
    }

    /** Names one write: however often it is sent with this, it is executed once. */
    static Idempotency once() {
        return Idempotency.newBuilder()
                .setRequestId(ByteString.copyFromUtf8(UUID.randomUUID().toString()))
                .build();
    }

    /** What ErrorInfo says; the gRPC code where no node has answered. */
    static String reason(StatusRuntimeException error) throws InvalidProtocolBufferException {
        for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
            if (detail.is(ErrorInfo.class)) {
                var info = detail.unpack(ErrorInfo.class);
                return info.getReason() + " may_have_executed=" + info.getMetadataOrThrow("may_have_executed");
            }
        }
        return error.getStatus().getCode().name();
    }
}
