import io.embedding.stream.v1.EmbeddingStreamServiceGrpc;
import io.embedding.stream.v1.RequestParams;
import io.grpc.ManagedChannel;

/** Reads one stream with the blocking stub: TARGET GetEmbeddings|StreamEmbedding. */
final class BlockingClient {
  public static void main(String[] arguments) {
    ManagedChannel channel = Channels.open(arguments[0]);
    var stub = EmbeddingStreamServiceGrpc.newBlockingStub(channel);
    var request = RequestParams.getDefaultInstance();
    var report = new Report();
    if (arguments[1].equals("StreamEmbedding")) {
      stub.streamEmbedding(request)
          .forEachRemaining(chunk -> chunk.getRowsList().forEach(report::add));
    } else {
      stub.getEmbeddings(request).forEachRemaining(report::add);
    }
    report.print();
    channel.shutdownNow();
  }
}
