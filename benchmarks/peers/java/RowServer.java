import io.embedding.stream.v1.Embedding;
import io.embedding.stream.v1.EmbeddingStreamServiceGrpc;
import io.embedding.stream.v1.RequestParams;
import io.grpc.Server;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** GetEmbeddings as an ordinary grpc-java server answers it: DUMP (see benchmarks/row_dump.py). */
final class RowServer extends EmbeddingStreamServiceGrpc.EmbeddingStreamServiceImplBase {
  private record Row(
      String id, String companyName, int expYears, String englishLevel, String primaryKeyword,
      float[] vector) {
    Embedding toMessage() {
      var message = Embedding.newBuilder()
          .setId(id)
          .setCompanyName(companyName)
          .setExpYears(expYears)
          .setEnglishLevel(englishLevel)
          .setPrimaryKeyword(primaryKeyword);
      for (float value : vector) {
        message.addVector(value);
      }
      return message.build();
    }
  }

  /** One stream: writes while the transport is ready, and goes on when it is ready again. */
  private static final class Stream implements Runnable {
    private final List<Row> rows;
    private final ServerCallStreamObserver<Embedding> call;
    private int next;

    Stream(List<Row> rows, ServerCallStreamObserver<Embedding> call) {
      this.rows = rows;
      this.call = call;
    }

    @Override
    public void run() {
      while (next < rows.size() && call.isReady()) {
        call.onNext(rows.get(next++).toMessage());
        if (next == rows.size()) {
          call.onCompleted();
        }
      }
    }
  }

  private final List<Row> rows;

  private RowServer(List<Row> rows) {
    this.rows = rows;
  }

  @Override
  public void getEmbeddings(RequestParams request, StreamObserver<Embedding> observer) {
    var call = (ServerCallStreamObserver<Embedding>) observer;
    call.setOnReadyHandler(new Stream(rows, call));
  }

  public static void main(String[] arguments) throws IOException, InterruptedException {
    Server server = NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", 0))
        .addService(new RowServer(readDump(Path.of(arguments[0]))))
        .build()
        .start();
    System.out.println("listening on 127.0.0.1:" + server.getPort());
    server.awaitTermination();
  }

  private static List<Row> readDump(Path path) throws IOException {
    try (var file = new DataInputStream(new BufferedInputStream(Files.newInputStream(path)))) {
      int count = readNumber(file);
      int dimension = readNumber(file);
      var rows = new ArrayList<Row>(count);
      for (int i = 0; i < count; i++) {
        rows.add(new Row(
            readText(file), readText(file), readNumber(file), readText(file), readText(file),
            readFloats(file, dimension)));
      }
      return rows;
    }
  }

  private static int readNumber(DataInputStream file) throws IOException {
    return Integer.reverseBytes(file.readInt());
  }

  private static String readText(DataInputStream file) throws IOException {
    return new String(file.readNBytes(readNumber(file)), StandardCharsets.UTF_8);
  }

  private static float[] readFloats(DataInputStream file, int count) throws IOException {
    var values = new float[count];
    ByteBuffer.wrap(file.readNBytes(Float.BYTES * count))
        .order(ByteOrder.LITTLE_ENDIAN)
        .asFloatBuffer()
        .get(values);
    return values;
  }
}
