// ggml's quantizations, called in the library that others ship. Nothing of its headers is needed:
// the functions below have kept their signatures, and what we believe of the types is checked
// against what the library says of them.
#include <dlfcn.h>

#include <cstring>
#include <filesystem>

#include "bench/micro/data_sets.h"
#include "bench/micro/method.h"

namespace ballast::micro {
namespace {

using TypeNameFn = const char* (*)(int type);
using BlockValuesFn = int64_t (*)(int type);
using TypeBytesFn = size_t (*)(int type);
using QuantizeFn = size_t (*)(int type, const float* from, void* to, int64_t start, int64_t rows,
                              int64_t row_values, const float* importance);
using DequantizeFn = void (*)(const void* from, float* to, int64_t count);

// Numbers of `enum ggml_type`, which lie in files and so never change.
struct KnownType {
  int number;
  const char* name;        // as ggml says it
  const char* shown;       // as people say it
  const char* dequantize;  // the function that the library's to_float points to
  int64_t block_values;
  size_t block_bytes;
};
constexpr KnownType kKnownTypes[] = {
    {2, "q4_0", "Q4_0", "dequantize_row_q4_0", 32, 18},
    {20, "iq4_nl", "IQ4_NL", "dequantize_row_iq4_nl", 32, 18},
    {12, "q4_K", "Q4_K", "dequantize_row_q4_K", 256, 144},
    {8, "q8_0", "Q8_0", "dequantize_row_q8_0", 32, 34},
};

class GgmlMethod : public Method {
 public:
  GgmlMethod(const KnownType& type, QuantizeFn quantize, DequantizeFn dequantize)
      : type_(type), quantize_(quantize), dequantize_(dequantize) {}

  std::string_view name() const override { return type_.shown; }
  bool is_peer() const override { return true; }
  bool decodes_to(quant::DType dtype) const override { return dtype == quant::DType::kF32; }

  Result<Encoded> encode(std::span<const std::byte> values, quant::DType source) const override {
    const size_t count = values.size() / sizeof(float);
    if (source != quant::DType::kF32 || count % kRowValues != 0) {
      return fail(Errc::kInvalidArgument, "{} takes rows of {} values of F32", type_.shown,
                  kRowValues);
    }
    MutableBytes bytes(count / type_.block_values * type_.block_bytes);
    const size_t written =
        quantize_(type_.number, reinterpret_cast<const float*>(values.data()), bytes.data(), 0,
                  static_cast<int64_t>(count / kRowValues), kRowValues, nullptr);
    if (written != bytes.size()) {
      return fail(Errc::kInternal, "ggml wrote {} bytes of {}, not {}", written, type_.shown,
                  bytes.size());
    }
    Encoded encoded;
    encoded.pieces.push_back({Bytes(std::move(bytes)), count});
    return encoded;
  }

  Status decode(const Piece& piece, quant::DType as, std::span<std::byte> out) const override {
    const uint64_t count = std::min<uint64_t>(piece.values, out.size() / sizeof(float));
    if (as != quant::DType::kF32 || count % kRowValues != 0) {
      return fail(Errc::kInvalidArgument, "{} gives rows of {} values of F32", type_.shown,
                  kRowValues);
    }
    dequantize_(piece.bytes.data(), reinterpret_cast<float*>(out.data()),
                static_cast<int64_t>(count));
    return {};
  }

 private:
  const KnownType& type_;
  QuantizeFn quantize_;
  DequantizeFn dequantize_;
};

// Newer releases keep the quantizations in libggml-base, older ones all in libggml.
Result<void*> open_library(const std::string& directory) {
  std::string said = "there is neither libggml-base.so nor libggml.so";
  for (const char* name : {"libggml-base.so", "libggml.so"}) {
    const auto path = std::filesystem::path(directory) / name;
    if (!std::filesystem::exists(path)) continue;
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {
      if (dlsym(library, "ggml_quantize_chunk") != nullptr) return library;
      said = path.string() + " has no ggml_quantize_chunk";
    } else {
      said = dlerror();
    }
  }
  return fail(Errc::kNotFound, "no ggml in '{}': {}", directory, said);
}

template <class Function>
Result<Function> symbol(void* library, const char* name) {
  void* address = dlsym(library, name);
  if (address == nullptr) return fail(Errc::kInvalidArgument, "this ggml has no {}()", name);
  return reinterpret_cast<Function>(address);
}

}  // namespace

Result<Methods> load_ggml(const std::string& directory) {
  BALLAST_TRY(void* library, open_library(directory));
  BALLAST_TRY(const auto type_name, symbol<TypeNameFn>(library, "ggml_type_name"));
  BALLAST_TRY(const auto block_values, symbol<BlockValuesFn>(library, "ggml_blck_size"));
  BALLAST_TRY(const auto type_bytes, symbol<TypeBytesFn>(library, "ggml_type_size"));
  BALLAST_TRY(const auto quantize, symbol<QuantizeFn>(library, "ggml_quantize_chunk"));
  Methods methods;
  for (const KnownType& type : kKnownTypes) {
    const char* name = type_name(type.number);
    if (name == nullptr || std::strcmp(name, type.name) != 0 ||
        block_values(type.number) != type.block_values ||
        type_bytes(type.number) != type.block_bytes) {
      return fail(Errc::kInvalidArgument,
                  "this ggml's type {} is '{}' with {} values in {} bytes, not {} with {} in {}",
                  type.number, name == nullptr ? "" : name, block_values(type.number),
                  type_bytes(type.number), type.name, type.block_values, type.block_bytes);
    }
    BALLAST_TRY(const auto dequantize, symbol<DequantizeFn>(library, type.dequantize));
    methods.push_back(std::make_unique<GgmlMethod>(type, quantize, dequantize));
  }
  return methods;
}

}  // namespace ballast::micro
