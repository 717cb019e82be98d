import io.embedding.stream.v1.Embedding;
import io.embedding.stream.v1.EmbeddingStreamServiceGrpc;
import io.embedding.stream.v1.RequestParams;
import io.embedding.stream.v1.RowChunk;
import io.grpc.ManagedChannel;
import io.grpc.stub.StreamObserver;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;

/** Reads one stream with the asynchronous stub, its request compressed: TARGET RPC. */
final class AsyncClient {
  private static final class Observer<M> implements StreamObserver<M> {
    final CompletableFuture<Void> done = new CompletableFuture<>();
    private final Consumer<M> consumer;

    Observer(Consumer<M> consumer) {
      this.consumer = consumer;
    }

    @Override
    public void onNext(M message) {
      consumer.accept(message);
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
    var stub = EmbeddingStreamServiceGrpc.newStub(channel).withCompression("gzip");
    var request = RequestParams.newBuilder().setChunkSize(300).build();
    var report = new Report();
    if (arguments[1].equals("StreamEmbedding")) {
      var observer = new Observer<RowChunk>(chunk -> chunk.getRowsList().forEach(report::add));
      stub.streamEmbedding(request, observer);
      observer.done.join();
    } else {
      var observer = new Observer<Embedding>(report::add);
      stub.getEmbeddings(request, observer);
      observer.done.join();
    }
    report.print();
    channel.shutdownNow();
  }
}
