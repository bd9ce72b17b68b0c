#include "quant/rans.h"

#include <algorithm>
#include <cstring>

#include "proto/base/check.h"
#include "quant/kernels.h"

namespace ballast::quant {
namespace {

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
    reciprocal[i] = (1 - 0x1p-22f) / static_cast<float>(std::max<uint32_t>(frequencies[i], 1));
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

Result<RansReader> RansReader::open(std::span<const std::byte> bytes, size_t lanes, size_t rows) {
  const size_t state_bytes = lanes * sizeof(uint32_t);
  if (bytes.size() < state_bytes || (bytes.size() - state_bytes) % sizeof(uint16_t) != 0) {
    return fail(Errc::kCorrupt, "a stream of {} bytes for {} lanes", bytes.size(), lanes);
  }
  RansReader reader;
  reader.cursor_.lanes = lanes;
  reader.closing_rows_ = std::min(rows, kRansClosingRows);
  reader.coded_rows_ = rows - reader.closing_rows_;
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

size_t RansReader::prepare(size_t rows) {
  rows = std::min(rows, coded_rows_);
  coded_rows_ -= rows;
  const size_t needed = rows * cursor_.lanes + kReadAhead;
  const size_t done = consumed();
  const size_t left = total_ - std::min(total_, done);
  if (left >= needed) return rows;
  // Behind the last word come zeros; finish() tells whether they were read.
  std::vector<uint16_t> tail(needed, 0);
  std::memcpy(tail.data(), stream_ + std::min(total_, done) * sizeof(uint16_t),
              left * sizeof(uint16_t));
  tail_ = std::move(tail);
  words_ = tail_.data();
  base_ = done;
  cursor_.next = words_;
  return rows;
}

void RansReader::closing(size_t rows, uint8_t* symbols) {
  for (; rows > 0; --rows, ++closed_, symbols += cursor_.lanes) {
    for (size_t lane = 0; lane < cursor_.lanes; ++lane) {
      const uint32_t symbol = cursor_.states[lane] >> (closed_ * kRansSymbolBits);
      symbols[lane] = static_cast<uint8_t>(symbol & (kRansSymbols - 1));
    }
  }
}

Status RansReader::finish() const {
  const auto states = std::span(cursor_.states).first(cursor_.lanes);
  const size_t bits = closing_rows_ * kRansSymbolBits;
  if (consumed() == total_ && std::ranges::all_of(states, [&](uint32_t state) {
        return state >> bits == kRansLowest >> bits;
      })) {
    return {};
  }
  return fail(Errc::kCorrupt, "an entropy-coded chunk does not end where its values do");
}

void rans_encode(const RansFrequencies& frequencies, std::span<const uint8_t> symbols, size_t lanes,
                 std::vector<uint16_t>& words, std::vector<std::byte>& out) {
  BALLAST_CHECK(symbols.size() % lanes == 0 && lanes % kRansVectorLanes == 0);
  const RansEncodeTable table(frequencies);
  const size_t rows = symbols.size() / lanes;
  const size_t coded_rows = rows - std::min(rows, kRansClosingRows);
  std::array<uint32_t, kRansLanesMax> states;
  states.fill(kRansLowest);
  for (size_t i = coded_rows * lanes; i < symbols.size(); ++i) {
    states[i % lanes] |= uint32_t{symbols[i]} << ((i / lanes - coded_rows) * kRansSymbolBits);
  }
  // At most one word for each symbol.
  words.resize(std::max(words.size(), symbols.size()));
  const size_t count = kernel().rans_encode(table, symbols.data(), coded_rows, lanes, states.data(),
                                            words.data() + words.size());
  const size_t state_bytes = lanes * sizeof(uint32_t);
  const size_t word_bytes = count * sizeof(uint16_t);
  const size_t at = out.size();
  out.resize(at + state_bytes + word_bytes);
  std::memcpy(&out[at], states.data(), state_bytes);
  if (word_bytes > 0)
    std::memcpy(&out[at + state_bytes], words.data() + words.size() - count, word_bytes);
}

}  // namespace ballast::quant
