#include "proto/base/digest.h"

#include <openssl/evp.h>

#include "proto/base/check.h"

namespace ballast {

struct Sha256::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  BALLAST_CHECK(context_->evp != nullptr && EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr),
                "OpenSSL offers no SHA-256");
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> bytes) {
  BALLAST_CHECK(EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size()));
}

Digest Sha256::finish() {
  Digest digest;
  unsigned int size = 0;
  BALLAST_CHECK(EVP_DigestFinal_ex(context_->evp,
                                   reinterpret_cast<unsigned char*>(digest.bytes.data()), &size));
  BALLAST_CHECK(size == Digest::kSize);
  return digest;
}

Digest sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::string Digest::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * kSize);
  for (std::byte byte : bytes) {
    hex.push_back(kDigits[std::to_integer<unsigned>(byte >> 4)]);
    hex.push_back(kDigits[std::to_integer<unsigned>(byte & std::byte{15})]);
  }
  return hex;
}

Result<Digest> Digest::from_raw(std::string_view raw) {
  if (raw.size() != kSize)
    return fail(Errc::kCorrupt, "a digest has {} bytes, this has {}", kSize, raw.size());
  Digest digest;
  std::memcpy(digest.bytes.data(), raw.data(), kSize);
  return digest;
}

}  // namespace ballast
