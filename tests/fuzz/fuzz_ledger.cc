// The lines of a drill's ledger, which a process that died may have cut off anywhere: an error, or
// what survives the way back.
#include <string>

#include "client/kvctl/ledger.h"
#include "proto/base/check.h"

namespace {

using namespace ballast;
using namespace ballast::kvctl;

template <class Line>
void check(std::string_view text, Result<Line> (*parse)(std::string_view)) {
  const auto line = parse(text);
  if (!line) {
    BALLAST_CHECK(line.error().code == Errc::kCorrupt, "{}", line.error().to_string());
    return;
  }
  std::string written = ledger_line(*line);
  if (written.ends_with('\n')) written.pop_back();
  BALLAST_CHECK(!written.contains('\n'), "one line");
  const auto again = parse(written);
  BALLAST_CHECK(again && *again == *line, "{}", written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check<LedgerHeader>(text, parse_ledger_header);
  check<LedgerEvent>(text, parse_ledger_event);
  return 0;
}
