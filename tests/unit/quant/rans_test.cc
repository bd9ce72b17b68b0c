// The entropy coder: what goes in comes out, with every kernel, and never more than the stream.
#include "quant/rans.h"

#include <numeric>

#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

// Symbols around 15, the wider the larger `spread`.
std::vector<uint8_t> some_symbols(size_t count, double spread, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> symbols(count);
  for (uint8_t& symbol : symbols) {
    symbol = static_cast<uint8_t>(std::clamp(std::lround(15 + spread * random.normal()), 0L, 31L));
  }
  return symbols;
}

Result<std::vector<uint8_t>> decode(const RansFrequencies& frequencies,
                                    std::span<const std::byte> bytes, size_t lanes, size_t count) {
  BALLAST_TRY(RansReader reader, RansReader::open(bytes, lanes, count / lanes));
  const RansDecodeTable table(frequencies);
  std::vector<uint8_t> symbols(count);
  for (size_t at = 0; at < count; at += kRansPiece) {
    const size_t rows = std::min(kRansPiece, count - at) / lanes;
    const size_t coded = reader.prepare(rows);
    kernel().rans_decode(table, reader.cursor(), coded, &symbols[at]);
    reader.closing(rows - coded, symbols.data() + at + coded * lanes);
  }
  BALLAST_TRY_STATUS(reader.finish());
  return symbols;
}

TEST(Rans, frequencies_add_up_and_none_that_occurs_is_lost) {
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    RansCounts counts{};
    for (uint32_t& count : counts) {
      if (random.below(3) > 0)
        count = static_cast<uint32_t>(random.bits() >> (33 + random.below(31)));
    }
    const RansFrequencies frequencies = rans_frequencies(counts);
    EXPECT_EQ(std::accumulate(frequencies.begin(), frequencies.end(), 0U), kRansTotal);
    for (size_t symbol = 0; symbol < kRansSymbols; ++symbol) {
      EXPECT_LT(frequencies[symbol], kRansTotal);
      if (counts[symbol] > 0) EXPECT_GT(frequencies[symbol], 0);
    }
    std::vector<std::byte> bytes;
    append_frequencies(frequencies, bytes);
    EXPECT_EQ(bytes.size() % 2, 0U);
    std::span<const std::byte> rest(bytes);
    EXPECT_EQ(read_frequencies(rest).value(), frequencies);
    EXPECT_TRUE(rest.empty());
  }
}

TEST(Rans, frequencies_cost_little_and_lose_little) {
  const RansCounts counts = count_symbols(some_symbols(40'000, 3.8, 4));
  const RansFrequencies frequencies = rans_frequencies(counts);
  std::vector<std::byte> bytes;
  append_frequencies(frequencies, bytes);
  EXPECT_LE(bytes.size(), 20U);
  double entropy = 0;
  for (const uint32_t count : counts) {
    if (count > 0) entropy += count * std::log2(40'000.0 / count);
  }
  EXPECT_LT(rans_bits(counts, frequencies), entropy + 40'000 * 0.001);
}

TEST(Rans, damaged_frequencies_are_noticed_or_add_up) {
  const RansFrequencies frequencies = rans_frequencies(count_symbols(some_symbols(9'000, 3, 4)));
  std::vector<std::byte> bytes;
  append_frequencies(frequencies, bytes);
  Random random(6);
  int noticed = 0;
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::byte> damaged = bytes;
    damaged[random.below(damaged.size())] ^= static_cast<std::byte>(1 + random.below(255));
    if (i % 3 == 0) damaged.resize(random.below(bytes.size()));
    damaged.shrink_to_fit();
    std::span<const std::byte> rest(damaged);
    const auto read = read_frequencies(rest);
    if (!read) {
      EXPECT_EQ(read.error().code, Errc::kCorrupt);
      ++noticed;
      continue;
    }
    EXPECT_EQ(std::accumulate(read->begin(), read->end(), 0U), kRansTotal);
  }
  EXPECT_GT(noticed, 1000);
}

TEST(Rans, each_slot_belongs_to_one_position_of_one_symbol) {
  for (const double spread : {0.0, 0.3, 3.0, 9.0}) {
    const RansFrequencies frequencies =
        rans_frequencies(count_symbols(some_symbols(20'000, spread, 5)));
    const RansDecodeTable table(frequencies);
    std::array<std::vector<bool>, kRansSymbols> seen;
    for (size_t i = 0; i < kRansSymbols; ++i) seen[i].resize(frequencies[i]);
    for (uint32_t slot = 0; slot < kRansTotal; ++slot) {
      const uint32_t bucket = slot / kRansBucketSlots;
      const bool own = slot % kRansBucketSlots < table.own[bucket] >> 25;
      const uint32_t entry = own ? table.own[bucket] : table.alias[bucket];
      const uint32_t symbol = own ? bucket : entry >> 25;
      const uint32_t position = (slot + entry) & 0xfff;
      EXPECT_EQ(entry >> 12 & 0xfff, frequencies[symbol]);
      ASSERT_LT(position, frequencies[symbol]);
      EXPECT_FALSE(seen[symbol][position]);
      seen[symbol][position] = true;
    }
  }
}

TEST(Rans, every_kernel_writes_and_reads_the_same_stream) {
  for (const size_t lanes : {16, 32, 64, 128}) {
    for (const double spread : {0.0, 0.2, 2.0, 4.0, 12.0}) {
      const std::vector<uint8_t> symbols = some_symbols(lanes * 777, spread, lanes);
      const RansFrequencies frequencies = rans_frequencies(count_symbols(symbols));
      std::vector<std::byte> reference;
      for (const std::string_view name : available_kernels()) {
        const WithKernel with(name);
        std::vector<std::byte> bytes;
        std::vector<uint16_t> words;
        rans_encode(frequencies, symbols, lanes, words, bytes);
        if (reference.empty()) reference = bytes;
        EXPECT_EQ(bytes, reference) << name << " " << lanes << " " << spread;
        const auto decoded = decode(frequencies, bytes, lanes, symbols.size());
        ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
        EXPECT_EQ(*decoded, symbols) << name;
      }
    }
  }
}

TEST(Rans, costs_what_the_frequencies_say) {
  const std::vector<uint8_t> symbols = some_symbols(128 * 1024, 3.0, 9);
  const RansCounts counts = count_symbols(symbols);
  const RansFrequencies frequencies = rans_frequencies(counts);
  std::vector<std::byte> bytes;
  std::vector<uint16_t> words;
  rans_encode(frequencies, symbols, 128, words, bytes);
  const double expected = rans_bits(counts, frequencies) / 8 + 128 * 4;
  EXPECT_NEAR(static_cast<double>(bytes.size()), expected, 300);
}

TEST(Rans, a_damaged_stream_is_noticed_and_never_over_read) {
  const std::vector<uint8_t> symbols = some_symbols(16 * 1000, 3.0, 2);
  const RansFrequencies frequencies = rans_frequencies(count_symbols(symbols));
  std::vector<std::byte> bytes;
  std::vector<uint16_t> words;
  rans_encode(frequencies, symbols, 16, words, bytes);
  Random random(3);
  for (const std::string_view name : available_kernels()) {
    const WithKernel with(name);
    for (int i = 0; i < 200; ++i) {
      // Exactly as large as it is, so that a sanitizer sees reads behind the end.
      std::vector<std::byte> damaged(bytes.begin(), bytes.end());
      damaged[random.below(damaged.size())] ^= static_cast<std::byte>(1 + random.below(255));
      if (i % 3 == 0) damaged.resize(random.below(bytes.size() / 2) * 2);
      damaged.shrink_to_fit();
      const auto decoded = decode(frequencies, damaged, 16, symbols.size());
      if (!decoded) EXPECT_EQ(decoded.error().code, Errc::kCorrupt);
      // A change that leaves the stream consistent changes symbols.
      if (decoded) EXPECT_NE(*decoded, symbols);
    }
  }
}

TEST(Rans, logarithms_are_near_those_of_the_library) {
  Random random(8);
  for (int i = 0; i < 10'000; ++i) {
    const double value = std::exp(60 * (random.uniform() - 0.5));
    EXPECT_NEAR(portable_log2(value), std::log2(value), 1e-6);
  }
}

}  // namespace
}  // namespace ballast::quant
