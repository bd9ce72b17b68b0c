#include <algorithm>
#include <cstring>
#include <limits>

#include "bench/micro/measure.h"
#include "proto/base/check.h"
#include "proto/base/limits.h"
#include "quant/codec.h"

namespace ballast::micro {
namespace {

constexpr size_t kInCacheValues = limits::kChunkValues;  // 512 KiB as f32
constexpr size_t kOutOfCacheValues = 64 * limits::kMiB;  // 256 MiB as f32
constexpr size_t kStreamBytes = 64;                      // what a fill writes at once
constexpr std::string_view kEncode = "encode";
constexpr std::string_view kInCache = "decode, in cache";
constexpr std::string_view kOutOfCache = "decode, out of cache";

using TensorBytes = std::vector<std::vector<std::byte>>;

TensorBytes set_bytes(const DataSet& set, quant::DType dtype) {
  TensorBytes tensors;
  for (const Tensor& tensor : set.tensors) tensors.push_back(to_dtype(tensor.values, dtype));
  return tensors;
}

// The set's first values as one tensor, over and over again if it has too few.
std::vector<float> first_values(const DataSet& set, size_t count) {
  std::vector<float> values;
  while (values.size() < count) {
    for (const Tensor& tensor : set.tensors) {
      const size_t part = std::min(count - values.size(), tensor.values.size());
      values.insert(values.end(), tensor.values.begin(),
                    tensor.values.begin() + static_cast<std::ptrdiff_t>(part));
    }
  }
  return values;
}

// Every piece again and again as a copy of its own, so that none is in the cache when its turn
// comes.
Result<std::vector<Piece>> long_pieces(const TensorBytes& tensors, quant::DType source,
                                       const Method& method) {
  std::vector<Piece> once;
  for (const auto& tensor : tensors) {
    BALLAST_TRY(Encoded encoded, method.encode(tensor, source));
    std::ranges::move(encoded.pieces, std::back_inserter(once));
  }
  std::vector<Piece> pieces;
  uint64_t values = 0;
  for (size_t i = 0; values < kOutOfCacheValues; i = (i + 1) % once.size()) {
    pieces.push_back({Bytes::copy_of(once[i].bytes.span()), once[i].values});
    values += once[i].values;
  }
  return pieces;
}

Result<std::vector<Piece>> short_pieces(const DataSet& set, quant::DType source,
                                        const Method& method) {
  const auto values = to_dtype(first_values(set, kInCacheValues), source);
  BALLAST_TRY(Encoded encoded, method.encode(values, source));
  return std::move(encoded.pieces);
}

void decode_pieces(const Method& method, const std::vector<Piece>& pieces, quant::DType as,
                   std::span<std::byte> out) {
  for (const Piece& piece : pieces) {
    const size_t bytes = std::min(out.size(), piece.values * quant::dtype_bytes(as));
    const Status decoded = method.decode(piece, as, out.first(bytes));
    BALLAST_CHECK(decoded, "{}", decoded.error().to_string());
    out = out.subspan(bytes);
  }
}

void encode_tensors(const Method& method, const TensorBytes& tensors, quant::DType source) {
  for (const auto& tensor : tensors) {
    const auto encoded = method.encode(tensor, source);
    BALLAST_CHECK(encoded, "{}", encoded.error().to_string());
  }
}

Contender decoder(const Method& method, const std::vector<Piece>& pieces, quant::DType source,
                  quant::DType as, size_t count, std::span<std::byte> out) {
  return {std::string(method.name()), static_cast<double>(count * quant::dtype_bytes(source)),
          [&method, &pieces, as, out = out.first(count * quant::dtype_bytes(as))] {
            decode_pieces(method, pieces, as, out);
          }};
}

Contender encoder(const Method& method, const TensorBytes& tensors, quant::DType source,
                  size_t bytes) {
  return {std::string(method.name()), static_cast<double>(bytes),
          [&method, &tensors, source] { encode_tensors(method, tensors, source); }};
}

}  // namespace

Track::Track(size_t rounds)
    : rounds_(rounds),
      from_(kOutOfCacheValues * sizeof(float)),
      to_(kOutOfCacheValues * sizeof(float)) {
  std::memset(from_.data(), 1, from_.size());
  std::memset(to_.data(), 1, to_.size());
}

std::vector<SpeedRow> Track::run(SpeedRow row, std::span<const Method* const> methods, size_t bytes,
                                 std::span<const Contender> contenders) {
  const size_t length = std::min(bytes, to_.size()) / kStreamBytes * kStreamBytes;
  std::vector<Contender> all =
      memory_contenders(from_.span().first(length), to_.span().first(length));
  const size_t ours = all.size();
  all.insert(all.end(), contenders.begin(), contenders.end());
  const RaceResult result = race(all, rounds_);
  std::vector<SpeedRow> rows;
  for (size_t i = ours; i < all.size(); ++i) {
    row.method = all[i].name;
    row.peer = methods[i - ours]->is_peer();
    row.kernel = row.peer ? "" : quant::selected_kernel();
    row.rate = result.rate(i);
    row.to_memcpy = result.ratio(i, kMemcpy);
    row.to_memset = result.ratio(i, kMemset);
    row.to_stream_fill = result.ratio(i, kStreamFill);
    row.to_split_zstd =
        methods.size() > 1 ? result.ratio(i, ours) : std::numeric_limits<double>::quiet_NaN();
    rows.push_back(row);
  }
  return rows;
}

Result<std::vector<SpeedRow>> Track::encode(const DataSet& set, const Method& method) {
  constexpr auto kSource = quant::DType::kF32;
  const TensorBytes tensors = set_bytes(set, kSource);
  const size_t bytes = set.values() * sizeof(float);
  BALLAST_TRY_STATUS(method.encode(tensors.front(), kSource));
  const Method* methods[] = {&method};
  const Contender contender = encoder(method, tensors, kSource, bytes);
  return run({.set = set.name, .what = std::string(kEncode)}, methods, bytes, {&contender, 1});
}

Result<std::vector<SpeedRow>> Track::decode(const DataSet& set, const Method& method) {
  constexpr auto kSource = quant::DType::kF32;
  BALLAST_TRY(const auto cached, short_pieces(set, kSource, method));
  BALLAST_TRY(const auto pieces, long_pieces(set_bytes(set, kSource), kSource, method));
  const Method* methods[] = {&method};
  std::vector<SpeedRow> rows;
  for (const quant::DType as : {quant::DType::kF32, quant::DType::kF16, quant::DType::kBF16}) {
    if (!method.decodes_to(as)) continue;
    for (const bool in_cache : {true, false}) {
      const size_t count = in_cache ? kInCacheValues : kOutOfCacheValues;
      const Contender contender =
          decoder(method, in_cache ? cached : pieces, kSource, as, count, to_.span());
      SpeedRow row{.set = set.name, .what = std::string(in_cache ? kInCache : kOutOfCache)};
      row.as = as;
      std::ranges::move(run(row, methods, count * sizeof(float), {&contender, 1}),
                        std::back_inserter(rows));
    }
  }
  return rows;
}

Result<std::vector<SpeedRow>> Track::keep(const DataSet& set, quant::DType source,
                                          std::span<const Method* const> methods) {
  const TensorBytes tensors = set_bytes(set, source);
  const size_t size = quant::dtype_bytes(source);
  std::vector<std::vector<Piece>> cached;
  std::vector<std::vector<Piece>> pieces;
  for (const Method* method : methods) {
    BALLAST_TRY(cached.emplace_back(), short_pieces(set, source, *method));
    BALLAST_TRY(pieces.emplace_back(), long_pieces(tensors, source, *method));
  }
  std::vector<SpeedRow> rows;
  for (const std::string_view what : {kEncode, kInCache, kOutOfCache}) {
    const size_t count = what == kEncode    ? set.values()
                         : what == kInCache ? kInCacheValues
                                            : kOutOfCacheValues;
    std::vector<Contender> contenders;
    for (size_t i = 0; i < methods.size(); ++i) {
      const auto& encoded = what == kInCache ? cached[i] : pieces[i];
      contenders.push_back(what == kEncode
                               ? encoder(*methods[i], tensors, source, count * size)
                               : decoder(*methods[i], encoded, source, source, count, to_.span()));
    }
    SpeedRow row{.set = set.name, .what = std::string(what)};
    row.source = row.as = source;
    std::ranges::move(run(row, methods, count * size, contenders), std::back_inserter(rows));
  }
  return rows;
}

}  // namespace ballast::micro
