// Chunks that are differences to a base. A difference is a class, which is entropy-coded, and its
// place within the class, which is written as it is.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "quant/byte_cursor.h"
#include "quant/kernels.h"
#include "quant/lossless.h"

namespace ballast::quant {
namespace {

constexpr size_t kClassesMax = kRansSymbols;

// Classes follow each other from 0 up. Class c has 2^extra[c] differences from start[c] on.
struct Classes {
  size_t count = 0;
  std::array<uint8_t, kClassesMax> extra{};
  std::array<uint32_t, kClassesMax> start{};
  uint32_t next = 0;  // where the next class starts

  void add(size_t extra_bits) {
    extra[count] = static_cast<uint8_t>(extra_bits);
    start[count] = next;
    next += static_cast<uint32_t>(uint64_t{1} << extra_bits);
    ++count;
  }
};

// An encoder has a class for 0 alone, which mostly is by far the most frequent difference. Of the
// others, less one, the finest classes that it considers are cells: those below 16 by themselves,
// and 8 cells for each octave above.
constexpr uint32_t kExactCells = 16;
constexpr uint32_t kCellsPerOctave = 8;
constexpr size_t kCellsMax = kExactCells + 28 * kCellsPerOctave;

constexpr size_t cell_of(uint32_t number) {
  if (number < kExactCells) return number;
  const auto exponent = static_cast<uint32_t>(std::bit_width(number) - 1);
  return kExactCells + (exponent - 4) * kCellsPerOctave + (number >> (exponent - 3)) % 8;
}

constexpr uint32_t cell_extra_bits(size_t cell) {
  return cell < kExactCells ? 0 : static_cast<uint32_t>(cell - kExactCells) / kCellsPerOctave + 1;
}

// What n symbols of one kind save against a symbol for each of them, in bits.
double weight(uint32_t count) { return count == 0 ? 0 : count * portable_log2(count); }

struct Run {  // of cells that are one class
  size_t cells = 1;
  uint32_t extra = 0;
  uint64_t start = 0;
  uint32_t count = 0;  // numbers in it
  double cost = 0;     // of merging it with the next run, in bits
};

// Two classes can become one if they are halves of a range whose length is a power of two and that
// starts at a multiple of it: so in the end all could become one.
void set_cost(std::vector<Run>& runs, size_t i) {
  if (i >= runs.size()) return;
  Run& run = runs[i];
  run.cost = std::numeric_limits<double>::infinity();
  if (i + 1 == runs.size() || run.extra != runs[i + 1].extra) return;
  if ((run.start >> run.extra) % 2 != 0) return;
  const uint32_t both = run.count + runs[i + 1].count;
  run.cost = weight(run.count) + weight(runs[i + 1].count) - weight(both) + both;
}

void merge_with_next(std::vector<Run>& runs, size_t i) {
  runs[i].cells += runs[i + 1].cells;
  runs[i].count += runs[i + 1].count;
  ++runs[i].extra;
  runs.erase(runs.begin() + static_cast<std::ptrdiff_t>(i) + 1);
  set_cost(runs, i);
  if (i > 0) set_cost(runs, i - 1);
}

// The classes that fit these numbers best, merged from cells where that costs least.
std::vector<Run> choose_runs(std::span<const uint32_t, kCellsMax> counts, uint32_t largest) {
  // Whole octaves, or the last ones could not merge with what is below.
  const auto last = static_cast<uint32_t>((uint64_t{1} << std::bit_width(largest | 15)) - 1);
  std::vector<Run> runs;
  uint64_t start = 0;
  for (size_t cell = 0; cell <= cell_of(last); ++cell) {
    runs.push_back({.extra = cell_extra_bits(cell), .start = start, .count = counts[cell]});
    start += uint64_t{1} << runs.back().extra;
  }
  for (size_t i = 0; i < runs.size(); ++i) set_cost(runs, i);
  while (runs.size() + 1 > kClassesMax) {
    const auto best = std::ranges::min_element(runs, {}, &Run::cost) - runs.begin();
    merge_with_next(runs, static_cast<size_t>(best));
  }
  return runs;
}

// The lowest bit of a byte comes first.
class BitWriter {
 public:
  void put(uint32_t value, uint32_t bits) {
    pending_ |= uint64_t{value} << held_;
    held_ += bits;
    for (; held_ >= 8; held_ -= 8, pending_ >>= 8) append_u8(bytes_, pending_ & 255);
  }
  std::vector<std::byte> finish() {
    if (held_ > 0) append_u8(bytes_, pending_ & 255);
    return std::move(bytes_);
  }

 private:
  std::vector<std::byte> bytes_;
  uint64_t pending_ = 0;
  uint32_t held_ = 0;
};

// Reads the extra bits of symbols, a piece at a time. A read takes eight bytes, so the last pieces
// are read from a copy with room behind it.
class ExtraReader {
 public:
  ExtraReader(const Classes& classes, std::span<const uint8_t> bytes)
      : classes_(classes), bytes_(bytes), from_(bytes.data()) {
    for (size_t i = 0; i < mask_.size(); ++i) {
      mask_[i] = (uint64_t{1} << classes.extra[i]) - 1;
    }
  }

  // False if the bytes ended before this piece.
  bool next(std::span<const uint8_t> symbols, uint32_t* differences) {
    const uint64_t at = position_ / 8;
    if (at > bytes_.size()) return false;
    if (tail_.empty() && bytes_.size() - at < kPieceBytes + sizeof(uint64_t)) {
      // It begins in a piece and may end behind it, and so far a piece can reach over that end.
      tail_.resize(2 * (kPieceBytes + sizeof(uint64_t)));
      std::ranges::copy(bytes_.subspan(at), tail_.begin());
      from_ = tail_.data();
      skipped_ = at * 8;
    }
    read(symbols, differences);
    return true;
  }
  // True if the bits were neither too many nor too few.
  bool finished() const { return (position_ + 7) / 8 == bytes_.size(); }

 private:
  static constexpr size_t kPieceBytes = kSymbolPiece * sizeof(uint32_t);

  void read(std::span<const uint8_t> symbols, uint32_t* differences) {
    uint64_t position = position_ - skipped_;
    for (size_t i = 0; i < symbols.size(); ++i) {
      const uint8_t symbol = symbols[i];
      uint64_t word = 0;
      std::memcpy(&word, from_ + position / 8, sizeof word);
      const uint64_t extra = (word >> position % 8) & mask_[symbol];
      differences[i] = classes_.start[symbol] + static_cast<uint32_t>(extra);
      position += classes_.extra[symbol];
    }
    position_ = position + skipped_;
  }

  const Classes& classes_;
  std::span<const uint8_t> bytes_;
  std::array<uint64_t, kClassesMax> mask_;
  std::vector<uint8_t> tail_;
  const uint8_t* from_;    // where bit skipped_ lies
  uint64_t skipped_ = 0;   // a multiple of 8
  uint64_t position_ = 0;  // in bits; behind the end if the bytes were too few
};

}  // namespace

std::vector<std::byte> encode_differences(const ChunkValues& chunk) {
  const size_t width = dtype_bytes(chunk.source);
  const size_t values = chunk.values.size() / width;
  const LosslessKernel& loops = kernel().lossless;
  std::vector<uint32_t> differences(values);
  (width == 2 ? loops.difference16 : loops.difference32)(chunk.values.data(), chunk.base.data(),
                                                         values, differences.data());
  std::array<uint32_t, kCellsMax> counts{};
  uint32_t largest = 0;
  for (const uint32_t difference : differences) {
    if (difference != 0) ++counts[cell_of(difference - 1)];
    largest = std::max(largest, difference);
  }
  Classes classes;
  classes.add(0);
  std::array<uint8_t, kCellsMax> class_of_cell{};
  size_t cell = 0;
  for (const Run& run : choose_runs(counts, largest)) {
    std::fill_n(class_of_cell.begin() + cell, run.cells, static_cast<uint8_t>(classes.count));
    cell += run.cells;
    classes.add(run.extra);
  }
  std::vector<uint8_t> symbols(values);
  BitWriter writer;
  for (size_t i = 0; i < values; ++i) {
    if (differences[i] == 0) continue;
    const uint8_t symbol = class_of_cell[cell_of(differences[i] - 1)];
    symbols[i] = symbol;
    writer.put(differences[i] - classes.start[symbol], classes.extra[symbol]);
  }
  const std::vector<std::byte> extra = writer.finish();

  std::vector<std::byte> out;
  append_u8(out, static_cast<uint8_t>(ChunkMode::kDifferences));
  append_u8(out, classes.count);
  append_bytes(out, std::span(classes.extra).first(classes.count));
  append_u32(out, extra.size());
  out.insert(out.end(), extra.begin(), extra.end());
  append_symbols(std::move(symbols), out);
  return out;
}

Status decode_differences(std::span<const std::byte> bytes, DType source, size_t values,
                          std::span<const std::byte> base, ValueSink& sink) {
  const size_t width = dtype_bytes(source);
  ByteCursor cursor(bytes);
  Classes classes;
  const size_t count = cursor.u8();
  for (const uint8_t bits : cursor.take(std::min(count, kClassesMax))) {
    if (bits <= 8 * width) classes.add(bits);
  }
  const auto extra = cursor.take(cursor.u32());
  if (cursor.failed() || count == 0 || classes.count != count) {
    return fail(Errc::kCorrupt, "a chunk of {} bytes can't be the differences of {} values",
                bytes.size(), values);
  }
  BALLAST_TRY(SymbolReader reader, SymbolReader::open(cursor.rest(), values));
  ExtraReader extras(classes, extra);
  const LosslessKernel& loops = kernel().lossless;
  const LosslessKernel::Apply apply = width == 2 ? loops.apply16 : loops.apply32;
  alignas(64) std::array<uint8_t, kSymbolPiece> symbols;
  alignas(64) std::array<uint32_t, kSymbolPiece> differences;
  for (size_t at = 0; at < values; at += kSymbolPiece) {
    const size_t part = std::min(kSymbolPiece, values - at);
    reader.next(part, symbols.data());
    if (!extras.next(std::span(symbols).first(part), differences.data())) break;
    apply(differences.data(), base.data() + at * width, part, sink.next());
    sink.done(part);
  }
  if (!extras.finished()) return fail(Errc::kCorrupt, "a chunk has too few or too many extra bits");
  return reader.finish();
}

}  // namespace ballast::quant
