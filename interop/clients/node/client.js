// Reads one stream with @grpc/grpc-js, its request compressed:
//   node client.js PROTO TARGET GetEmbeddings|StreamEmbedding
import { createHash } from "node:crypto";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const digest = createHash("sha256");
let rows = 0;

function add(row) {
  for (const text of [row.id, row.company_name, row.english_level, row.primary_keyword]) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(Buffer.byteLength(text));
    digest.update(length).update(text, "utf8");
  }
  const numbers = Buffer.alloc(8 + 4 * row.vector.length);
  numbers.writeInt32BE(row.exp_years, 0);
  numbers.writeUInt32BE(row.vector.length, 4);
  row.vector.forEach((value, index) => numbers.writeFloatLE(value, 8 + 4 * index));
  digest.update(numbers);
  rows += 1;
}

const [proto, target, rpc] = process.argv.slice(2);
const definition = protoLoader.loadSync(proto, { keepCase: true, defaults: true });
const { embedding } = grpc.loadPackageDefinition(definition);
const client = new embedding.EmbeddingStreamService(target, grpc.credentials.createInsecure(), {
  "grpc.max_receive_message_length": 16 << 20,
  "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip,
});

const started = performance.now();
const call = client[rpc]({});
call.on("data", (message) => {
  if (rpc === "StreamEmbedding") message.rows.forEach(add);
  else add(message);
});
call.on("error", (error) => {
  console.error(error);
  process.exitCode = 1;
  client.close();
});
// The status says whether the call succeeded; the end of the data doesn't.
call.on("status", (status) => {
  if (status.code !== grpc.status.OK) return;
  const seconds = Math.round(performance.now() - started) / 1000;
  console.log(JSON.stringify({ rows, digest: digest.digest("hex"), seconds }));
  client.close();
});
