// Codecs: from the values of a tensor to blocks, and back.
//
// Special values: raw, lossless and the codec of the same dtype keep every bit; conversions between
// floats are IEEE 754's. The quantizing codecs take NaN for 0 and an infinity for the largest
// finite magnitude around it (in its group, where there are groups), and their error sums count
// what they were taken for; zeros stay zeros, but for ec4t (docs/formats/).
//
// A tensor is cut into blocks, each of them into chunks of limits::kChunkValues values. A block
// says in its header how it is to be decoded (docs/formats/block.md), so decoding needs the block
// alone. Nothing here does I/O or starts a thread: the caller splits the work by blocks, and all
// functions may be called from several threads at once.
//
// The same values give the same bytes with every kernel, on every machine and compiler.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/digest.h"
#include "proto/base/result.h"
#include "quant/dtype.h"
#include "quant/error_report.h"

namespace ballast::quant {

// Numbers lie on disk and on the wire: never reused.
enum class CodecId : uint8_t {
  kRaw = 1,  // the bytes as they are, for dtypes that no codec knows
  kF32 = 2,
  kF16 = 3,
  kBF16 = 4,
  kInt4 = 5,      // packed INT4: 16-entry codebook, 8-bit log scale per group
  kInt8 = 6,      // 8 bits and an 8-bit log scale per group
  kEc4 = 7,       // uniform step, entropy-coded (rANS)
  kEc4t = 8,      // the same behind a trellis (dependent quantization)
  kLossless = 9,  // exponents entropy-coded, mantissas as they are
  kSparse4 = 10,  // for pruned tensors: bitmap and packed INT4, or ec4
};

struct CodecSpec {
  CodecId id = CodecId::kRaw;
  // Values that share a scale (int4: 16, 32 or 64; ec4: 256, 512, 1024 or 0, none); 0 for codecs
  // without groups.
  uint32_t group_size = 0;
  // What an encoder aims at; decoding needs neither. At most one is set, in ec4 and ec4t.
  uint32_t millibits = 0;  // thousandths of a bit per value, everything counted
  uint32_t centidb = 0;    // hundredths of a dB of SQNR

  auto operator<=>(const CodecSpec&) const = default;
};

// A codec's name, and its parameters behind a colon: "int4", "int4:group=16", "ec4:bits=3.9",
// "ec4:bits=3.9,group=512", "ec4t:db=22.5". Error kInvalidArgument says what is known.
Result<CodecSpec> parse_codec(std::string_view text);
std::string codec_name(CodecSpec spec);
// From the numbers of a message or a block. Errors: kCorrupt.
Result<CodecSpec> codec_from_numbers(uint32_t id, uint32_t group_size, uint32_t millibits = 0,
                                     uint32_t centidb = 0);
// Error kInvalidArgument if there is no such codec, or if it can't encode this dtype.
Status check_codec(CodecSpec spec, DType source);
// True if decoding gives back every bit of a tensor of this dtype.
bool codec_is_exact(CodecSpec spec, DType source);
// True for the codecs that trade error for size: int4 and its like, which are for matrices.
bool codec_quantizes(CodecId id);
// The codec that keeps a tensor of this dtype as it is.
CodecSpec exact_codec(DType dtype);

// How many values a full block holds: whole chunks, encoded to about limits::kBlockBytesTarget.
uint64_t values_per_block(CodecSpec spec, DType source);

struct EncodedBlock {
  MutableBytes bytes;
  ErrorSums error;  // all zero but for signal and decoded energy where nothing was lost
};

// Encodes the blocks of one tensor. Immutable after create(): encode() may run on many threads.
class TensorEncoder {
 public:
  virtual ~TensorEncoder() = default;

  // `sample` holds values of the tensor (in `source` dtype) from which a codebook is learned;
  // sample_ranges() says which. May be empty for codecs that learn nothing.
  // Errors: those of check_codec().
  static Result<std::unique_ptr<TensorEncoder>> create(CodecSpec spec, DType source,
                                                       std::span<const std::byte> sample);

  // Encodes consecutive values (in the source dtype) as one block.
  // REQUIRES: values.size() is a multiple of dtype_bytes(source) and at most
  // values_per_block() values. An empty span is allowed: an empty tensor is one empty block.
  virtual Result<EncodedBlock> encode(std::span<const std::byte> values) const = 0;

  // The same as a difference to `base`: as many values of the same dtype, the block's place in a
  // parent tensor. Decoding needs the same base. Errors: kInvalidArgument for codecs that can't.
  virtual Result<EncodedBlock> encode_delta(std::span<const std::byte> values,
                                            std::span<const std::byte> base) const;
};

// The values [first, first + count) of a tensor that belong into the sample, at most 64 ranges of
// equal length spread over it, at most kSampleValuesMax values together. Empty if the codec learns
// nothing.
struct ValueRange {
  uint64_t first = 0;
  uint64_t count = 0;
};
inline constexpr uint64_t kSampleValuesMax = 1 << 17;
std::vector<ValueRange> sample_ranges(CodecSpec spec, uint64_t total_values);

struct BlockInfo {
  CodecSpec codec;  // without what the encoder aimed at
  DType source = DType::kF32;
  uint64_t values = 0;
  std::optional<Digest> base;  // SHA-256 of the base's values, if it is a difference to them
};

// Reads and checks a block's header and that its length fits. Errors: kCorrupt.
Result<BlockInfo> inspect_block(std::span<const std::byte> block);

// Decodes the values [first, first + count) of a block into `out` as dtype `as`; reads only the
// chunks that it touches. `as` is f32, f16 or bf16, or the block's source dtype for raw blocks.
// Conversions to narrower floats round to nearest even.
// `base`: for a block that was encoded by encode_delta(), all values that it was given.
// REQUIRES: out.size() == count * dtype_bytes(as).
// Errors: kCorrupt for a damaged block, kInvalidArgument for a range, dtype or base that can't be
// had or is not the right one.
Status decode_block(std::span<const std::byte> block, uint64_t first, uint64_t count, DType as,
                    std::span<std::byte> out, std::span<const std::byte> base = {});

// The kernels that this CPU can run: "scalar", "avx2", "avx512", "vbmi2". The last one is used
// unless the environment variable BALLAST_KERNEL or select_kernel() names another.
std::vector<std::string_view> available_kernels();
// For tests; not thread-safe. Errors: kInvalidArgument if this CPU does not have it.
Status select_kernel(std::string_view name);
std::string_view selected_kernel();

}  // namespace ballast::quant
