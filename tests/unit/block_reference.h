// What a commit names a block by.
#pragma once

#include <string>

#include "proto/base/bytes.h"
#include "proto/base/crc32c.h"
#include "proto/base/digest.h"
#include "proto/storage.pb.h"

namespace ballast {

inline pb::BlockRef reference_of(const Bytes& bytes) {
  pb::BlockRef reference;
  reference.set_digest(std::string(sha256(bytes.span()).text()));
  reference.set_length(static_cast<uint32_t>(bytes.size()));
  reference.set_crc32c(crc32c(bytes.span()));
  return reference;
}

}  // namespace ballast
