import io.embedding.stream.v1.Embedding;
import io.embedding.stream.v1.EmbeddingStreamServiceGrpc;
import io.embedding.stream.v1.RequestParams;
import io.embedding.stream.v1.RowChunk;
import io.grpc.ManagedChannel;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;

/**
 * Reads one stream with the asynchronous stub and asks for many messages at once, as docs/java.md
 * advises: TARGET GetEmbeddings|StreamEmbedding.
 */
final class RequestingClient {
  // What was asked for may wait in memory: 1000 messages of a row, 8 of many rows.
  private static final int ROWS_AHEAD = 1000;
  private static final int CHUNKS_AHEAD = 8;

  private static final class Observer<M> implements ClientResponseObserver<RequestParams, M> {
    final CompletableFuture<Void> done = new CompletableFuture<>();
    private final int ahead;
    private final Consumer<M> consumer;
    private ClientCallStreamObserver<RequestParams> call;
    private int received;

    Observer(int ahead, Consumer<M> consumer) {
      this.ahead = ahead;
      this.consumer = consumer;
    }

    @Override
    public void beforeStart(ClientCallStreamObserver<RequestParams> call) {
      this.call = call;
      call.disableAutoRequestWithInitial(ahead);
    }

    @Override
    public void onNext(M message) {
      consumer.accept(message);
      if (++received % (ahead / 2) == 0) {
        call.request(ahead / 2);
      }
    }

    @Override
    public void onError(Throwable error) {
      done.completeExceptionally(error);
    }

    @Override
    public void onCompleted() {
      done.complete(null);
    }
  }

  public static void main(String[] arguments) {
    ManagedChannel channel = Channels.open(arguments[0]);
    var stub = EmbeddingStreamServiceGrpc.newStub(channel);
    var request = RequestParams.getDefaultInstance();
    var report = new Report();
    if (arguments[1].equals("StreamEmbedding")) {
      var observer = new Observer<RowChunk>(
          CHUNKS_AHEAD, chunk -> chunk.getRowsList().forEach(report::add));
      stub.streamEmbedding(request, observer);
      observer.done.join();
    } else {
      var observer = new Observer<Embedding>(ROWS_AHEAD, report::add);
      stub.getEmbeddings(request, observer);
      observer.done.join();
    }
    report.print();
    channel.shutdownNow();
  }
}
