// Rows and blocks for tests of backups.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "proto/backup/directory.h"
#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "tests/unit/block_reference.h"

namespace ballast::backup {

inline Bytes block_of_number(uint64_t number, size_t bytes = 5000) {
  return Bytes::copy_of(std::string(bytes, static_cast<char>('a' + number % 26)) +
                        std::to_string(number));
}

inline void add_row(pb::RowPage& page, std::string key, std::string value) {
  pb::RowPage::Row& row = *page.add_rows();
  row.set_key(std::move(key));
  row.set_value(std::move(value));
}

// Two pages: the applied entry and a key, then the blocks and the members.
inline std::vector<pb::RowPage> pages_of(const std::vector<Bytes>& blocks, uint64_t index = 77) {
  std::vector<pb::RowPage> pages(2);
  pb::AppliedRow applied;
  applied.set_term(3);
  applied.set_index(index);
  applied.set_format(3);
  add_row(pages[0], std::string(1, kAppliedRow), applied.SerializeAsString());
  add_row(pages[0], "\x03weights", "what a key holds");
  std::vector<pb::BlockRef> references;
  for (const Bytes& block : blocks) references.push_back(reference_of(block));
  std::ranges::sort(references, {}, &pb::BlockRef::digest);
  for (const pb::BlockRef& reference : references) {
    pb::BlockRow row;
    row.set_length(reference.length());
    row.set_crc32c(reference.crc32c());
    row.set_references(1);
    add_row(pages[1], std::string(1, kBlockRow) + reference.digest(), row.SerializeAsString());
  }
  add_row(pages[1], std::string(1, kMembersRow), "who belongs to it");
  return pages;
}

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace ballast::backup
