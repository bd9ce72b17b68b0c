#include "quant/rans_frequencies.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "proto/base/check.h"

namespace ballast::quant {
namespace {

constexpr int kSymbolBits = 5;

// A frequency is written as a small float: exact up to 32, in sixteenths of an octave beyond.
constexpr uint32_t kExactMax = 32;
constexpr int kCodeMax = 143;

constexpr uint32_t frequency_of(uint32_t code) {
  return code < kExactMax ? code : (16 + code % 16) << (code / 16 - 1);
}
static_assert(frequency_of(kCodeMax) < kRansTotal && frequency_of(kCodeMax + 1) == kRansTotal);

// Of the code below and the one above, the nearer.
uint8_t code_of(uint32_t frequency) {
  if (frequency < kExactMax) return static_cast<uint8_t>(frequency);
  const auto octave = static_cast<uint32_t>(std::bit_width(frequency)) - 5;
  const uint32_t below = 16 * octave + (frequency >> octave);
  const uint32_t twice = 2 * frequency;
  const bool above = twice >= frequency_of(below) + frequency_of(below + 1);
  return static_cast<uint8_t>(std::min<uint32_t>(above ? below + 1 : below, kCodeMax));
}

bool has_code(uint32_t frequency) { return frequency_of(code_of(frequency)) == frequency; }

// As near to it as can be written.
uint16_t written_frequency(uint32_t frequency) {
  return static_cast<uint16_t>(frequency_of(code_of(frequency)));
}

// One symbol is not written: its frequency is what the others leave of the total, or 0 if that is
// nothing possible.
uint16_t rest_of(const RansFrequencies& frequencies, size_t rest) {
  const uint32_t others =
      std::accumulate(frequencies.begin(), frequencies.end(), 0U) - frequencies[rest];
  const bool possible = others > 0 && others < kRansTotal;
  return static_cast<uint16_t>(possible ? kRansTotal - others : 0);
}

// A code is written as its difference from a straight line through the two before.
class CodeLine {
 public:
  int expected() const { return std::clamp(2 * last_ - before_, 0, kCodeMax); }
  void add(int code) {
    before_ = last_;
    last_ = code;
  }

 private:
  int before_ = 0;
  int last_ = 0;
};

// Bits go into bytes from the lowest upwards.
class BitWriter {
 public:
  explicit BitWriter(std::vector<std::byte>& out) : out_(out) {}
  void put(uint32_t value, int bits) {
    for (int i = 0; i < bits; ++i, ++used_) {
      if (used_ % 8 == 0) out_.push_back(std::byte{0});
      out_.back() |= static_cast<std::byte>((value >> i & 1) << used_ % 8);
    }
  }

 private:
  std::vector<std::byte>& out_;
  int used_ = 0;
};

class BitReader {
 public:
  explicit BitReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  // Behind the end, zeros.
  uint32_t get(int bits) {
    uint32_t value = 0;
    for (int i = 0; i < bits; ++i, ++used_) {
      if (used_ / 8 < bytes_.size())
        value |= (std::to_integer<uint32_t>(bytes_[used_ / 8]) >> used_ % 8 & 1) << i;
    }
    return value;
  }
  size_t used() const { return used_; }

 private:
  std::span<const std::byte> bytes_;
  size_t used_ = 0;
};

// Exponential Golomb codes of order 1 (S. W. Golomb, "Run-length encodings", 1966; J. Teuhola,
// 1978): as many zeros as the number plus 2 has binary digits behind its first two, a one, and the
// digits behind the first.
constexpr int kZerosMax = 7;

void put_number(BitWriter& writer, uint32_t number) {
  const int digits = std::bit_width(number + 2) - 1;
  writer.put(1U << (digits - 1), digits);
  writer.put(number + 2, digits);
}

constexpr uint32_t zigzag(int number) {
  return number < 0 ? 2 * static_cast<uint32_t>(-number) - 1 : 2 * static_cast<uint32_t>(number);
}
constexpr int from_zigzag(uint32_t number) {
  const auto half = static_cast<int>((number + 1) / 2);
  return number % 2 != 0 ? -half : half;
}

// More than any number that is written if there is none.
uint32_t get_number(BitReader& reader) {
  int zeros = 0;
  while (zeros <= kZerosMax && reader.get(1) == 0) ++zeros;
  if (zeros > kZerosMax) return 1U << (kZerosMax + 2);
  return ((1U << (zeros + 1)) | reader.get(zeros + 1)) - 2;
}

}  // namespace

RansCounts count_symbols(std::span<const uint8_t> symbols) {
  // Pairs are counted, which halves the work, in turns: a counter must not wait for the count
  // before.
  constexpr size_t kPairs = kRansSymbols * kRansSymbols;
  constexpr uint64_t kFirst = 0x001f001f001f001f;
  std::array<std::array<uint32_t, kPairs>, 2> pairs{};
  size_t i = 0;
  for (; i + 8 <= symbols.size(); i += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, &symbols[i], sizeof eight);
    const uint64_t four = (eight & kFirst) | (eight >> 3 & kFirst << kSymbolBits);
    for (size_t j = 0; j < 4; ++j) ++pairs[j % 2][four >> (16 * j) & (kPairs - 1)];
  }
  RansCounts counts{};
  for (size_t pair = 0; pair < kPairs; ++pair) {
    const uint32_t count = pairs[0][pair] + pairs[1][pair];
    counts[pair % kRansSymbols] += count;
    counts[pair / kRansSymbols] += count;
  }
  for (; i < symbols.size(); ++i) ++counts[symbols[i]];
  return counts;
}

RansFrequencies rans_frequencies(const RansCounts& counts) {
  const uint64_t total =
      std::max<uint64_t>(std::accumulate(counts.begin(), counts.end(), uint64_t{0}), 1);
  const auto rest = static_cast<size_t>(std::ranges::max_element(counts) - counts.begin());
  RansFrequencies frequencies{};
  for (size_t i = 0; i < kRansSymbols; ++i) {
    if (counts[i] == 0 || i == rest) continue;
    const uint64_t nearest = (uint64_t{counts[i]} * kRansTotal + total / 2) / total;
    frequencies[i] = written_frequency(static_cast<uint32_t>(std::max<uint64_t>(nearest, 1)));
  }
  // A lone symbol gets a companion that never occurs.
  if (std::ranges::count(frequencies, 0) == kRansSymbols) frequencies[rest == 0 ? 1 : 0] = 1;
  // The rest symbol has at least 128 slots' share, and no other is rounded up by more than 1/32.
  frequencies[rest] = rest_of(frequencies, rest);
  BALLAST_CHECK(frequencies[rest] > 0);
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

void append_frequencies(const RansFrequencies& frequencies, std::vector<std::byte>& out) {
  auto rest = std::ranges::find_if_not(frequencies, has_code);
  if (rest == frequencies.end()) rest = std::ranges::max_element(frequencies);
  const size_t begin = out.size();
  BitWriter writer(out);
  writer.put(static_cast<uint32_t>(rest - frequencies.begin()), kSymbolBits);
  CodeLine line;
  for (auto frequency = frequencies.begin(); frequency != frequencies.end(); ++frequency) {
    const int expected = line.expected();
    const int code = frequency == rest ? expected : code_of(*frequency);
    if (frequency != rest) put_number(writer, zigzag(code - expected));
    line.add(code);
  }
  if ((out.size() - begin) % 2 != 0) out.push_back(std::byte{0});
}

Result<RansFrequencies> read_frequencies(std::span<const std::byte>& bytes) {
  BitReader reader(bytes);
  const size_t rest = reader.get(kSymbolBits);
  RansFrequencies frequencies{};
  CodeLine line;
  for (size_t i = 0; i < kRansSymbols; ++i) {
    const int code = line.expected() + (i == rest ? 0 : from_zigzag(get_number(reader)));
    if (code < 0 || code > kCodeMax) return fail(Errc::kCorrupt, "an impossible frequency");
    if (i != rest) frequencies[i] = static_cast<uint16_t>(frequency_of(code));
    line.add(code);
  }
  frequencies[rest] = rest_of(frequencies, rest);
  const size_t used = (reader.used() + 15) / 16 * 2;
  if (frequencies[rest] == 0 || used > bytes.size())
    return fail(Errc::kCorrupt, "the frequencies of a chunk's symbols don't add up");
  bytes = bytes.subspan(used);
  return frequencies;
}

}  // namespace ballast::quant
