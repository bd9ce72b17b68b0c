// The trellis of ec4t: dependent quantization with eight states.
//
// A value is a multiple of the step. In each state one of two quantizers is in force: the even
// multiples, or the odd ones and zero; and the parity of the chosen index leads to the next state.
// The encoder finds the best path (A. J. Viterbi, 1967). The trellis is G. Ungerboeck's eight-state
// code for amplitude modulation ("Channel coding with multilevel/phase signals", 1982, table I:
// h0 = 13, h1 = 04); such quantizers come within half a dB of the rate-distortion bound
// (M. W. Marcellin and T. R. Fischer, "Trellis coded quantization", 1990).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ballast::quant {

inline constexpr size_t kTrellisStates = 8;

// Bit 0 of a state says which quantizer is in force.
constexpr uint32_t trellis_next(uint32_t state, uint32_t parity) {
  const uint32_t s0 = state & 1;
  const uint32_t s1 = state >> 1 & 1;
  const uint32_t s2 = state >> 2;
  return (s0 ^ s1) | (s2 ^ parity) << 1 | s0 << 2;
}

// The two states before `next`: this one, which leads to it with the parity of bit 1 of `next`,
// and the one four above, with the other parity.
constexpr uint32_t trellis_before(uint32_t next) {
  const uint32_t s0 = next >> 2;
  const uint32_t s1 = (next & 1) ^ s0;
  return s0 | s1 << 1;
}

// The multiple of the step that an index from -15 to 15 stands for.
constexpr int trellis_multiple(uint32_t state, int index) {
  const int sign = (index > 0) - (index < 0);
  return 2 * index - ((state & 1) != 0 ? sign : 0);
}

}  // namespace ballast::quant
