// What is measured: Ballast's codecs and their peers behind one interface, so that both are
// treated alike.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/base/bytes.h"
#include "proto/base/result.h"
#include "quant/dtype.h"
#include "quant/error_report.h"

namespace ballast::micro {

// Consecutive values of a tensor, encoded: can be decoded without the others.
struct Piece {
  Bytes bytes;
  uint64_t values = 0;
};

struct Encoded {
  std::vector<Piece> pieces;
  std::optional<quant::ErrorSums> reported;  // what the encoder itself says that it lost
};

class Method {
 public:
  virtual ~Method() = default;

  virtual std::string_view name() const = 0;
  virtual bool is_peer() const = 0;
  virtual bool decodes_to(quant::DType dtype) const = 0;
  // A whole tensor, from nothing: learning what is to be learned is part of it.
  virtual Result<Encoded> encode(std::span<const std::byte> values, quant::DType source) const = 0;
  // The first values of a piece: as many as fit into `out`.
  virtual Status decode(const Piece& piece, quant::DType as, std::span<std::byte> out) const = 0;
};

using Methods = std::vector<std::unique_ptr<Method>>;

// Ballast's codec of this name. Errors: those of quant::parse_codec().
Result<std::unique_ptr<Method>> make_codec(std::string_view codec);

// Q4_0, IQ4_NL, Q4_K and Q8_0 of the libggml that lies in a directory. The library stays loaded.
// Errors: kNotFound without a library; kInvalidArgument if it is not the interface that we know.
Result<Methods> load_ggml(const std::string& directory);

// The bytes of all values one place after the other, each place compressed with zstd: what people
// do with floats before they write anything better.
std::unique_ptr<Method> make_split_zstd(int level);

}  // namespace ballast::micro
