// `ballastd inspect DIR`: what the disk of a node that does not run holds, and what of it is
// damaged.
#pragma once

#include <string>

#include "proto/base/result.h"

namespace ballast::server {

struct Inspected {
  std::string text;  // a table, or one JSON object
  bool whole = false;
};

// Reads everything under the data directory and changes nothing; takes its lock meanwhile. Damage
// is reported, as far as what is damaged can be told from the rest. Errors: kNotFound if it is no
// data directory; kRefused if a node uses it; kCorrupt (identity), kIo.
Result<Inspected> inspect(const std::string& directory, bool json);

}  // namespace ballast::server
