#include "proto/base/names.h"

#include <gtest/gtest.h>

#include "proto/base/limits.h"

namespace ballast {
namespace {

TEST(Names, references) {
  struct Case {
    const char* text;
    const char* name;
    bool selector;
    uint64_t version;
    const char* alias;
    const char* tensor;
  };
  const Case cases[] = {
      {"llama", "llama", false, 0, "", ""},
      {"meta/llama", "meta/llama", false, 0, "", ""},
      {"llama@3", "llama", true, 3, "", ""},
      {"llama@prod", "llama", true, 0, "prod", ""},
      {"llama@prod/layer.0/weight", "llama", true, 0, "prod", "layer.0/weight"},
      {"llama@12/w", "llama", true, 12, "", "w"},
      {"größe@v1.2", "größe", true, 0, "v1.2", ""},
  };
  for (const Case& expected : cases) {
    const auto reference = parse_reference(expected.text);
    ASSERT_TRUE(reference) << expected.text << ": " << reference.error().message;
    EXPECT_EQ(reference->name, expected.name);
    EXPECT_EQ(reference->has_selector, expected.selector);
    EXPECT_EQ(reference->version, expected.version);
    EXPECT_EQ(reference->alias, expected.alias);
    EXPECT_EQ(reference->tensor, expected.tensor);
    EXPECT_EQ(reference->to_string(), expected.text);
  }
}

TEST(Names, wrong_references_are_refused) {
  for (const char* text : {"", "@prod", "llama@", "llama@0", "llama@prod/", "llama@a b",
                           "llama@99999999999999999999", "a\nb", "llama@x@y"})
    EXPECT_FALSE(parse_reference(text)) << text;
}

TEST(Names, keys) {
  EXPECT_TRUE(check_key("weights/layer0"));
  EXPECT_TRUE(check_key(std::string(limits::kKeyBytesMax, 'k')));
  EXPECT_TRUE(check_key("\xF0\x9F\x98\x80"));
  EXPECT_FALSE(check_key(std::string(limits::kKeyBytesMax + 1, 'k')));
  EXPECT_FALSE(check_key(""));
  EXPECT_FALSE(check_key("a@b"));
  EXPECT_FALSE(check_key(std::string_view("a\0b", 3)));
  for (const char* text : {"\x80", "\xC0\xAF", "\xE2\x82", "\xED\xA0\x80", "\xF5\x80\x80\x80"})
    EXPECT_FALSE(check_key(text)) << "not UTF-8";
}

TEST(Names, aliases) {
  for (const char* alias : {"prod", "v1.2", "2024-01", "a_b"}) EXPECT_TRUE(check_alias(alias));
  for (const char* alias : {"", "17", "a/b", "a@b", "a b", "ä"}) EXPECT_FALSE(check_alias(alias));
}

}  // namespace
}  // namespace ballast
