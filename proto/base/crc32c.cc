#include "proto/base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace ballast {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // reflected

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

// Works on the inverted state, as the instruction does.
uint32_t extend_portable(uint32_t state, const std::byte* data, size_t size) {
  for (size_t i = 0; i < size; ++i)
    state = kTable[(state ^ std::to_integer<uint32_t>(data[i])) & 0xFF] ^ (state >> 8);
  return state;
}

#if defined(__x86_64__)

// The instruction takes three cycles but a new one starts each cycle: three streams side by side
// keep it busy. Appending kStride zero bytes to a state is linear over GF(2), so the states are
// joined with four table look-ups.
constexpr size_t kStride = 1024;
static_assert(kStride % 8 == 0);

using ShiftTable = std::array<std::array<uint32_t, 256>, 4>;

constexpr uint32_t shift_one_zero_byte(uint32_t state) {
  return kTable[state & 0xFF] ^ (state >> 8);
}

// Shifting is linear: what a value becomes is the sum of what its bits become.
ShiftTable make_shift_table() {
  ShiftTable table{};
  for (uint32_t bit = 0; bit < 32; ++bit) {
    uint32_t shifted = 1U << bit;
    for (size_t i = 0; i < kStride; ++i) shifted = shift_one_zero_byte(shifted);
    for (uint32_t value = 0; value < 256; ++value) {
      if ((value >> bit % 8 & 1) != 0) table[bit / 8][value] ^= shifted;
    }
  }
  return table;
}

uint32_t shift(const ShiftTable& table, uint32_t state) {
  return table[0][state & 0xFF] ^ table[1][(state >> 8) & 0xFF] ^ table[2][(state >> 16) & 0xFF] ^
         table[3][state >> 24];
}

uint64_t load64(const std::byte* data) {
  uint64_t value = 0;
  std::memcpy(&value, data, sizeof value);
  return value;
}

__attribute__((target("sse4.2"))) uint32_t extend_sse42(uint32_t state, const std::byte* data,
                                                        size_t size) {
  static const ShiftTable table = make_shift_table();
  while (size >= 3 * kStride) {
    uint64_t a = state, b = 0, c = 0;
    for (size_t i = 0; i < kStride; i += 8) {
      a = _mm_crc32_u64(a, load64(data + i));
      b = _mm_crc32_u64(b, load64(data + kStride + i));
      c = _mm_crc32_u64(c, load64(data + 2 * kStride + i));
    }
    state = shift(table, static_cast<uint32_t>(a)) ^ static_cast<uint32_t>(b);
    state = shift(table, state) ^ static_cast<uint32_t>(c);
    data += 3 * kStride;
    size -= 3 * kStride;
  }
  uint64_t wide = state;
  for (; size >= 8; data += 8, size -= 8) wide = _mm_crc32_u64(wide, load64(data));
  state = static_cast<uint32_t>(wide);
  for (; size > 0; ++data, --size)
    state = _mm_crc32_u8(state, std::to_integer<unsigned char>(*data));
  return state;
}

#endif

using Extend = uint32_t (*)(uint32_t, const std::byte*, size_t);

Extend choose_extend() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return extend_sse42;
#endif
  return extend_portable;
}

}  // namespace

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t before) {
  static const Extend extend = choose_extend();
  return ~extend(~before, bytes.data(), bytes.size());
}

uint32_t crc32c_portable(std::span<const std::byte> bytes, uint32_t before) {
  return ~extend_portable(~before, bytes.data(), bytes.size());
}

}  // namespace ballast
