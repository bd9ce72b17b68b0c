// The inside of parse_safetensors_header(): takes the JSON of a header event by event.
//
// A SAX handler, not a document: nlohmann's document keeps the last of two equal names silently,
// takes many times the text's memory, and is destroyed recursively. Here a header is never more
// than three levels deep; the first token that does not fit ends the parse.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/formats/safetensors.h"

namespace ballast::formats {

inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";

class SafetensorsSax final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit SafetensorsSax(uint64_t data_bytes) : data_bytes_(data_bytes) {}

  // REQUIRES: the parse succeeded. Each tensor is sound by itself; the header as a whole is not
  // checked yet.
  SafetensorsHeader take() { return std::move(header_); }
  // Why the parse failed, without the file's name.
  const std::string& problem() const { return problem_; }

  bool null() override { return misplaced("null"); }
  bool boolean(bool) override { return misplaced("a boolean"); }
  bool number_integer(number_integer_t) override { return misplaced("a negative number"); }
  bool number_unsigned(number_unsigned_t value) override;
  bool number_float(number_float_t, const string_t&) override {
    return misplaced("a number that is no integer or too large");
  }
  bool string(string_t& value) override;
  bool binary(binary_t&) override { return misplaced("binary data"); }
  bool start_object(size_t) override;
  bool key(string_t& name) override;
  bool end_object() override;
  bool start_array(size_t) override;
  bool end_array() override;
  bool parse_error(size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) override;

 private:
  enum class Place { kOutside, kHeader, kMetadata, kTensor, kShape, kOffsets };

  bool refuse(std::string problem);
  bool refuse_tensor(std::string_view problem);
  // Refuses a value of this kind at the present place.
  bool misplaced(std::string_view kind);
  bool start_tensor();
  bool finish_tensor();

  uint64_t data_bytes_;
  Place place_ = Place::kOutside;
  std::string name_;   // of the present tensor, or __metadata__
  std::string field_;  // the last key within it
  bool has_metadata_ = false;
  // The present tensor's fields, as far as they have been seen.
  std::optional<quant::DType> dtype_;
  std::optional<std::vector<uint64_t>> shape_;
  std::optional<std::vector<uint64_t>> offsets_;
  SafetensorsHeader header_;
  std::string problem_;
};

}  // namespace ballast::formats
