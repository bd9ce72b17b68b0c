// How the values that a byte of a bitmap keeps spread over eight places, for kernels that have no
// instruction for it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ballast::quant {
namespace {

// What fills a place that keeps nothing: a byte look-up gives 0 for it, and it is negative.
constexpr int8_t kNoValue = INT8_MIN;

struct ExpandTables {
  alignas(64) int8_t words[256][8];   // for each place, which of the values goes there
  alignas(64) int8_t bytes[256][16];  // the same for the bytes of 16-bit values
};

consteval ExpandTables make_expand_tables() {
  ExpandTables tables{};
  for (size_t bits = 0; bits < 256; ++bits) {
    int value = 0;
    for (size_t place = 0; place < 8; ++place) {
      const bool kept = (bits >> place & 1) != 0;
      tables.words[bits][place] = kept ? static_cast<int8_t>(value) : kNoValue;
      tables.bytes[bits][2 * place] = kept ? static_cast<int8_t>(2 * value) : kNoValue;
      tables.bytes[bits][2 * place + 1] = kept ? static_cast<int8_t>(2 * value + 1) : kNoValue;
      value += kept ? 1 : 0;
    }
  }
  return tables;
}
constexpr ExpandTables kExpandTables = make_expand_tables();

}  // namespace
}  // namespace ballast::quant
