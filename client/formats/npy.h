// NumPy's .npy format, versions 1.0 to 3.0: one array, little-endian, in C order.
//
// Dtypes are those of quant::DType that numpy has. Everything else (Fortran order, big-endian,
// structured and object arrays, bytes after the array) is refused with one line that says what to
// do in numpy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "client/formats/file.h"
#include "proto/base/result.h"
#include "quant/dtype.h"

namespace ballast::formats {

// A header is one short line; numpy itself refuses longer ones.
inline constexpr size_t kNpyHeaderBytesMax = 64 * 1024;

struct NpyHeader {
  quant::DType dtype = quant::DType::kF32;
  std::vector<uint64_t> shape;  // empty: a scalar
  uint64_t data_begin = 0;
  uint64_t bytes = 0;
};

// Parses the first bytes of a file of `file_bytes` bytes, and checks that its length is right.
// `prefix` holds at least kNpyHeaderBytesMax bytes or the whole file. Errors: kCorrupt,
// kInvalidArgument (a sound file that can't be stored).
Result<NpyHeader> parse_npy_header(std::span<const std::byte> prefix, uint64_t file_bytes);

// The bytes that stand before the data. Errors: kInvalidArgument if numpy does not have the dtype.
Result<std::string> npy_header(quant::DType dtype, std::span<const uint64_t> shape);

// An array in memory: row-major, little-endian.
struct NpyArray {
  quant::DType dtype = quant::DType::kF32;
  std::vector<uint64_t> shape;
  std::vector<std::byte> data;
};
// Errors: kIo; those of parse_npy_header().
Result<NpyArray> read_npy(const std::string& path);

// Writes an array piece by piece, under another name until it is whole; see PartialFile.
class NpyWriter {
 public:
  // Writes the header. Errors: kIo; those of npy_header().
  static Result<NpyWriter> create(const std::string& path, quant::DType dtype,
                                  std::span<const uint64_t> shape);

  Status append(std::span<const std::byte> bytes);
  // Error kInternal unless append() was given the array's bytes exactly.
  Status commit();

 private:
  NpyWriter(PartialFile file, uint64_t bytes) : file_(std::move(file)), bytes_(bytes) {}

  PartialFile file_;
  uint64_t bytes_ = 0;
  uint64_t appended_ = 0;
};

}  // namespace ballast::formats
