// Reads one stream with the synchronous C++ API: TARGET GetEmbeddings|StreamEmbedding.
#include <grpcpp/grpcpp.h>
#include <openssl/evp.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "proto/embedding_stream.grpc.pb.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMaxMessageBytes = 16 << 20;

// Rows, their digest, and the time taken; the clock starts with it.
class Report {
 public:
  Report() : started_(Clock::now()), digest_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    EVP_DigestInit_ex(digest_.get(), EVP_sha256(), nullptr);
  }

  void Add(const embedding::Embedding& row) {
    packed_.clear();
    AddText(row.id());
    AddText(row.company_name());
    AddText(row.english_level());
    AddText(row.primary_keyword());
    AddNumber(static_cast<std::uint32_t>(row.exp_years()));
    AddNumber(row.vector_size());
    // The repeated field's own memory; every machine that Debian builds for here is little-endian.
    packed_.append(reinterpret_cast<const char*>(row.vector().data()),
                   row.vector_size() * sizeof(float));
    EVP_DigestUpdate(digest_.get(), packed_.data(), packed_.size());
    ++rows_;
  }

  void Print() {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    EVP_DigestFinal_ex(digest_.get(), bytes, &size);
    const std::chrono::duration<double> seconds = Clock::now() - started_;
    std::printf("{\"rows\": %ld, \"digest\": \"", rows_);
    for (unsigned int i = 0; i < size; ++i) std::printf("%02x", bytes[i]);
    std::printf("\", \"seconds\": %.3f}\n", seconds.count());
  }

 private:
  void AddNumber(std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) packed_.push_back(value >> shift & 0xFF);
  }

  void AddText(const std::string& text) {
    AddNumber(text.size());
    packed_ += text;
  }

  Clock::time_point started_;
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> digest_;
  std::string packed_;
  long rows_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string rpc = argv[2];
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  auto stub = embedding::EmbeddingStreamService::NewStub(
      grpc::CreateCustomChannel(argv[1], grpc::InsecureChannelCredentials(), arguments));

  Report report;
  grpc::ClientContext context;
  const embedding::RequestParams request;
  grpc::Status status;
  if (rpc == "StreamEmbedding") {
    auto reader = stub->StreamEmbedding(&context, request);
    for (embedding::RowChunk chunk; reader->Read(&chunk);) {
      for (const auto& row : chunk.rows()) report.Add(row);
    }
    status = reader->Finish();
  } else {
    auto reader = stub->GetEmbeddings(&context, request);
    for (embedding::Embedding row; reader->Read(&row);) report.Add(row);
    status = reader->Finish();
  }
  if (!status.ok()) {
    std::fprintf(stderr, "status %d: %s\n", status.error_code(), status.error_message().c_str());
    return 1;
  }
  report.Print();
}
