#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "bench/micro/data_sets.h"
#include "bench/micro/method.h"
#include "proto/base/limits.h"

namespace ballast::micro {
namespace {

constexpr size_t kPieceValues = limits::kMiB;
constexpr size_t kPlacesMax = sizeof(float);

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// The loops are written for one size each: only then do they compile to vector instructions.
template <size_t kPlaces>
void split(const std::byte* values, size_t count, std::byte* places) {
  for (size_t i = 0; i < count; ++i) {
    for (size_t place = 0; place < kPlaces; ++place) {
      places[place * count + i] = values[i * kPlaces + place];
    }
  }
}

// `count` of the values of places that hold `stride` values each.
template <size_t kPlaces>
void join(const std::byte* places, size_t stride, size_t count, std::byte* values) {
  for (size_t i = 0; i < count; ++i) {
    for (size_t place = 0; place < kPlaces; ++place) {
      values[i * kPlaces + place] = places[place * stride + i];
    }
  }
}

class SplitZstd : public Method {
 public:
  explicit SplitZstd(int level) : name_(fmt::format("byte split + zstd -{}", level)) {
    ZSTD_CCtx_setParameter(compress_.get(), ZSTD_c_compressionLevel, level);
  }

  std::string_view name() const override { return name_; }
  bool is_peer() const override { return true; }
  bool decodes_to(quant::DType dtype) const override { return quant::dtype_is_codable(dtype); }

  Result<Encoded> encode(std::span<const std::byte> values, quant::DType source) const override {
    const size_t size = quant::dtype_bytes(source);
    Encoded encoded;
    for (size_t at = 0; at < values.size(); at += kPieceValues * size) {
      BALLAST_TRY(
          Piece piece,
          encode_piece(values.subspan(at).first(std::min(kPieceValues * size, values.size() - at)),
                       size));
      encoded.pieces.push_back(std::move(piece));
    }
    return encoded;
  }

  Status decode(const Piece& piece, quant::DType as, std::span<std::byte> out) const override {
    const size_t size = quant::dtype_bytes(as);
    const std::byte* from = piece.bytes.data();
    std::array<uint32_t, kPlacesMax> lengths{};
    std::memcpy(lengths.data(), from, size * sizeof(uint32_t));
    from += size * sizeof(uint32_t);
    places_.resize(std::max<size_t>(places_.size(), piece.values * size));
    for (size_t place = 0; place < size; ++place) {
      const size_t got =
          ZSTD_decompressDCtx(decompress_.get(), places_.data() + place * piece.values,
                              piece.values, from, lengths[place]);
      if (got != piece.values) return fail(Errc::kCorrupt, "zstd gave {} bytes", got);
      from += lengths[place];
    }
    const size_t count = std::min<size_t>(piece.values, out.size() / size);
    if (size == 2) {
      join<2>(places_.data(), piece.values, count, out.data());
    } else {
      join<4>(places_.data(), piece.values, count, out.data());
    }
    return {};
  }

 private:
  // A length for each place, then the frames of the places.
  Result<Piece> encode_piece(std::span<const std::byte> values, size_t size) const {
    const size_t count = values.size() / size;
    places_.resize(std::max(places_.size(), values.size()));
    if (size == 2) {
      split<2>(values.data(), count, places_.data());
    } else {
      split<4>(values.data(), count, places_.data());
    }
    std::array<uint32_t, kPlacesMax> lengths{};
    MutableBytes bytes(size * (sizeof(uint32_t) + ZSTD_compressBound(count)));
    size_t used = size * sizeof(uint32_t);
    for (size_t place = 0; place < size; ++place) {
      const size_t length =
          ZSTD_compress2(compress_.get(), bytes.data() + used, bytes.size() - used,
                         places_.data() + place * count, count);
      if (ZSTD_isError(length)) return fail(Errc::kInternal, "zstd can't compress {} bytes", count);
      lengths[place] = static_cast<uint32_t>(length);
      used += length;
    }
    std::memcpy(bytes.data(), lengths.data(), size * sizeof(uint32_t));
    return Piece{Bytes::copy_of(bytes.span().first(used)), count};
  }

  std::string name_;
  std::unique_ptr<ZSTD_CCtx, FreeContext> compress_{ZSTD_createCCtx()};
  std::unique_ptr<ZSTD_DCtx, FreeContext> decompress_{ZSTD_createDCtx()};
  mutable std::vector<std::byte> places_;
};

}  // namespace

std::unique_ptr<Method> make_split_zstd(int level) { return std::make_unique<SplitZstd>(level); }

}  // namespace ballast::micro
