// The safetensors format (https://github.com/huggingface/safetensors): eight bytes of header
// length (little-endian), a JSON object, the data of all tensors.
//
// A file is checked as a whole before any of it is used: a header that lies about the data, names
// twice, leaves holes or lets tensors overlap is refused with kCorrupt and one line that names the
// file, the tensor and what is wrong. Neither reading nor writing holds more than the header in
// memory, whatever the size of the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/formats/file.h"
#include "proto/base/result.h"
#include "quant/dtype.h"

namespace ballast::formats {

inline constexpr uint64_t kSafetensorsHeaderBytesMax = 100'000'000;  // the format's own limit

using SafetensorsMetadata = std::map<std::string, std::string>;

struct SafetensorsTensor {
  std::string name;
  quant::DType dtype = quant::DType::kF32;
  std::vector<uint64_t> shape;
  uint64_t offset = 0;  // from the start of the data, which begins after the header
  uint64_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsTensor> tensors;  // in the order of their data
  SafetensorsMetadata metadata;
};

// Parses and checks the JSON text of a header whose data has `data_bytes` bytes. Uses memory in
// proportion to the text and no recursion. Errors: kCorrupt.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view text, uint64_t data_bytes);

// A safetensors file that is open for reading. Thread-safe.
class SafetensorsFile {
 public:
  // Errors: kIo, kCorrupt.
  static Result<SafetensorsFile> open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsTensor>& tensors() const { return header_.tensors; }
  const SafetensorsMetadata& metadata() const { return header_.metadata; }
  uint64_t data_bytes() const { return file_.bytes() - data_begin_; }
  // Fills `out` with the tensor's bytes from `offset` on (within the tensor).
  // REQUIRES: `tensor` is one of tensors(), and offset + out.size() <= tensor.bytes.
  Status read(const SafetensorsTensor& tensor, uint64_t offset, std::span<std::byte> out) const;

 private:
  SafetensorsFile(InputFile file, SafetensorsHeader header, uint64_t data_begin)
      : file_(std::move(file)), header_(std::move(header)), data_begin_(data_begin) {}

  InputFile file_;
  SafetensorsHeader header_;
  uint64_t data_begin_ = 0;
};

// A tensor that is to be written.
struct SafetensorsEntry {
  std::string name;
  quant::DType dtype = quant::DType::kF32;
  std::vector<uint64_t> shape;
};

// What stands before the data: the length and the JSON, filled with spaces to a multiple of eight.
// Errors: kInvalidArgument (a name twice, or one that JSON can't hold).
Result<std::string> safetensors_header(std::span<const SafetensorsEntry> entries,
                                       const SafetensorsMetadata& metadata);

// Writes a file under another name and renames it when it is whole; see PartialFile.
class SafetensorsWriter {
 public:
  // Writes the header. Errors: kIo; those of safetensors_header().
  static Result<SafetensorsWriter> create(const std::string& path,
                                          std::span<const SafetensorsEntry> entries,
                                          const SafetensorsMetadata& metadata);

  // The next bytes of the data, in the order of the entries, in pieces of any size.
  Status append(std::span<const std::byte> bytes);
  uint64_t data_bytes() const { return data_bytes_; }  // of all entries
  // Error kInternal unless append() was given exactly data_bytes() bytes.
  Status commit();

 private:
  SafetensorsWriter(PartialFile file, uint64_t data_bytes)
      : file_(std::move(file)), data_bytes_(data_bytes) {}

  PartialFile file_;
  uint64_t data_bytes_ = 0;
  uint64_t appended_ = 0;
};

}  // namespace ballast::formats
