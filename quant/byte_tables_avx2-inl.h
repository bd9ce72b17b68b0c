// Tables of 32 entries for AVX2, looked up byte by byte, for 32 lanes at once.
//
// A shuffle of bytes is the one look-up that is fast on every CPU with AVX2: gathers and shuffles
// across the halves of a vector are not. So what is looked up in a table lies in planes, one for
// each byte of its entries.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ballast::quant {
namespace {

// Where to look in the two halves of a table. A shuffle gives 0 where bit 7 is set, and looks at
// the lowest four bits elsewhere.
struct Index {
  // REQUIRES: below 32
  explicit Index(__m256i index)
      : low(_mm256_add_epi8(index, _mm256_set1_epi8(0x70))),
        high(_mm256_sub_epi8(index, _mm256_set1_epi8(16))) {}
  // Nowhere, where the mask is set.
  Index unless(__m256i mask) const {
    return {_mm256_or_si256(low, mask), _mm256_or_si256(high, mask)};
  }

  __m256i low;   // bit 7 is set from 16 on
  __m256i high;  // bit 7 is set below 16

 private:
  Index(__m256i low_part, __m256i high_part) : low(low_part), high(high_part) {}
};

// 32 entries of a byte.
class ByteTable {
 public:
  // Entry i is the lowest byte of entry(i).
  template <class Entry>
  explicit ByteTable(const Entry& entry) {
    alignas(32) uint8_t bytes[32];
    for (size_t i = 0; i < 32; ++i) bytes[i] = static_cast<uint8_t>(entry(i));
    const auto* halves = reinterpret_cast<const __m128i*>(bytes);
    low_ = _mm256_broadcastsi128_si256(_mm_load_si128(halves));
    high_ = _mm256_broadcastsi128_si256(_mm_load_si128(halves + 1));
  }
  __m256i at(const Index& index) const {
    return _mm256_or_si256(_mm256_shuffle_epi8(low_, index.low),
                           _mm256_shuffle_epi8(high_, index.high));
  }

 private:
  __m256i low_;
  __m256i high_;
};

// A number of 16 bits for each lane of a group. Bytes are in the order of the lanes, and what is
// unpacked from them or packed to them is not: the first vector has lanes 0-7 and 16-23.
struct Words {
  __m256i part[2];
};

Words unpack(__m256i low, __m256i high) {
  return {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
}

// 32 entries of 16 bits.
class WordTable {
 public:
  template <class Entry>
  explicit WordTable(const Entry& entry)
      : low_(entry), high_([&](size_t i) { return entry(i) >> 8; }) {}
  Words at(const Index& index) const { return unpack(low_.at(index), high_.at(index)); }

 private:
  ByteTable low_;
  ByteTable high_;
};

// 32 numbers, and a vector of bytes for each byte of theirs.
template <size_t kBytes>
struct Planes {
  // Vector i of floats, if each vector's order is that of unpacked words.
  __m256 floats(size_t i) const
    requires(kBytes == sizeof(float))
  {
    const Words low = unpack(of[0], of[1]);
    const Words high = unpack(of[2], of[3]);
    const size_t k = i / 2;
    return _mm256_castsi256_ps(i % 2 == 0 ? _mm256_unpacklo_epi16(low.part[k], high.part[k])
                                          : _mm256_unpackhi_epi16(low.part[k], high.part[k]));
  }

  __m256i of[kBytes];
};

// 32 numbers of so many bytes.
template <size_t kBytes>
class PlaneTable {
 public:
  // entry(i): the bits of number i.
  template <class Entry>
  explicit PlaneTable(const Entry& entry) : PlaneTable(entry, std::make_index_sequence<kBytes>()) {}
  Planes<kBytes> at(const Index& index) const {
    Planes<kBytes> found;
    for (size_t k = 0; k < kBytes; ++k) found.of[k] = plane_[k].at(index);
    return found;
  }

 private:
  template <class Entry, size_t... kByte>
  PlaneTable(const Entry& entry, std::index_sequence<kByte...> /*bytes*/)
      : plane_{ByteTable([&](size_t i) { return entry(i) >> (8 * kByte); })...} {}

  ByteTable plane_[kBytes];
};
using FloatTable = PlaneTable<sizeof(float)>;

}  // namespace
}  // namespace ballast::quant
