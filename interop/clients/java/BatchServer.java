import io.embedding.stream.v1.Embedding;
import io.embedding.stream.v1.EmbeddingUploadServiceGrpc;
import io.embedding.stream.v1.UploadResult;
import io.grpc.Server;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;

/**
 * A Batch Server that keeps rows by id, and fails those whose ids are its arguments. At the end of
 * its input it reports what it has, in the order of the ids' text.
 */
final class BatchServer extends EmbeddingUploadServiceGrpc.EmbeddingUploadServiceImplBase {
  private final SortedMap<String, Embedding> rows = new TreeMap<>();
  private final Set<String> refused;

  private BatchServer(String... refused) {
    this.refused = Set.of(refused);
  }

  @Override
  public StreamObserver<Embedding> uploadEmbeddings(StreamObserver<UploadResult> answer) {
    return new StreamObserver<>() {
      private final UploadResult.Builder result = UploadResult.newBuilder();
      private int received;

      @Override
      public void onNext(Embedding row) {
        received++;
        if (refused.contains(row.getId())) {
          result.addFailedIds(row.getId());
          return;
        }
        synchronized (rows) {
          rows.put(row.getId(), row);
        }
      }

      @Override
      public void onError(Throwable error) {} // the sender is gone, and comes again

      @Override
      public void onCompleted() {
        int failed = result.getFailedIdsCount();
        result.setTotalCount(received).setSuccessCount(received - failed).setFailedCount(failed);
        answer.onNext(result.build());
        answer.onCompleted();
      }
    };
  }

  public static void main(String[] arguments) throws Exception {
    var service = new BatchServer(arguments);
    var address = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
    Server server = NettyServerBuilder.forAddress(address).addService(service).build().start();
    System.out.printf("listening on 127.0.0.1:%d%n", server.getPort());
    while (System.in.read() >= 0) {}
    server.shutdown().awaitTermination();
    var report = new Report();
    service.rows.values().forEach(report::add);
    report.print();
  }
}
