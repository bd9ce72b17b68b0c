#include "quant/rans.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "proto/base/check.h"
#include "quant/kernels.h"

namespace ballast::quant {
namespace {

constexpr uint32_t kFrequencyMax = kRansTotal - 1;
constexpr uint32_t kSlotMask = kRansTotal - 1;
// The kernels load whole vectors of words.
constexpr size_t kReadAhead = kRansVectorLanes;

// Which symbols share each bucket (Walker's alias method, with Vose's two stacks).
struct Buckets {
  std::array<uint32_t, kRansSymbols> limit;  // slots of the bucket's own symbol
  std::array<uint32_t, kRansSymbols> alias;
};

Buckets make_buckets(const RansFrequencies& frequencies) {
  Buckets buckets;
  std::array<uint32_t, kRansSymbols> left;
  std::array<uint32_t, kRansSymbols> small;
  std::array<uint32_t, kRansSymbols> large;
  size_t smalls = 0;
  size_t larges = 0;
  for (uint32_t symbol = 0; symbol < kRansSymbols; ++symbol) {
    left[symbol] = frequencies[symbol];
    (left[symbol] < kRansBucketSlots ? small[smalls++] : large[larges++]) = symbol;
  }
  while (smalls > 0) {
    const uint32_t filled = small[--smalls];
    const uint32_t giver = large[larges - 1];
    buckets.limit[filled] = left[filled];
    buckets.alias[filled] = giver;
    left[giver] -= kRansBucketSlots - left[filled];
    if (left[giver] < kRansBucketSlots) {
      --larges;
      small[smalls++] = giver;
    }
  }
  // What is left fills its bucket: as its own alias, so that the limit needs seven bits.
  while (larges > 0) {
    const uint32_t whole = large[--larges];
    buckets.limit[whole] = 0;
    buckets.alias[whole] = whole;
  }
  return buckets;
}

// Calls visit(bucket, symbol, first slot, slots, first position) for each share of a bucket. A
// symbol's positions go through its own bucket first, then through the others in their order.
template <class Visit>
void for_each_share(const Buckets& buckets, const Visit& visit) {
  std::array<uint32_t, kRansSymbols> position{};
  for (uint32_t bucket = 0; bucket < kRansSymbols; ++bucket) {
    const uint32_t slots = buckets.alias[bucket] == bucket ? 0 : buckets.limit[bucket];
    visit(bucket, bucket, bucket * kRansBucketSlots, slots, 0U);
    position[bucket] += buckets.alias[bucket] == bucket ? kRansBucketSlots : slots;
  }
  for (uint32_t bucket = 0; bucket < kRansSymbols; ++bucket) {
    const uint32_t symbol = buckets.alias[bucket];
    const uint32_t first = bucket * kRansBucketSlots + buckets.limit[bucket];
    const uint32_t slots = kRansBucketSlots - buckets.limit[bucket];
    const bool own = symbol == bucket;
    visit(bucket, symbol, first, slots, own ? 0U : position[symbol]);
    if (!own) position[symbol] += slots;
  }
}

}  // namespace

RansFrequencies rans_frequencies(const RansCounts& counts) {
  const uint64_t total = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  RansFrequencies frequencies{};
  if (total == 0) {
    frequencies[0] = kFrequencyMax;
    frequencies[1] = 1;
    return frequencies;
  }
  std::array<uint64_t, kRansSymbols> remainder{};
  uint32_t sum = 0;
  for (size_t i = 0; i < kRansSymbols; ++i) {
    if (counts[i] == 0) continue;
    const uint64_t share = uint64_t{counts[i]} * kRansTotal;
    frequencies[i] = static_cast<uint16_t>(std::clamp<uint64_t>(share / total, 1, kFrequencyMax));
    remainder[i] = share % total;
    sum += frequencies[i];
  }
  while (sum < kRansTotal) {
    const size_t most =
        static_cast<size_t>(std::ranges::max_element(remainder) - remainder.begin());
    const bool room = remainder[most] > 0 && frequencies[most] < kFrequencyMax;
    // A lone symbol gets a companion that never occurs.
    const size_t chosen =
        room ? most
             : static_cast<size_t>(std::ranges::min_element(frequencies) - frequencies.begin());
    ++frequencies[chosen];
    remainder[most] = 0;
    ++sum;
  }
  while (sum > kRansTotal) {
    --*std::ranges::max_element(frequencies);
    --sum;
  }
  return frequencies;
}

double portable_log2(double value) {
  const auto bits = std::bit_cast<uint64_t>(value);
  const auto exponent = static_cast<double>(static_cast<int64_t>(bits >> 52) - 1023);
  const double mantissa = std::bit_cast<double>((bits & 0xfffffffffffff) | uint64_t{1023} << 52);
  // ln m = 2 artanh((m - 1) / (m + 1)), as a series.
  const double y = (mantissa - 1) / (mantissa + 1);
  const double y2 = y * y;
  double sum = 0;
  for (int n = 13; n >= 1; n -= 2) sum = sum * y2 + 1.0 / n;
  return exponent + 2.8853900817779268 * y * sum;
}

double rans_bits(const RansCounts& counts, const RansFrequencies& frequencies) {
  double bits = 0;
  for (size_t i = 0; i < kRansSymbols; ++i) {
    if (counts[i] > 0) bits += counts[i] * (kRansTotalBits - portable_log2(frequencies[i]));
  }
  return bits;
}

void write_frequencies(const RansFrequencies& frequencies,
                       std::span<std::byte, kRansFrequencyBytes> out) {
  for (size_t i = 0; i < kRansSymbols; i += 2) {
    const uint32_t pair = frequencies[i] | uint32_t{frequencies[i + 1]} << 12;
    for (size_t j = 0; j < 3; ++j) out[i / 2 * 3 + j] = static_cast<std::byte>(pair >> (8 * j));
  }
}

Result<RansFrequencies> read_frequencies(std::span<const std::byte, kRansFrequencyBytes> bytes) {
  RansFrequencies frequencies;
  uint32_t sum = 0;
  for (size_t i = 0; i < kRansSymbols; i += 2) {
    uint32_t pair = 0;
    for (size_t j = 0; j < 3; ++j) {
      pair |= std::to_integer<uint32_t>(bytes[i / 2 * 3 + j]) << (8 * j);
    }
    frequencies[i] = static_cast<uint16_t>(pair & 0xfff);
    frequencies[i + 1] = static_cast<uint16_t>(pair >> 12);
    sum += frequencies[i] + frequencies[i + 1];
  }
  if (sum != kRansTotal) return fail(Errc::kCorrupt, "symbol frequencies add up to {}", sum);
  return frequencies;
}

RansDecodeTable::RansDecodeTable(const RansFrequencies& frequencies) : own{}, alias{} {
  const Buckets buckets = make_buckets(frequencies);
  for_each_share(buckets, [&](uint32_t bucket, uint32_t symbol, uint32_t slot, uint32_t slots,
                              uint32_t position) {
    if (slots == 0) return;
    const uint32_t entry = ((position - slot) & kSlotMask) | uint32_t{frequencies[symbol]} << 12;
    const bool is_alias = slot + slots == (bucket + 1) * kRansBucketSlots;
    (is_alias ? alias : own)[bucket] = entry | (is_alias ? symbol << 25 : 0);
  });
  for (size_t bucket = 0; bucket < kRansSymbols; ++bucket) {
    own[bucket] |= buckets.limit[bucket] << 25;
  }
}

RansEncodeTable::RansEncodeTable(const RansFrequencies& frequencies) : slots{} {
  uint32_t sum = 0;
  for (size_t i = 0; i < kRansSymbols; ++i) {
    frequency[i] = frequencies[i];
    reciprocal[i] = 1.0f / static_cast<float>(std::max<uint32_t>(frequencies[i], 1));
    start[i] = sum;
    sum += frequencies[i];
  }
  BALLAST_CHECK(sum == kRansTotal, "frequencies add up to {}", sum);
  for_each_share(make_buckets(frequencies), [&](uint32_t /*bucket*/, uint32_t symbol, uint32_t slot,
                                                uint32_t count, uint32_t position) {
    for (uint32_t i = 0; i < count; ++i) {
      slots[start[symbol] + position + i] = static_cast<uint16_t>(slot + i);
    }
  });
}

Result<RansReader> RansReader::open(std::span<const std::byte> bytes, size_t lanes) {
  const size_t state_bytes = lanes * sizeof(uint32_t);
  if (bytes.size() < state_bytes || (bytes.size() - state_bytes) % sizeof(uint16_t) != 0) {
    return fail(Errc::kCorrupt, "a stream of {} bytes for {} lanes", bytes.size(), lanes);
  }
  RansReader reader;
  reader.cursor_.lanes = lanes;
  std::memcpy(reader.cursor_.states.data(), bytes.data(), state_bytes);
  for (size_t lane = 0; lane < lanes; ++lane) {
    if (reader.cursor_.states[lane] < kRansLowest)
      return fail(Errc::kCorrupt, "a stream begins with an impossible state");
  }
  reader.stream_ = bytes.data() + state_bytes;
  reader.total_ = (bytes.size() - state_bytes) / sizeof(uint16_t);
  // Chunks begin at any byte: what is not aligned for words is copied.
  if (reinterpret_cast<uintptr_t>(reader.stream_) % alignof(uint16_t) == 0) {
    reader.words_ = reinterpret_cast<const uint16_t*>(reader.stream_);
  } else {
    reader.tail_.assign(reader.total_ + kRansPiece + kReadAhead, 0);
    std::memcpy(reader.tail_.data(), reader.stream_, reader.total_ * sizeof(uint16_t));
    reader.words_ = reader.tail_.data();
  }
  reader.cursor_.next = reader.words_;
  return reader;
}

void RansReader::prepare(size_t rows) {
  const size_t needed = rows * cursor_.lanes + kReadAhead;
  const size_t done = consumed();
  const size_t left = total_ - std::min(total_, done);
  if (left >= needed) return;
  // Behind the last word come zeros; finish() tells whether they were read.
  std::vector<uint16_t> tail(needed, 0);
  std::memcpy(tail.data(), stream_ + std::min(total_, done) * sizeof(uint16_t),
              left * sizeof(uint16_t));
  tail_ = std::move(tail);
  words_ = tail_.data();
  base_ = done;
  cursor_.next = words_;
}

Status RansReader::finish() const {
  const auto states = std::span(cursor_.states).first(cursor_.lanes);
  if (consumed() == total_ &&
      std::ranges::all_of(states, [](uint32_t state) { return state == kRansLowest; })) {
    return {};
  }
  return fail(Errc::kCorrupt, "an entropy-coded chunk does not end where its values do");
}

RansCounts count_symbols(std::span<const uint8_t> symbols) {
  // Equal symbols follow each other: counters of their own keep them from waiting for each other.
  std::array<RansCounts, 4> counts{};
  size_t i = 0;
  for (; i + 8 <= symbols.size(); i += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, &symbols[i], sizeof eight);
    for (size_t j = 0; j < 8; ++j) ++counts[j % 4][eight >> (8 * j) & (kRansSymbols - 1)];
  }
  for (; i < symbols.size(); ++i) ++counts[0][symbols[i]];
  for (size_t symbol = 0; symbol < kRansSymbols; ++symbol) {
    for (size_t j = 1; j < 4; ++j) counts[0][symbol] += counts[j][symbol];
  }
  return counts[0];
}

void rans_encode(const RansFrequencies& frequencies, std::span<const uint8_t> symbols, size_t lanes,
                 std::vector<uint16_t>& words, std::vector<std::byte>& out) {
  BALLAST_CHECK(symbols.size() % lanes == 0 && lanes % kRansVectorLanes == 0);
  const RansEncodeTable table(frequencies);
  std::array<uint32_t, kRansLanesMax> states;
  states.fill(kRansLowest);
  // At most one word for each symbol.
  words.resize(std::max(words.size(), symbols.size()));
  const size_t count = kernel().rans_encode(table, symbols.data(), symbols.size() / lanes, lanes,
                                            states.data(), words.data() + words.size());
  const size_t state_bytes = lanes * sizeof(uint32_t);
  const size_t word_bytes = count * sizeof(uint16_t);
  const size_t at = out.size();
  out.resize(at + state_bytes + word_bytes);
  std::memcpy(&out[at], states.data(), state_bytes);
  if (word_bytes > 0)
    std::memcpy(&out[at + state_bytes], words.data() + words.size() - count, word_bytes);
}

}  // namespace ballast::quant
