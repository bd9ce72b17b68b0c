#include <gtest/gtest.h>

#include <unordered_set>

#include "proto/base/digest.h"
#include "proto/base/entry.h"
#include "proto/base/limits.h"
#include "proto/base/result.h"
#include "proto/base/uuid.h"

namespace ballast {
namespace {

TEST(Digest, known_answers) {
  // FIPS 180-4 examples.
  EXPECT_EQ(sha256(as_byte_span("abc")).hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256({}).hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 parts;
  parts.update(as_byte_span("a"));
  parts.update(as_byte_span("bc"));
  EXPECT_EQ(parts.finish(), sha256(as_byte_span("abc")));
}

TEST(Digest, raw_must_have_32_bytes) {
  EXPECT_TRUE(Digest::from_raw(std::string(32, 'x')));
  EXPECT_FALSE(Digest::from_raw(std::string(31, 'x')));
}

TEST(Uuid, text_and_back) {
  const Uuid uuid = Uuid::random();
  EXPECT_EQ(uuid.to_string().size(), 36u);
  EXPECT_EQ(*Uuid::parse(uuid.to_string()), uuid);
  EXPECT_EQ(*Uuid::from_raw(uuid.raw()), uuid);
  EXPECT_NE(Uuid::random(), uuid);
  for (const char* text :
       {"", "9b2f", "9b2f0000-0000-4000-8000-00000000000g", "9b2f00000-000-4000-8000-000000000000"})
    EXPECT_FALSE(Uuid::parse(text)) << text;
}

TEST(StrongInt, kinds_do_not_mix) {
  static_assert(!std::is_convertible_v<uint64_t, Term>);
  static_assert(!std::is_convertible_v<Term, Index>);
  EXPECT_LT(Index(1), Index(2));
  EXPECT_EQ(Index(5) - Index(3), 2u);
  EXPECT_EQ(Index(5) + 1, Index(6));
  EXPECT_EQ(fmt::format("{}", Term(7)), "7");
}

TEST(Result, try_forwards_the_error) {
  const auto inner = [](bool good) -> Result<int> {
    if (!good) return fail(Errc::kNotFound, "key '{}' does not exist", "a");
    return 1;
  };
  const auto outer = [&](bool good) -> Result<std::string> {
    BALLAST_TRY(const int value, inner(good));
    return std::to_string(value);
  };
  EXPECT_EQ(*outer(true), "1");
  EXPECT_EQ(outer(false).error().to_string(), "not_found: key 'a' does not exist");
}

TEST(Result, only_what_certainly_did_not_happen_is_retryable) {
  EXPECT_TRUE(retryable(Errc::kNotLeader));
  EXPECT_TRUE(retryable(Errc::kOverloaded));
  EXPECT_FALSE(retryable(Errc::kUnknownOutcome));
  EXPECT_FALSE(retryable(Errc::kConflict));
}

TEST(Result, a_message_is_shortened_between_characters) {
  const std::string fits(limits::kErrorMessageBytesMax, 'a');
  EXPECT_EQ(shortened(fits), fits);
  EXPECT_EQ(shortened(fits + "b"), fits + " ...");
  // A character of three bytes that begins one, two or three bytes before the end.
  for (const size_t room : {1u, 2u, 3u}) {
    const std::string before(limits::kErrorMessageBytesMax - room, 'a');
    const std::string cut = shortened(before + "\u20ac" + std::string(100, 'b'));
    EXPECT_EQ(cut, before + (room == 3 ? "\u20ac" : "") + " ...") << room;
  }
  // What is no UTF-8 at all is cut somewhere.
  EXPECT_EQ(shortened(std::string(5000, '\x80')), " ...");
}

TEST(Entry, meta_says_where_and_how_big) {
  const Entry entry(Term(2), Index(9), EntryKind::kBlock, Bytes::copy_of("head"),
                    Bytes::copy_of("payload"));
  EXPECT_EQ(entry.meta().bytes(), 11u);
  EXPECT_EQ(entry.payload_crc, crc32c(Bytes::copy_of("payload").span()));
  EXPECT_EQ(entry.meta().checksum, crc32c(Bytes::copy_of("payloadhead").span()));
  EXPECT_TRUE(entry_kind_valid(3));
  EXPECT_FALSE(entry_kind_valid(0));
  EXPECT_FALSE(entry_kind_valid(5));
}

}  // namespace
}  // namespace ballast
