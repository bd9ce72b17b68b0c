// codec_bench [FILE.safetensors]
//
// What int4 costs: bits and dB over the tensors of a file (or over normally distributed values),
// then the speed of encoding and decoding beside memcpy and memset in the same process. Speeds are
// GB/s of the f32 side; medians. Only ratios within one run mean something.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "proto/base/limits.h"
#include "quant/codec.h"

namespace {

using ballast::quant::CodecSpec;
using ballast::quant::DType;
using ballast::quant::TensorEncoder;
namespace quant = ballast::quant;

constexpr size_t kRepetitions = 9;
constexpr size_t kInCacheValues = ballast::limits::kChunkValues;  // 512 KiB as f32
constexpr size_t kOutOfCacheValues = 64 * ballast::limits::kMiB;  // 256 MiB as f32
constexpr size_t kEncodeValues = 4 * ballast::limits::kMiB;

std::vector<float> normal_values(size_t count) {
  std::vector<float> values(count);
  uint64_t state = 1;
  for (float& value : values) {
    double sum = 0;  // of 12 uniform numbers: near enough to a normal distribution
    for (int i = 0; i < 12; ++i) {
      state = state * 6364136223846793005 + 1442695040888963407;
      sum += static_cast<double>(state >> 40) * 0x1p-24;
    }
    value = static_cast<float>((sum - 6) * 0.05);
  }
  return values;
}

// The f32 tensors with at least two dimensions and 4,096 values.
std::vector<std::vector<float>> read_safetensors(const char* path) {
  std::ifstream file(path, std::ios::binary);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), sizeof length);
  std::string text(length, ' ');
  file.read(text.data(), static_cast<std::streamsize>(length));
  if (!file) throw std::runtime_error(fmt::format("can't read the header of '{}'", path));
  std::vector<std::vector<float>> tensors;
  for (const auto& [name, tensor] : nlohmann::json::parse(text).items()) {
    if (name == "__metadata__" || tensor["dtype"] != "F32" || tensor["shape"].size() < 2) continue;
    const size_t begin = tensor["data_offsets"][0];
    const size_t end = tensor["data_offsets"][1];
    std::vector<float> values((end - begin) / sizeof(float));
    if (values.size() < 4096) continue;
    file.seekg(static_cast<std::streamoff>(sizeof length + length + begin));
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(end - begin));
    tensors.push_back(std::move(values));
  }
  return tensors;
}

std::unique_ptr<TensorEncoder> make_encoder(CodecSpec codec, std::span<const float> values) {
  std::vector<float> sample;
  for (const auto [first, count] : quant::sample_ranges(codec, values.size())) {
    sample.insert(sample.end(), &values[first], &values[first] + count);
  }
  return TensorEncoder::create(codec, DType::kF32, std::as_bytes(std::span(sample))).value();
}

std::vector<ballast::MutableBytes> encode(CodecSpec codec, std::span<const float> values,
                                          quant::ErrorSums& sums) {
  const auto encoder = make_encoder(codec, values);
  const size_t step = quant::values_per_block(codec, DType::kF32);
  std::vector<ballast::MutableBytes> blocks;
  for (size_t at = 0; at < values.size(); at += step) {
    const auto part = values.subspan(at, std::min(step, values.size() - at));
    auto block = encoder->encode(std::as_bytes(part)).value();
    sums += block.error;
    blocks.push_back(std::move(block.bytes));
  }
  return blocks;
}

void print_quality(const std::vector<std::vector<float>>& tensors) {
  fmt::print("{:16} {:>10} {:>8} {:>12} {:>10}\n", "codec", "bits", "dB", "max error", "cosine");
  for (const char* name : {"int4:group=16", "int4", "int4:group=64", "bf16", "f16"}) {
    quant::ErrorSums sums;
    size_t bytes = 0;
    size_t values = 0;
    for (const auto& tensor : tensors) {
      for (const auto& block : encode(quant::parse_codec(name).value(), tensor, sums)) {
        bytes += block.size();
      }
      values += tensor.size();
    }
    const quant::ErrorReport report = quant::error_report(sums);
    fmt::print("{:16} {:10.4f} {:8.3f} {:12.6f} {:10.7f}\n", name,
               8 * static_cast<double>(bytes) / static_cast<double>(values), report.sqnr_db,
               report.max_abs, report.cosine);
  }
}

// Seconds of one call; the median. Calls that are too short to time are timed together.
double median_seconds(size_t calls, const std::function<void()>& work) {
  std::vector<double> seconds;
  work();
  for (size_t i = 0; i < kRepetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    for (size_t call = 0; call < calls; ++call) work();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    seconds.push_back(taken.count() / static_cast<double>(calls));
  }
  std::ranges::nth_element(seconds, seconds.begin() + kRepetitions / 2);
  return seconds[kRepetitions / 2];
}

void print_speed(std::string_view what, double bytes, double seconds) {
  fmt::print("  {:28} {:8.2f} GB/s\n", what, bytes / seconds * 1e-9);
}

void decode_all(const std::vector<ballast::MutableBytes>& blocks, DType as,
                std::span<std::byte> out) {
  for (const auto& block : blocks) {
    const std::span bytes(const_cast<ballast::MutableBytes&>(block).data(), block.size());
    const uint64_t values = quant::inspect_block(bytes).value().values;
    const size_t length = values * quant::dtype_bytes(as);
    if (!quant::decode_block(bytes, 0, values, as, out.first(length))) std::abort();
    out = out.subspan(length);
  }
}

void decode_speed(std::string_view title, size_t count, size_t calls) {
  const std::vector<float> values = normal_values(std::min(count, kEncodeValues));
  quant::ErrorSums sums;
  std::vector<ballast::MutableBytes> blocks;
  for (size_t at = 0; at < count; at += values.size()) {
    for (auto& block : encode({quant::CodecId::kInt4, 32}, values, sums)) {
      blocks.push_back(std::move(block));
    }
  }
  const size_t bytes = count * sizeof(float);
  ballast::MutableBytes from(bytes);
  ballast::MutableBytes out(bytes);
  std::memset(from.data(), 1, bytes);
  const auto total = static_cast<double>(bytes);
  fmt::print("decode, {}, {} KiB as f32\n", title, bytes >> 10);
  print_speed("memcpy", total,
              median_seconds(calls, [&] { std::memcpy(out.data(), from.data(), bytes); }));
  print_speed("memset", total, median_seconds(calls, [&] { std::memset(out.data(), 2, bytes); }));
  for (const std::string_view kernel : quant::available_kernels()) {
    if (!quant::select_kernel(kernel)) std::abort();
    for (const DType as : {DType::kF32, DType::kF16, DType::kBF16}) {
      const auto decoded = out.span().first(count * quant::dtype_bytes(as));
      print_speed(fmt::format("{} to {}", kernel, quant::dtype_name(as)), total,
                  median_seconds(calls, [&] { decode_all(blocks, as, decoded); }));
    }
  }
}

void encode_speed() {
  const std::vector<float> values = normal_values(kEncodeValues);
  const double total = static_cast<double>(kEncodeValues) * sizeof(float);
  fmt::print("encode, {} MiB as f32\n", kEncodeValues * sizeof(float) >> 20);
  for (const std::string_view kernel : quant::available_kernels()) {
    if (!quant::select_kernel(kernel)) std::abort();
    for (const char* name : {"int4:group=16", "int4", "int4:group=64", "bf16", "f32"}) {
      const CodecSpec codec = quant::parse_codec(name).value();
      quant::ErrorSums sums;
      print_speed(fmt::format("{} {}", kernel, name), total,
                  median_seconds(1, [&] { encode(codec, values, sums); }));
    }
    print_speed(fmt::format("{} codebook alone", kernel), total,
                median_seconds(1, [&] { make_encoder({quant::CodecId::kInt4, 32}, values); }));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 2) {
    fmt::print(stderr, "usage: codec_bench [FILE.safetensors]\n");
    return 2;
  }
  print_quality(argc == 2 ? read_safetensors(argv[1])
                          : std::vector<std::vector<float>>{normal_values(kEncodeValues)});
  encode_speed();
  decode_speed("in cache", kInCacheValues, 64);
  decode_speed("out of cache", kOutOfCacheValues, 1);
  return 0;
}
