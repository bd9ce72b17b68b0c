#include <algorithm>

#include "bench/micro/method.h"
#include "quant/codec.h"

namespace ballast::micro {
namespace {

class CodecMethod : public Method {
 public:
  CodecMethod(std::string_view name, quant::CodecSpec codec) : name_(name), codec_(codec) {}

  std::string_view name() const override { return name_; }
  bool is_peer() const override { return false; }
  bool decodes_to(quant::DType dtype) const override { return quant::dtype_is_codable(dtype); }

  Result<Encoded> encode(std::span<const std::byte> values, quant::DType source) const override {
    const size_t size = quant::dtype_bytes(source);
    std::vector<std::byte> sample;
    for (const auto [first, count] : quant::sample_ranges(codec_, values.size() / size)) {
      const auto range = values.subspan(first * size, count * size);
      sample.insert(sample.end(), range.begin(), range.end());
    }
    BALLAST_TRY(const auto encoder, quant::TensorEncoder::create(codec_, source, sample));
    const size_t step = quant::values_per_block(codec_, source) * size;
    Encoded encoded{{}, quant::ErrorSums{}};
    for (size_t at = 0; at < values.size(); at += step) {
      const auto part = values.subspan(at, std::min(step, values.size() - at));
      BALLAST_TRY(auto block, encoder->encode(part));
      *encoded.reported += block.error;
      BALLAST_TRY(const auto info, quant::inspect_block(block.bytes.span()));
      encoded.pieces.push_back({Bytes(std::move(block.bytes)), info.values});
    }
    return encoded;
  }

  Status decode(const Piece& piece, quant::DType as, std::span<std::byte> out) const override {
    const uint64_t count = std::min<uint64_t>(piece.values, out.size() / quant::dtype_bytes(as));
    return quant::decode_block(piece.bytes.span(), 0, count, as,
                               out.first(count * quant::dtype_bytes(as)));
  }

 private:
  std::string name_;
  quant::CodecSpec codec_;
};

}  // namespace

Result<std::unique_ptr<Method>> make_codec(std::string_view codec) {
  BALLAST_TRY(const auto spec, quant::parse_codec(codec));
  return std::make_unique<CodecMethod>(codec, spec);
}

}  // namespace ballast::micro
