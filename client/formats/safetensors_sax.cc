#include "client/formats/safetensors_sax.h"

#include "client/formats/shape.h"
#include "proto/base/limits.h"

namespace ballast::formats {

bool SafetensorsSax::refuse(std::string problem) {
  problem_ = std::move(problem);
  return false;
}

bool SafetensorsSax::refuse_tensor(std::string_view problem) {
  return refuse(fmt::format("tensor {}: {}", show_name(name_), problem));
}

bool SafetensorsSax::misplaced(std::string_view kind) {
  switch (place_) {
    case Place::kOutside: return refuse(fmt::format("its header is {}, not an object", kind));
    case Place::kHeader:
      if (name_ == kSafetensorsMetadataKey)
        return refuse(fmt::format("{} is {}, not an object", name_, kind));
      return refuse_tensor(fmt::format("it is {}, not an object", kind));
    case Place::kMetadata:
      return refuse(fmt::format("{}: the value of {} is {}; only strings are allowed", name_,
                                show_name(field_), kind));
    case Place::kTensor:
      return refuse_tensor(fmt::format("its {} is {}, not {}", field_, kind,
                                       field_ == "dtype" ? "a string" : "an array"));
    case Place::kShape:
    case Place::kOffsets:
      return refuse_tensor(
          fmt::format("its {} holds {}; only integers from 0 on are allowed", field_, kind));
  }
  return false;
}

bool SafetensorsSax::number_unsigned(number_unsigned_t value) {
  if (place_ == Place::kShape) {
    if (shape_->size() == limits::kTensorRankMax)
      return refuse_tensor(
          fmt::format("its shape has more than {} dimensions", limits::kTensorRankMax));
    shape_->push_back(value);
    return true;
  }
  if (place_ == Place::kOffsets) {
    if (offsets_->size() == 2) return refuse_tensor("its data_offsets are more than two numbers");
    offsets_->push_back(value);
    return true;
  }
  return misplaced("a number");
}

bool SafetensorsSax::string(string_t& value) {
  if (place_ == Place::kMetadata) {
    header_.metadata.emplace(field_, std::move(value));
    return true;
  }
  if (place_ != Place::kTensor || field_ != "dtype") return misplaced("a string");
  const auto dtype = quant::parse_dtype(value);
  // parse_dtype() takes any case, the format does not.
  if (!dtype || quant::dtype_name(*dtype) != value)
    return refuse_tensor(
        fmt::format("its dtype {} is unknown; convert it to F32, F16, BF16 or an integer type",
                    show_name(value)));
  dtype_ = *dtype;
  return true;
}

bool SafetensorsSax::start_object(size_t) {
  if (place_ == Place::kOutside) {
    place_ = Place::kHeader;
    return true;
  }
  if (place_ != Place::kHeader) return misplaced("an object");
  if (name_ == kSafetensorsMetadataKey) {
    place_ = Place::kMetadata;
    return true;
  }
  return start_tensor();
}

bool SafetensorsSax::start_tensor() {
  if (header_.tensors.size() == limits::kTensorsPerVersionMax)
    return refuse(fmt::format("it has more than {} tensors", limits::kTensorsPerVersionMax));
  place_ = Place::kTensor;
  dtype_.reset();
  shape_.reset();
  offsets_.reset();
  return true;
}

bool SafetensorsSax::key(string_t& name) {
  if (place_ == Place::kHeader) {
    name_ = std::move(name);
    if (name_ != kSafetensorsMetadataKey) return true;
    if (has_metadata_) return refuse(fmt::format("{} stands in the header twice", name_));
    has_metadata_ = true;
    return true;
  }
  field_ = std::move(name);
  if (place_ == Place::kMetadata) {
    if (header_.metadata.contains(field_))
      return refuse(fmt::format("{}: {} stands in it twice", name_, show_name(field_)));
    return true;
  }
  const bool known = field_ == "dtype" || field_ == "shape" || field_ == "data_offsets";
  // A field that we do not know may change what the known ones mean.
  if (!known) return refuse_tensor(fmt::format("it has an unknown field {}", show_name(field_)));
  const bool seen = field_ == "dtype"   ? dtype_.has_value()
                    : field_ == "shape" ? shape_.has_value()
                                        : offsets_.has_value();
  return seen ? refuse_tensor(fmt::format("it has two fields {}", show_name(field_))) : true;
}

bool SafetensorsSax::end_object() {
  if (place_ == Place::kTensor && !finish_tensor()) return false;
  place_ = place_ == Place::kHeader ? Place::kOutside : Place::kHeader;
  return true;
}

bool SafetensorsSax::start_array(size_t) {
  if (place_ != Place::kTensor || field_ == "dtype") return misplaced("an array");
  place_ = field_ == "shape" ? Place::kShape : Place::kOffsets;
  (place_ == Place::kShape ? shape_ : offsets_).emplace();
  return true;
}

bool SafetensorsSax::end_array() {
  place_ = Place::kTensor;
  return true;
}

bool SafetensorsSax::finish_tensor() {
  if (!dtype_ || !shape_ || !offsets_)
    return refuse_tensor(fmt::format("it has no {}", !dtype_   ? "dtype"
                                                     : !shape_ ? "shape"
                                                               : "data_offsets"));
  if (offsets_->size() != 2) return refuse_tensor("its data_offsets are not two numbers");
  const uint64_t begin = offsets_->front();
  const uint64_t end = offsets_->back();
  if (begin > end)
    return refuse_tensor(fmt::format("its data_offsets {} and {} descend", begin, end));
  if (end > data_bytes_)
    return refuse_tensor(
        fmt::format("its data ends at byte {}, but the file holds {}; it was cut short: copy it "
                    "again",
                    end, data_bytes_));
  const auto bytes = shape_bytes(*dtype_, *shape_);
  if (!bytes) return refuse_tensor(bytes.error().message);
  if (*bytes != end - begin)
    return refuse_tensor(fmt::format("it has {} bytes of data, but {} [{}] needs {}", end - begin,
                                     quant::dtype_name(*dtype_), fmt::join(*shape_, ","), *bytes));
  header_.tensors.push_back({.name = std::move(name_),
                             .dtype = *dtype_,
                             .shape = *std::move(shape_),
                             .offset = begin,
                             .bytes = *bytes});
  return true;
}

bool SafetensorsSax::parse_error(size_t position, const std::string&,
                                 const nlohmann::detail::exception& error) {
  const bool encoding = std::string_view(error.what()).find("UTF-8") != std::string_view::npos;
  return refuse(
      fmt::format("its header is not {} at byte {}", encoding ? "UTF-8" : "valid JSON", position));
}

}  // namespace ballast::formats
