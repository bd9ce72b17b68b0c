// Publishing a version: all its tensors, then its manifest, then one commit.
#pragma once

#include "client/internal/engine.h"

namespace ballast::client {

Result<PublishResult> publish(Engine& engine, const std::string& model,
                              const std::vector<TensorSource>& tensors,
                              const PublishOptions& options);

}  // namespace ballast::client
