// The reader of a backup's rows, and the parser of its manifest, over any bytes: no crash, no read
// outside, and nothing accepted that the writer would not have written.
//
// A checksum stops random bytes early, so the CRCs of what looks like pages are put right in a
// second pass, and the parsers see what lies behind them.
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "proto/backup/manifest.h"
#include "proto/backup/rows_file.h"
#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"

namespace {

using namespace ballast;
using namespace ballast::backup;

void read(std::span<const std::byte> file) {
  size_t at = 0;
  RowsReader reader([&](std::span<std::byte> out) -> Result<size_t> {
    const size_t bytes = std::min(out.size(), file.size() - at);
    if (bytes > 0) std::memcpy(out.data(), file.data() + at, bytes);
    at += bytes;
    return bytes;
  });
  std::string last;
  uint64_t rows = 0;
  while (true) {
    const auto page = reader.next();
    if (!page) return;
    if (!*page) break;
    for (const pb::RowPage::Row& row : (*page)->rows()) {
      BALLAST_CHECK(row.key() > last);
      last = row.key();
      ++rows;
      const auto block = block_of(row);
      BALLAST_CHECK(block.has_value(), "the reader has looked at it");
      BALLAST_CHECK(!*block || (*block)->digest().size() == Digest::kSize);
    }
  }
  BALLAST_CHECK(at == file.size());
  const auto summary = reader.finish();
  BALLAST_CHECK(!summary || (summary->rows == rows && summary->bytes == file.size()));
}

void repair_pages(std::span<std::byte> file) {
  std::memcpy(file.data(), kRowsTitle.data(), std::min(file.size(), kRowsTitle.size()));
  for (size_t at = kRowsTitle.size(); at + kPageHeadBytes <= file.size();) {
    uint32_t bytes = 0;
    std::memcpy(&bytes, file.data() + at, sizeof bytes);
    const std::span<std::byte> page = file.subspan(at + kPageHeadBytes);
    if (bytes > page.size()) {
      bytes = static_cast<uint32_t>(page.size());
      std::memcpy(file.data() + at, &bytes, sizeof bytes);
    }
    const uint32_t crc = crc32c(page.first(bytes), crc32c(file.subspan(at, sizeof bytes)));
    std::memcpy(file.data() + at + sizeof bytes, &crc, sizeof crc);
    at += kPageHeadBytes + bytes;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> file(size);
  if (size > 0) std::memcpy(file.data(), data, size);
  const auto manifest = parse_manifest(as_text(file));
  if (manifest) {
    const auto again = parse_manifest(render(*manifest));
    BALLAST_CHECK(again && *again == *manifest);
  }
  read(file);
  if (size == 0) return 0;
  repair_pages(file);
  read(file);
  return 0;
}
