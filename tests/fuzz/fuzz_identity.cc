// The parser of a data directory's identity over any text: nothing accepted that formatting would
// not have written, to the byte.
//
// A checksum stops random text early, so in a second pass its last line is put right.
#include <string>

#include "proto/base/bytes.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "storage/identity.h"

namespace {

using namespace ballast;
using namespace ballast::storage;

void check(std::string_view text) {
  const auto identity = parse_identity(text);
  if (identity) {
    BALLAST_CHECK(render_identity(*identity) == text);
  } else {
    const Errc code = identity.error().code;
    BALLAST_CHECK(code == Errc::kCorrupt || code == Errc::kRefused, "{}",
                  identity.error().to_string());
  }
}

std::string with_checksum(std::string text) {
  text.resize(std::min(text.size(), text.rfind("crc32c ")));
  return text + fmt::format("crc32c {:08x}\n", crc32c(as_byte_span(text)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  check(text);
  check(with_checksum(text));
  return 0;
}
