// The measurements: each gives rows, which results.h prints and writes as JSON.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bench/micro/data_sets.h"
#include "bench/micro/method.h"
#include "bench/micro/timing.h"

namespace ballast::micro {

// What a method makes of a whole set of F32 tensors; sums over the tensors before anything is
// divided, so that a tensor counts as much as it holds.
struct QualityRow {
  std::string set;
  std::string method;
  bool peer = false;
  double bits = 0;  // per value: all bytes of all pieces, headers included
  double sqnr_db = 0;
  double reported_db = 0;  // by the encoder; NaN if it reports nothing
  double max_abs = 0;
  bool exact = false;  // every bit came back

  bool report_agrees() const;  // to 0.01 dB
};
Result<QualityRow> measure_quality(const DataSet& set, const Method& method);

struct SizeRow {  // of a set in another dtype, for methods that keep every bit
  std::string set;
  std::string method;
  bool peer = false;
  quant::DType source = quant::DType::kF32;
  double ratio = 0;  // encoded bytes by source bytes
};
// Errors: kInternal if a bit did not come back.
Result<SizeRow> measure_size(const DataSet& set, quant::DType source, const Method& method);
// Of `set` as Ballast's lossless differences to `base`, which has tensors of the same sizes.
Result<SizeRow> measure_differences(const DataSet& set, const DataSet& base, quant::DType source);

struct SpeedRow {
  std::string set;
  std::string method;
  bool peer = false;
  std::string kernel;  // of quant; empty for peers
  std::string what;    // "encode", "decode, in cache", "decode, out of cache"
  quant::DType source = quant::DType::kF32;
  quant::DType as = quant::DType::kF32;
  double rate = 0;  // GB/s of the values as `source`, whatever they are decoded to
  double to_memcpy = 0;
  double to_memset = 0;
  double to_stream_fill = 0;
  double to_split_zstd = 0;  // NaN where that was not a contender
};

// Buffers and rounds of the speed measurements.
class Track {
 public:
  explicit Track(size_t rounds);

  // In turns with memcpy, memset and a fill of as many bytes.
  Result<std::vector<SpeedRow>> encode(const DataSet& set, const Method& method);
  // To all dtypes that the method decodes to: a block that stays in the cache, then 256 MiB.
  Result<std::vector<SpeedRow>> decode(const DataSet& set, const Method& method);
  // Encoding and decoding of a source dtype, all methods in one race. methods[0] is the peer.
  Result<std::vector<SpeedRow>> keep(const DataSet& set, quant::DType source,
                                     std::span<const Method* const> methods);

 private:
  std::vector<SpeedRow> run(SpeedRow row, std::span<const Method* const> methods, size_t bytes,
                            std::span<const Contender> contenders);

  size_t rounds_;
  MutableBytes from_;
  MutableBytes to_;
};

}  // namespace ballast::micro
