// lossless' loops, plain ones that a compiler turns into vectors; included like float_loops-inl.h
// and under the same rule.
#pragma once

#include "quant/kernels.h"

namespace ballast::quant {
namespace {

// Values at any alignment.
typedef uint16_t Bits16 __attribute__((aligned(1), may_alias));
typedef uint32_t Bits32 __attribute__((aligned(1), may_alias));

void bf16_split(const std::byte* values, size_t count, const Planes& to) {
  const auto* from = reinterpret_cast<const Bits16*>(values);
  uint8_t* exponents = to.exponents;
  uint8_t* fine = to.fine;
  for (size_t i = 0; i < count; ++i) {
    const auto rotated = static_cast<uint16_t>(from[i] << 1 | from[i] >> 15);
    exponents[i] = static_cast<uint8_t>(rotated >> 8);
    fine[i] = static_cast<uint8_t>(rotated);
  }
}

void bf16_merge(const ConstPlanes& from, size_t count, std::byte* values) {
  auto* to = reinterpret_cast<Bits16*>(values);
  const uint8_t* exponents = from.exponents;
  const uint8_t* fine = from.fine;
  for (size_t i = 0; i < count; ++i) {
    const auto rotated = static_cast<uint16_t>(exponents[i] << 8 | fine[i]);
    to[i] = static_cast<uint16_t>(rotated >> 1 | rotated << 15);
  }
}

// By halves: vectors hold twice as many of them as of whole values.
void f32_split(const std::byte* values, size_t count, const Planes& to) {
  const auto* from = reinterpret_cast<const Bits16*>(values);
  uint8_t* exponents = to.exponents;
  uint8_t* fine = to.fine;
  auto* rest = reinterpret_cast<Bits16*>(to.rest);
  for (size_t i = 0; i < count; ++i) {
    const uint16_t upper = from[2 * i + 1];
    const auto rotated = static_cast<uint16_t>(upper << 1 | upper >> 15);
    exponents[i] = static_cast<uint8_t>(rotated >> 8);
    fine[i] = static_cast<uint8_t>(rotated);
    rest[i] = from[2 * i];
  }
}

void f32_merge(const ConstPlanes& from, size_t count, std::byte* values) {
  auto* to = reinterpret_cast<Bits16*>(values);
  const uint8_t* exponents = from.exponents;
  const uint8_t* fine = from.fine;
  const auto* rest = reinterpret_cast<const Bits16*>(from.rest);
  for (size_t i = 0; i < count; ++i) {
    const auto rotated = static_cast<uint16_t>(exponents[i] << 8 | fine[i]);
    to[2 * i] = rest[i];
    to[2 * i + 1] = static_cast<uint16_t>(rotated >> 1 | rotated << 15);
  }
}

// Packs the three bits of 256 values, 32 bytes apart in `bits`, into three rows of 32 bytes.
inline void pack_threes(const uint8_t* bits, uint8_t* rows) {
  constexpr size_t kRow = kThreesValues / 8;
  for (size_t i = 0; i < kRow; ++i) {
    const auto at = [&](size_t k) { return static_cast<uint32_t>(bits[k * kRow + i]); };
    rows[i] = static_cast<uint8_t>(at(0) | at(1) << 3 | at(6) << 6);
    rows[kRow + i] = static_cast<uint8_t>(at(2) | at(3) << 3 | at(7) << 6);
    rows[2 * kRow + i] =
        static_cast<uint8_t>(at(4) | at(5) << 3 | (at(6) >> 2) << 6 | (at(7) >> 2) << 7);
  }
}

inline void unpack_threes(const uint8_t* rows, uint8_t* bits) {
  constexpr size_t kRow = kThreesValues / 8;
  for (size_t i = 0; i < kRow; ++i) {
    const uint8_t a = rows[i];
    const uint8_t b = rows[kRow + i];
    const uint8_t c = rows[2 * kRow + i];
    bits[i] = a & 7;
    bits[kRow + i] = (a >> 3) & 7;
    bits[2 * kRow + i] = b & 7;
    bits[3 * kRow + i] = (b >> 3) & 7;
    bits[4 * kRow + i] = c & 7;
    bits[5 * kRow + i] = (c >> 3) & 7;
    bits[6 * kRow + i] = static_cast<uint8_t>(a >> 6 | ((c >> 4) & 4));
    bits[7 * kRow + i] = static_cast<uint8_t>(b >> 6 | ((c >> 5) & 4));
  }
}

void f16_split(const std::byte* values, size_t count, const Planes& to) {
  const auto* from = reinterpret_cast<const Bits16*>(values);
  for (size_t unit = 0; unit * kThreesValues < count; ++unit) {
    const size_t start = unit * kThreesValues;
    const size_t part = count - start < kThreesValues ? count - start : kThreesValues;
    uint8_t* exponents = to.exponents + start;
    uint8_t* fine = to.fine + start;
    uint8_t bits[kThreesValues] = {};
    for (size_t i = 0; i < part; ++i) {
      const uint16_t value = from[start + i];
      const auto rotated = static_cast<uint16_t>(value << 1 | value >> 15);
      exponents[i] = static_cast<uint8_t>(rotated >> 11);
      bits[i] = (rotated >> 8) & 7;
      fine[i] = static_cast<uint8_t>(rotated);
    }
    pack_threes(bits, to.rest + unit * kThreesBytes);
  }
}

void f16_merge(const ConstPlanes& from, size_t count, std::byte* values) {
  for (size_t unit = 0; unit * kThreesValues < count; ++unit) {
    const size_t start = unit * kThreesValues;
    const size_t part = count - start < kThreesValues ? count - start : kThreesValues;
    uint8_t bits[kThreesValues];
    unpack_threes(from.rest + unit * kThreesBytes, bits);
    auto* to = reinterpret_cast<Bits16*>(values) + start;
    const uint8_t* exponents = from.exponents + start;
    const uint8_t* fine = from.fine + start;
    for (size_t i = 0; i < part; ++i) {
      const auto rotated = static_cast<uint16_t>(exponents[i] << 11 | bits[i] << 8 | fine[i]);
      to[i] = static_cast<uint16_t>(rotated >> 1 | rotated << 15);
    }
  }
}

// Differences are between numbers in the order of the floats: the bits of a negative float are
// inverted below the sign, which makes them a two's complement. A difference's sign is then moved
// to its lowest bit. Every step can be undone for any bits, NaN among them.

inline uint16_t ordered16(uint16_t bits) {
  return static_cast<uint16_t>(bits ^ ((bits & 0x8000) != 0 ? 0x7fff : 0));
}

void difference16(const std::byte* values, const std::byte* base, size_t count, uint32_t* to) {
  const auto* from = reinterpret_cast<const Bits16*>(values);
  const auto* before = reinterpret_cast<const Bits16*>(base);
  for (size_t i = 0; i < count; ++i) {
    const auto step = static_cast<uint16_t>(ordered16(from[i]) - ordered16(before[i]));
    to[i] = static_cast<uint16_t>(step << 1 ^ ((step & 0x8000) != 0 ? 0xffff : 0));
  }
}

void apply16(const uint32_t* differences, const std::byte* base, size_t count, std::byte* values) {
  const auto* before = reinterpret_cast<const Bits16*>(base);
  auto* to = reinterpret_cast<Bits16*>(values);
  for (size_t i = 0; i < count; ++i) {
    const auto folded = static_cast<uint16_t>(differences[i]);
    const auto step = static_cast<uint16_t>(folded >> 1 ^ ((folded & 1) != 0 ? 0xffff : 0));
    to[i] = ordered16(static_cast<uint16_t>(ordered16(before[i]) + step));
  }
}

inline uint32_t ordered32(uint32_t bits) {
  return bits ^ ((bits & 0x80000000) != 0 ? 0x7fffffff : 0);
}

void difference32(const std::byte* values, const std::byte* base, size_t count, uint32_t* to) {
  const auto* from = reinterpret_cast<const Bits32*>(values);
  const auto* before = reinterpret_cast<const Bits32*>(base);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t step = ordered32(from[i]) - ordered32(before[i]);
    to[i] = step << 1 ^ ((step & 0x80000000) != 0 ? 0xffffffff : 0);
  }
}

void apply32(const uint32_t* differences, const std::byte* base, size_t count, std::byte* values) {
  const auto* before = reinterpret_cast<const Bits32*>(base);
  auto* to = reinterpret_cast<Bits32*>(values);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t folded = differences[i];
    const uint32_t step = folded >> 1 ^ ((folded & 1) != 0 ? 0xffffffff : 0);
    to[i] = ordered32(ordered32(before[i]) + step);
  }
}

constexpr LosslessKernel lossless_kernel(decltype(LosslessKernel::translate) translate) {
  return {f32_split,    f16_split,    bf16_split, f32_merge, f16_merge, bf16_merge,
          difference32, difference16, apply32,    apply16,   translate};
}

}  // namespace
}  // namespace ballast::quant
