// Puts a tensor into a cluster and gets it back: put_get HOST:PORT

#include <cstdio>
#include <vector>

#include "client/client.h"

using ballast::client::Client;
using ballast::client::DType;

namespace {

int report(const ballast::Error& error) {
  std::fprintf(stderr, "put_get: %s\n", error.message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: put_get HOST:PORT\n");
    return 2;
  }
  auto client = Client::connect({.endpoints = {argv[1]}});
  if (!client) return report(client.error());

  std::vector<float> weights(64 * 64);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = 0.01f * static_cast<float>(i % 100);

  // Packed INT4, durable on a majority before put() returns.
  auto put = client->put(
      "examples/weights",
      {.dtype = DType::kF32, .shape = {64, 64}, .data = std::as_bytes(std::span(weights))},
      {.codec = *ballast::quant::parse_codec("int4")});
  if (!put) return report(put.error());

  auto got = client->get("examples/weights", {.as = DType::kF32});
  if (!got) return report(got.error());

  const auto figures = ballast::quant::error_report(*put->tensor.error);
  std::printf("%zu bytes became %llu, %zu came back, SQNR %.1f dB, log index %llu\n",
              weights.size() * sizeof(float),
              static_cast<unsigned long long>(put->tensor.encoded_bytes), got->data.size(),
              figures.sqnr_db, static_cast<unsigned long long>(put->receipt.index.value()));
  return 0;
}
