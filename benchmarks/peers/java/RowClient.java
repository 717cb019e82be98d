import io.embedding.stream.v1.Embedding;
import io.embedding.stream.v1.EmbeddingStreamServiceGrpc;
import io.embedding.stream.v1.EmbeddingStreamServiceGrpc.EmbeddingStreamServiceStub;
import io.embedding.stream.v1.RequestParams;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;

/**
 * Reads GetEmbeddings again and again, so that it is warm: AHEAD PASSES TARGET... It asks for
 * AHEAD messages at once and for more as they arrive, or leaves that to grpc-java if AHEAD is 0.
 * A pass reads one stream from each target; prints one "ROWS SECONDS" a stream.
 */
final class RowClient {
  private static final class Counter implements ClientResponseObserver<RequestParams, Embedding> {
    final CompletableFuture<Integer> done = new CompletableFuture<>();
    private final int ahead;
    private ClientCallStreamObserver<RequestParams> call;
    private int rows;

    Counter(int ahead) {
      this.ahead = ahead;
    }

    @Override
    public void beforeStart(ClientCallStreamObserver<RequestParams> call) {
      this.call = call;
      if (ahead > 0) {
        call.disableAutoRequestWithInitial(ahead);
      }
    }

    @Override
    public void onNext(Embedding row) {
      rows++;
      if (ahead > 0 && rows % (ahead / 2) == 0) {
        call.request(ahead / 2);
      }
    }

    @Override
    public void onError(Throwable error) {
      done.completeExceptionally(error);
    }

    @Override
    public void onCompleted() {
      done.complete(rows);
    }
  }

  public static void main(String[] arguments) {
    int ahead = Integer.parseInt(arguments[0]);
    int passes = Integer.parseInt(arguments[1]);
    List<ManagedChannel> channels = new ArrayList<>();
    List<EmbeddingStreamServiceStub> stubs = new ArrayList<>();
    for (String target : List.of(arguments).subList(2, arguments.length)) {
      var channel = ManagedChannelBuilder.forTarget(target).usePlaintext().build();
      channels.add(channel);
      stubs.add(EmbeddingStreamServiceGrpc.newStub(channel));
    }
    for (int pass = 0; pass < passes; pass++) {
      for (var stub : stubs) {
        var counter = new Counter(ahead);
        long started = System.nanoTime();
        stub.getEmbeddings(RequestParams.getDefaultInstance(), counter);
        int rows = counter.done.join();
        double seconds = (System.nanoTime() - started) / 1e9;
        System.out.printf(Locale.ROOT, "%d %.6f%n", rows, seconds);
      }
    }
    channels.forEach(ManagedChannel::shutdownNow);
  }
}
