import io.embedding.stream.v1.Embedding;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.Locale;

/** Rows, their digest, and the time taken. One thread at a time; the clock starts with it. */
final class Report {
  private final long started = System.nanoTime();
  private final MessageDigest digest;
  private long rows;

  Report() {
    try {
      digest = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException error) {
      throw new AssertionError("every Java has SHA-256", error);
    }
  }

  void add(Embedding row) {
    addText(row.getId());
    addText(row.getCompanyName());
    addText(row.getEnglishLevel());
    addText(row.getPrimaryKeyword());
    int count = row.getVectorCount();
    ByteBuffer numbers = ByteBuffer.allocate(8 + 4 * count);
    numbers.putInt(row.getExpYears()).putInt(count).order(ByteOrder.LITTLE_ENDIAN);
    for (int index = 0; index < count; index++) {
      numbers.putFloat(row.getVector(index));
    }
    digest.update(numbers.array());
    rows++;
  }

  void print() {
    double seconds = (System.nanoTime() - started) / 1e9;
    System.out.printf(
        Locale.ROOT,
        "{\"rows\": %d, \"digest\": \"%s\", \"seconds\": %.3f}%n",
        rows, HexFormat.of().formatHex(digest.digest()), seconds);
  }

  private void addText(String text) {
    byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
    digest.update(ByteBuffer.allocate(4).putInt(utf8.length).array());
    digest.update(utf8);
  }
}
