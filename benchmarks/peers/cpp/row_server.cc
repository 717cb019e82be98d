// GetEmbeddings as an ordinary synchronous C++ server answers it: DUMP (see benchmarks/row_dump.py).
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "proto/embedding_stream.grpc.pb.h"

namespace {

struct Row {
  std::string id;
  std::string company_name;
  std::string english_level;
  std::string primary_keyword;
  std::int32_t exp_years;
  std::vector<float> vector;
};

// Reads little-endian numbers and texts from the front of a file's bytes.
class Cursor {
 public:
  explicit Cursor(const char* place) : place_(place) {}

  std::int32_t Number() {
    std::int32_t value;
    Copy(&value, sizeof value);
    return value;
  }

  std::string Text() {
    std::string text(Number(), '\0');
    Copy(text.data(), text.size());
    return text;
  }

  std::vector<float> Floats(std::size_t count) {
    std::vector<float> values(count);
    Copy(values.data(), count * sizeof(float));
    return values;
  }

 private:
  void Copy(void* target, std::size_t size) {
    std::memcpy(target, place_, size);
    place_ += size;
  }

  const char* place_;
};

std::vector<Row> ReadDump(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  Cursor cursor(bytes.data());
  const std::int32_t count = cursor.Number();
  const std::int32_t dimension = cursor.Number();
  std::vector<Row> rows(count);
  for (Row& row : rows) {
    row.id = cursor.Text();
    row.company_name = cursor.Text();
    row.exp_years = cursor.Number();
    row.english_level = cursor.Text();
    row.primary_keyword = cursor.Text();
    row.vector = cursor.Floats(dimension);
  }
  return rows;
}

class Service final : public embedding::EmbeddingStreamService::Service {
 public:
  explicit Service(std::vector<Row> rows) : rows_(std::move(rows)) {}

  grpc::Status GetEmbeddings(grpc::ServerContext*, const embedding::RequestParams*,
                             grpc::ServerWriter<embedding::Embedding>* writer) override {
    embedding::Embedding message;  // One for all rows, so that its memory is allocated once.
    for (const Row& row : rows_) {
      message.set_id(row.id);
      message.set_company_name(row.company_name);
      message.set_exp_years(row.exp_years);
      message.set_english_level(row.english_level);
      message.set_primary_keyword(row.primary_keyword);
      message.mutable_vector()->Assign(row.vector.begin(), row.vector.end());
      if (!writer->Write(message)) break;
    }
    return grpc::Status::OK;
  }

 private:
  const std::vector<Row> rows_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  Service service(ReadDump(argv[1]));
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  if (!server) return 1;
  std::printf("listening on 127.0.0.1:%d\n", port);
  std::fflush(stdout);
  server->Wait();
}
