// The rows of a backup as a file: pages, each with its length and CRC32C (docs/formats/backup.md).
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "proto/base/digest.h"
#include "proto/base/limits.h"
#include "proto/base/result.h"
#include "proto/base/strong_int.h"
#include "proto/base/unique_fd.h"
#include "proto/storage.pb.h"

namespace ballast::backup {

// Kinds of rows (docs/formats/rows.md), as far as a backup looks into them.
inline constexpr char kAppliedRow = 0x01;
inline constexpr char kBlockRow = 0x09;
inline constexpr char kMembersRow = 0x0B;
inline constexpr unsigned char kFirstRowOfNode = 0x80;

inline constexpr std::string_view kRowsTitle = "BLSTROW1";
inline constexpr size_t kPageHeadBytes = 8;
inline constexpr size_t kPageBytesMax = limits::kFramePayloadBytesMax;

// What a rows file holds, counted by whoever writes and by whoever reads it.
struct RowsSummary {
  uint64_t bytes = 0;  // of the file
  uint64_t pages = 0;
  uint64_t rows = 0;
  uint64_t blocks = 0;  // that the rows name, and their encoded bytes
  uint64_t block_bytes = 0;
  Index index;  // the entry that the rows show
  Term term;
  Digest sha256;  // of the file
  bool operator==(const RowsSummary&) const = default;
};

// The block that a row tells of; nothing for rows of other kinds. Error kCorrupt.
Result<std::optional<pb::BlockRef>> block_of(const pb::RowPage::Row& row);

// Counts pages and checks their order. Errors: kCorrupt, then the object is of no more use.
class RowsTally {
 public:
  void add_bytes(std::span<const std::byte> bytes);
  Status add_page(const pb::RowPage& page);
  // REQUIRES: called once. Error kCorrupt if no row said which entry they show.
  Result<RowsSummary> finish();

 private:
  Sha256 hash_;
  RowsSummary summary_;
  std::string last_key_;
};

// Not thread-safe. Errors: kIo, kNoSpace; kCorrupt for pages that are none.
class RowsWriter {
 public:
  // Replaces what is there.
  static Result<RowsWriter> create(const std::string& path);
  // A RowPage in its serialized form.
  Status add(std::span<const std::byte> page);
  // Makes the file durable. REQUIRES: called once, at the end.
  Result<RowsSummary> finish();

 private:
  explicit RowsWriter(UniqueFd file) : file_(std::move(file)) {}
  Status write(std::span<const std::byte> bytes);

  UniqueFd file_;
  uint64_t end_ = 0;  // of what is written
  RowsTally tally_;
};

// Not thread-safe.
class RowsReader {
 public:
  // Fills `out`, but for the end of the file; returns how much came.
  using Read = std::function<Result<size_t>(std::span<std::byte> out)>;
  explicit RowsReader(Read read) : read_(std::move(read)) {}
  // Errors: kNotFound, kIo.
  static Result<RowsReader> open(const std::string& path);

  // The next page; nothing at the end of the file. Errors: kIo; kCorrupt, with the number of the
  // page: nothing can be said of what follows it.
  Result<std::optional<pb::RowPage>> next();
  // REQUIRES: next() has returned nothing. Called once.
  Result<RowsSummary> finish() { return tally_.finish(); }

 private:
  Result<std::optional<pb::RowPage>> read_page();

  Read read_;
  RowsTally tally_;
  uint64_t pages_ = 0;
  bool begun_ = false;
  std::vector<std::byte> page_;
};

}  // namespace ballast::backup
