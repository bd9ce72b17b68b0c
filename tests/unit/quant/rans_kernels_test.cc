// The entropy coder's and the quantizers' loops: every kernel gives what the scalar one does.
#include <numeric>

#include "quant/kernels.h"
#include "quant/rans.h"
#include "quant/trellis.h"
#include "tests/unit/quant/helpers.h"

namespace ballast::quant {
namespace {

constexpr size_t kLanes[] = {16, 32, 64, 128};
constexpr size_t kRows[] = {1, 2, 3, 7, 32};

class EveryRansKernel : public testing::TestWithParam<std::string_view> {
 protected:
  static const Kernel& scalar() { return scalar_kernel(); }
  const Kernel& tested() const { return kernel(); }

 private:
  const WithKernel with_{GetParam()};
};

// Frequencies of all sizes, and symbols that do not care about them.
struct Symbols {
  Symbols(size_t count, uint64_t seed) {
    Random random(seed);
    RansCounts counts{};
    for (uint32_t& occurrences : counts) {
      if (random.below(4) > 0)
        occurrences = static_cast<uint32_t>(random.bits() >> random.below(64));
    }
    ++counts[random.below(kRansSymbols)];
    frequencies = rans_frequencies(counts);
    while (symbols.size() < count) {
      const auto symbol = static_cast<uint8_t>(random.below(kRansSymbols));
      if (frequencies[symbol] > 0) symbols.push_back(symbol);
    }
  }
  RansFrequencies frequencies;
  std::vector<uint8_t> symbols;
};

TEST_P(EveryRansKernel, encodes_any_symbols_with_any_frequencies) {
  for (const size_t lanes : kLanes) {
    for (uint64_t seed = 0; seed < 150; ++seed) {
      const size_t rows = kRows[seed % std::size(kRows)];
      const Symbols some(rows * lanes, seed);
      const RansEncodeTable table(some.frequencies);
      const auto encode = [&](const Kernel& with) {
        std::vector<uint32_t> states(lanes, kRansLowest);
        std::vector<uint16_t> words(rows * lanes);
        const size_t count = with.rans_encode(table, some.symbols.data(), rows, lanes,
                                              states.data(), words.data() + words.size());
        words.erase(words.begin(), words.end() - static_cast<std::ptrdiff_t>(count));
        return std::pair(states, words);
      };
      ASSERT_EQ(encode(scalar()), encode(tested())) << lanes << " lanes, seed " << seed;
    }
  }
}

// Bits, as floats that are NaN or zeros of different signs would not be compared.
template <class T>
ByteVector copy_of(std::span<const T> items) {
  const auto bytes = std::as_bytes(items);
  return {bytes.begin(), bytes.end()};
}

// What a decoder makes of states and words that no encoder wrote.
struct Decoding {
  Decoding(size_t lanes, size_t rows, uint64_t seed)
      : symbols(1, seed), table(symbols.frequencies), words(rows * lanes + kRansVectorLanes) {
    Random random(seed);
    for (uint16_t& word : words) word = static_cast<uint16_t>(random.bits());
    for (size_t lane = 0; lane < lanes; ++lane) {
      const auto state = static_cast<uint32_t>(random.bits() >> random.below(16) & 0xffffffff);
      cursor.states[lane] = std::max(state >> random.below(16), kRansLowest);
      cursor.trellis[lane] = static_cast<uint32_t>(random.below(kTrellisStates));
    }
    cursor.lanes = lanes;
    cursor.next = words.data();
  }
  // Everything that a kernel leaves behind.
  template <class T>
  auto result(const RansCursor& after, std::span<const T> out) const {
    const auto lanes = static_cast<std::ptrdiff_t>(after.lanes);
    return std::tuple(std::vector(after.states.begin(), after.states.begin() + lanes),
                      std::vector(after.trellis.begin(), after.trellis.begin() + lanes),
                      after.next - words.data(), copy_of(out));
  }

  Symbols symbols;
  RansDecodeTable table;
  std::vector<uint16_t> words;
  RansCursor cursor;
};

TEST_P(EveryRansKernel, decodes_any_words_to_the_same_symbols) {
  for (const size_t lanes : kLanes) {
    for (uint64_t seed = 0; seed < 150; ++seed) {
      const size_t rows = kRows[seed % std::size(kRows)];
      const Decoding decoding(lanes, rows, seed);
      const auto decode = [&](const Kernel& with) {
        RansCursor cursor = decoding.cursor;
        std::vector<uint8_t> symbols(rows * lanes);
        with.rans_decode(decoding.table, cursor, rows, symbols.data());
        return decoding.result(cursor, std::span<const uint8_t>(symbols));
      };
      ASSERT_EQ(decode(scalar()), decode(tested())) << lanes << " lanes, seed " << seed;
    }
  }
}

template <class Word>
void expect_same_values(const Kernel& kernel, std::span<const Word> values,
                        Ec4DecodeFn<Word> Kernel::* decoder) {
  for (const size_t lanes : kLanes) {
    for (uint64_t seed = 0; seed < 150; ++seed) {
      const size_t rows = kRows[seed % std::size(kRows)];
      const Decoding decoding(lanes, rows, seed);
      // Every fourth output is not aligned.
      const size_t shift = seed % 4 == 0 ? 1 : 0;
      MutableBytes memory((shift + rows * lanes) * sizeof(Word));
      Word* const out = reinterpret_cast<Word*>(memory.span().data()) + shift;
      const auto decode = [&](const Kernel& with) {
        RansCursor cursor = decoding.cursor;
        (with.*decoder)(decoding.table, values.data(), cursor, rows, out, seed % 2 == 0);
        return decoding.result(cursor, std::span<const Word>(out, rows * lanes));
      };
      ASSERT_EQ(decode(scalar_kernel()), decode(kernel)) << lanes << " lanes, seed " << seed;
    }
  }
}

TEST_P(EveryRansKernel, decodes_any_words_to_the_same_values) {
  alignas(64) std::array<float, 2 * kRansSymbols> floats;
  alignas(64) std::array<uint16_t, 2 * kRansSymbols> halves;
  Random random(1);
  for (size_t i = 0; i < floats.size(); ++i) {
    floats[i] = std::bit_cast<float>(static_cast<uint32_t>(random.bits()) & 0xff7fffff);
    halves[i] = static_cast<uint16_t>(random.bits());
  }
  for (const auto decoder : {&Kernel::ec4_to_32, &Kernel::ec4t_to_32}) {
    expect_same_values<float>(tested(), floats, decoder);
  }
  for (const auto decoder : {&Kernel::ec4_to_16, &Kernel::ec4t_to_16}) {
    expect_same_values<uint16_t>(tested(), halves, decoder);
  }
}

// Values of all sizes around a step: ties, zeros of both signs, NaN and infinities among them.
std::vector<float> some_values(size_t count, float step, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) {
    value = static_cast<float>(random.normal() * 6) * step;
    if (random.below(4) == 0) value = std::round(value / step * 4) * 0.25f * step;
    if (random.below(16) == 0) value = std::copysign(0.0f, value);
    if (random.below(32) == 0) value *= std::ldexp(1.0f, static_cast<int>(random.below(200)) - 100);
    value = std::clamp(value, -3e38f, 3e38f);
    if (random.below(500) == 0) value = std::copysign(INFINITY, value);
    if (random.below(500) == 0) value = NAN;
  }
  return values;
}

TEST_P(EveryRansKernel, quantizes_the_same) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    const float step =
        std::ldexp(1.0f, static_cast<int>(seed % 60) - 30) * (seed % 2 == 0 ? 1 : 0.7f);
    const std::vector<float> values = some_values(16 * (1 + seed), step, seed);
    const auto quantize = [&](const Kernel& with) {
      QuantizeSums sums;
      sums.signal.fill(3);
      std::vector<uint8_t> symbols(values.size());
      const uint32_t outliers =
          with.ec4_quantize(values.data(), values.size(), 1 / step, 0.99f, symbols.data(), sums);
      return std::tuple(outliers, symbols, copy_of(std::span<const QuantizeSums>(&sums, 1)));
    };
    ASSERT_EQ(quantize(scalar()), quantize(tested())) << "seed " << seed;
  }
}

TEST_P(EveryRansKernel, finds_the_same_paths) {
  for (const size_t lanes : kLanes) {
    for (uint64_t seed = 0; seed < 150; ++seed) {
      const size_t rows = kRows[seed % std::size(kRows)];
      const float step =
          std::ldexp(1.0f, static_cast<int>(seed % 60) - 30) * (seed % 2 == 0 ? 1 : 0.7f);
      const std::vector<float> values = some_values(rows * lanes, step, seed);
      const auto quantize = [&](const Kernel& with) {
        QuantizeSums sums;
        sums.noise.fill(3);
        std::vector<uint16_t> survivors(rows * kTrellisStates);
        std::vector<uint8_t> symbols(values.size());
        const uint32_t outliers = with.ec4t_quantize(values.data(), rows, lanes, 1 / step, 0.99f,
                                                     survivors.data(), symbols.data(), sums);
        return std::tuple(outliers, symbols, copy_of(std::span<const QuantizeSums>(&sums, 1)));
      };
      ASSERT_EQ(quantize(scalar()), quantize(tested())) << lanes << " lanes, seed " << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, EveryRansKernel, testing::ValuesIn(available_kernels()),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace ballast::quant
