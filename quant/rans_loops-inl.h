// The entropy coder's and the quantizers' loops as plain code: the reference, and what kernels use
// that have nothing better. See float_loops-inl.h for how such files are written.
#pragma once

#include "quant/kernels.h"
#include "quant/rans.h"
#include "quant/trellis.h"

namespace ballast::quant {
namespace {

// To the nearest integer, ties to even; |value| < 2^22.
float nearest_integer(float value) {
  constexpr float kShift = 0x1.8p23f;
  return (value + kShift) - kShift;
}

size_t rans_encode(const RansEncodeTable& table, const uint8_t* symbols, size_t rows, size_t lanes,
                   uint32_t* states, uint16_t* end) {
  uint16_t* out = end;
  for (size_t i = rows * lanes; i-- > 0;) {
    const uint8_t symbol = symbols[i];
    const uint32_t frequency = table.frequency[symbol];
    uint32_t state = states[i % lanes];
    if (state >= frequency << 20) {
      *--out = static_cast<uint16_t>(state);
      state >>= 16;
    }
    const uint32_t quotient = state / frequency;
    const uint32_t slot = table.slots[table.start[symbol] + state - quotient * frequency];
    states[i % lanes] = quotient << kRansTotalBits | slot;
  }
  return static_cast<size_t>(end - out);
}

// Calls put(i, lane, symbol) for each symbol in order.
template <class Put>
void decode_rows(const RansDecodeTable& table, RansCursor& cursor, size_t rows, const Put& put) {
  const uint16_t* next = cursor.next;
  size_t i = 0;
  for (size_t row = 0; row < rows; ++row) {
    for (size_t lane = 0; lane < cursor.lanes; ++lane, ++i) {
      uint32_t state = cursor.states[lane];
      const uint32_t bucket = state >> 7 & (kRansSymbols - 1);
      uint32_t entry = table.own[bucket];
      uint32_t symbol = bucket;
      if ((state & (kRansBucketSlots - 1)) >= entry >> 25) {
        entry = table.alias[bucket];
        symbol = entry >> 25;
      }
      put(i, lane, symbol);
      state = (entry >> 12 & 0xfff) * (state >> 12) + ((state + entry) & 0xfff);
      if (state < kRansLowest) state = state << 16 | *next++;
      cursor.states[lane] = state;
    }
  }
  cursor.next = next;
}

void rans_decode(const RansDecodeTable& table, RansCursor& cursor, size_t rows, uint8_t* symbols) {
  decode_rows(table, cursor, rows, [&](size_t i, size_t /*lane*/, uint32_t symbol) {
    symbols[i] = static_cast<uint8_t>(symbol);
  });
}

template <class Word>
void ec4_decode(const RansDecodeTable& table, const Word* values, RansCursor& cursor, size_t rows,
                Word* out, bool /*streaming*/) {
  decode_rows(table, cursor, rows,
              [&](size_t i, size_t /*lane*/, uint32_t symbol) { out[i] = values[symbol]; });
}

// `values` are those of the even quantizer, then those of the odd one.
template <class Word>
void ec4t_decode(const RansDecodeTable& table, const Word* values, RansCursor& cursor, size_t rows,
                 Word* out, bool /*streaming*/) {
  decode_rows(table, cursor, rows, [&](size_t i, size_t lane, uint32_t symbol) {
    const uint32_t state = cursor.trellis[lane];
    out[i] = values[(state & 1) * kRansSymbols + symbol];
    // Symbol 15 is index 0.
    cursor.trellis[lane] = trellis_next(state, ~symbol & 1);
  });
}

// ---- quantizing ----

struct StepSums {
  float signal[kQuantizeLanes];
  float decoded[kQuantizeLanes];
  float noise[kQuantizeLanes];
  float max_error[kQuantizeLanes];

  void load(const QuantizeSums& sums) {
    for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
      signal[lane] = sums.signal[lane];
      decoded[lane] = sums.decoded[lane];
      noise[lane] = sums.noise[lane];
      max_error[lane] = sums.max_error[lane];
    }
  }
  void store(QuantizeSums& sums) const {
    for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
      sums.signal[lane] = signal[lane];
      sums.decoded[lane] = decoded[lane];
      sums.noise[lane] = noise[lane];
      sums.max_error[lane] = max_error[lane];
    }
  }
  // `decoded_value`: what a decoder gives for `value`.
  void add(size_t lane, float value, float decoded_value) {
    const float error = value - decoded_value;
    const float magnitude = error < 0 ? -error : error;
    signal[lane] += value * value;
    decoded[lane] += decoded_value * decoded_value;
    noise[lane] += error * error;
    max_error[lane] = magnitude > max_error[lane] ? magnitude : max_error[lane];
  }
};

uint32_t ec4_quantize(const float* values, size_t count, float inverse_step, float shrink,
                      uint8_t* symbols, QuantizeSums& sums) {
  StepSums lanes;
  lanes.load(sums);
  uint32_t outliers = 0;
  for (size_t i = 0; i < count; i += kQuantizeLanes) {
    for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
      float value = values[i + lane] * inverse_step;
      const bool inside = value < kEc4Outlier && value > -kEc4Outlier;
      outliers += inside ? 0 : 1;
      value = inside ? value : 0.0f;
      float index = nearest_integer(value);
      index = index > kEc4IndexMax ? kEc4IndexMax : index;
      index = index < -kEc4IndexMax ? -kEc4IndexMax : index;
      lanes.add(lane, value, index * shrink);
      symbols[i + lane] = static_cast<uint8_t>(static_cast<int>(index) + kEc4IndexMax);
    }
  }
  lanes.store(sums);
  return outliers;
}

// A value of the chosen quantizer and parity that is near, as a multiple of the step and as index.
struct Nearby {
  float multiple;
  float index;
};

Nearby even_choice(float value, bool odd_index) {
  const float shift = odd_index ? 2.0f : 0.0f;
  float j = nearest_integer((value - shift) * 0.25f);
  const float lowest = odd_index ? -8.0f : -7.0f;
  j = j < lowest ? lowest : j;
  j = j > 7.0f ? 7.0f : j;
  const float multiple = 4 * j + shift;
  return {multiple, multiple * 0.5f};
}

Nearby odd_choice(float value, bool odd_index) {
  const float magnitude = value < 0 ? -value : value;
  float j = nearest_integer((magnitude + (odd_index ? -1.0f : 1.0f)) * 0.25f);
  if (odd_index) {
    j = j < 0.0f ? 0.0f : j;
  } else {
    j = magnitude < 1.5f ? 0.0f : j;
  }
  j = j > 7.0f ? 7.0f : j;
  const float index = 2 * j + (odd_index ? 1.0f : 0.0f);
  const float multiple = index > 0.0f ? 2 * index - 1 : 0.0f;
  return {value < 0 ? -multiple : multiple, value < 0 ? -index : index};
}

struct PathCosts {
  float of[kTrellisStates][kQuantizeLanes];
};

// One step of the search for kQuantizeLanes lanes. Bit `lane` of survivors[s]: the best way to s is
// from the upper of the states before it.
void extend_paths(const float* scaled, PathCosts& costs, uint16_t* survivors) {
  float distance[2][2][kQuantizeLanes];  // by quantizer and parity
  for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
    for (int parity = 0; parity < 2; ++parity) {
      const float even = scaled[lane] - even_choice(scaled[lane], parity != 0).multiple;
      const float odd = scaled[lane] - odd_choice(scaled[lane], parity != 0).multiple;
      distance[0][parity][lane] = even * even;
      distance[1][parity][lane] = odd * odd;
    }
  }
  PathCosts extended;
  for (uint32_t state = 0; state < kTrellisStates; ++state) {
    const uint32_t lower = trellis_before(state);
    const uint32_t parity = state >> 1 & 1;
    uint32_t taken = 0;
    for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
      const float from_lower = costs.of[lower][lane] + distance[lower & 1][parity][lane];
      const float from_upper = costs.of[lower + 4][lane] + distance[lower & 1][1 - parity][lane];
      const bool upper = from_upper < from_lower;
      extended.of[state][lane] = upper ? from_upper : from_lower;
      taken |= uint32_t{upper} << lane;
    }
    survivors[state] = static_cast<uint16_t>(taken);
  }
  costs = extended;
}

bool is_outlier(float scaled) { return !(scaled < kEc4tOutlier && scaled > -kEc4tOutlier); }

uint32_t best_end(const PathCosts& costs, size_t lane) {
  uint32_t best = 0;
  for (uint32_t state = 1; state < kTrellisStates; ++state) {
    if (costs.of[state][lane] < costs.of[best][lane]) best = state;
  }
  return best;
}

// The chosen paths, backwards.
void trace_back(const float* values, size_t rows, size_t lanes, float inverse_step, float shrink,
                const uint16_t* survivors, const PathCosts& costs, uint8_t* symbols,
                StepSums& sums) {
  uint32_t states[kQuantizeLanes];
  for (size_t lane = 0; lane < kQuantizeLanes; ++lane) states[lane] = best_end(costs, lane);
  for (size_t row = rows; row-- > 0;) {
    for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
      const uint32_t next = states[lane];
      const uint32_t upper = survivors[row * kTrellisStates + next] >> lane & 1;
      const bool odd_index = ((next >> 1 & 1) ^ upper) != 0;
      states[lane] = trellis_before(next) + 4 * upper;
      const float exact = values[row * lanes + lane] * inverse_step;
      const float scaled = is_outlier(exact) ? 0.0f : exact;
      const Nearby choice =
          (states[lane] & 1) != 0 ? odd_choice(scaled, odd_index) : even_choice(scaled, odd_index);
      // What an outlier's place on the path stands for is not read.
      sums.add(lane, scaled, is_outlier(exact) ? 0.0f : choice.multiple * shrink);
      symbols[row * lanes + lane] =
          static_cast<uint8_t>(static_cast<int>(choice.index) + kEc4IndexMax);
    }
  }
}

uint32_t ec4t_quantize(const float* values, size_t rows, size_t lanes, float inverse_step,
                       float shrink, uint16_t* survivors, uint8_t* symbols, QuantizeSums& sums) {
  StepSums lane_sums;
  lane_sums.load(sums);
  uint32_t outliers = 0;
  for (size_t at = 0; at < lanes; at += kQuantizeLanes) {
    PathCosts costs;
    for (uint32_t state = 0; state < kTrellisStates; ++state) {
      for (float& cost : costs.of[state]) cost = state == 0 ? 0.0f : kUnreachable;
    }
    for (size_t row = 0; row < rows; ++row) {
      float scaled[kQuantizeLanes];
      for (size_t lane = 0; lane < kQuantizeLanes; ++lane) {
        const float exact = values[row * lanes + at + lane] * inverse_step;
        scaled[lane] = is_outlier(exact) ? 0.0f : exact;
        outliers += is_outlier(exact) ? 1 : 0;
      }
      extend_paths(scaled, costs, survivors + row * kTrellisStates);
    }
    trace_back(values + at, rows, lanes, inverse_step, shrink, survivors, costs, symbols + at,
               lane_sums);
  }
  lane_sums.store(sums);
  return outliers;
}

}  // namespace
}  // namespace ballast::quant
