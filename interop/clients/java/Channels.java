import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;

/** The connection that every client here uses. */
final class Channels {
  private Channels() {}

  static ManagedChannel open(String target) {
    return ManagedChannelBuilder.forTarget(target)
        .usePlaintext()
        .maxInboundMessageSize(16 << 20)
        .build();
  }
}
