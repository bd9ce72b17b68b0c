// A look at the rows of a node that does not run. Nothing is changed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "proto/base/result.h"
#include "proto/storage.pb.h"
#include "storage/blocks/payloads.h"

namespace ballast::storage {

struct StateReport {
  pb::AppliedRow applied;
  struct Kind {
    std::string name;  // as in docs/formats/rows.md
    uint64_t rows = 0;
  };
  std::vector<Kind> kinds;
  // Blocks whose bytes are not where the rows say, or not what their digest says; the first
  // limits::kDamagedReportedMax of them in hexadecimal digits.
  uint64_t damaged_blocks = 0;
  std::vector<std::string> damaged;
};

// Reads the bytes of every block. Errors: kCorrupt, kIo, kRefused (rows of another format).
Result<StateReport> inspect_state(const std::string& directory, const Payloads& payloads);

}  // namespace ballast::storage
