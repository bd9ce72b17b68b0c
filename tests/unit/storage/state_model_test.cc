// Blocks, leases and reference counts against a naive model in memory.
#include <map>
#include <random>
#include <set>

#include "tests/unit/storage/state_testing.h"

namespace ballast::storage {
namespace {

// What should be stored, with references counted anew from all keys and versions each time.
struct Model {
  std::map<std::string, uint64_t> leases;                // digest -> end
  std::map<std::string, std::vector<std::string>> keys;  // key -> digests, with repetitions
  std::map<uint64_t, std::vector<std::string>> versions;
  uint64_t latest = 0;

  uint64_t references(const std::string& digest) const {
    uint64_t count = 0;
    for (const auto& [name, digests] : keys)
      count += static_cast<uint64_t>(std::ranges::count(digests, digest));
    for (const auto& [number, digests] : versions)
      count += static_cast<uint64_t>(std::ranges::count(digests, digest));
    return count;
  }
  bool all_stored(const std::vector<std::string>& digests) const {
    return std::ranges::all_of(digests, [&](const auto& d) { return leases.contains(d); });
  }
  // After a reference went: a block without any goes with it if its lease is over.
  void release(const std::vector<std::string>& digests, uint64_t now) {
    for (const std::string& digest : digests)
      if (leases.contains(digest) && references(digest) == 0 && leases[digest] <= now)
        leases.erase(digest);
  }
  uint64_t expire(uint64_t now) {
    return std::erase_if(leases, [&](const auto& lease) {
      return lease.second <= now && references(lease.first) == 0;
    });
  }
};

class BlocksAgainstModel : public testing::TestWithParam<uint64_t> {
 protected:
  std::vector<std::string> digests(const std::vector<pb::BlockRef>& references) {
    std::vector<std::string> raw;
    for (const auto& reference : references) raw.push_back(reference.digest());
    return raw;
  }
  void stage(const Bytes& bytes, uint64_t lease_ms) {
    uint64_t& lease = model_.leases[t.stage(bytes, lease_ms).digest()];
    lease = std::max(lease, t.now + lease_ms);
  }
  void put(const std::string& key, const std::vector<pb::BlockRef>& references) {
    const auto named = digests(references);
    const auto result = t.commit({put_key(key, tensor_of(references))});
    if (!model_.all_stored(named)) {
      EXPECT_EQ(static_cast<Errc>(result.code()), Errc::kMissingBlocks);
      std::set<std::string> missing;
      for (const auto& digest : named)
        if (!model_.leases.contains(digest)) missing.insert(digest);
      EXPECT_EQ(std::set<std::string>(result.missing().begin(), result.missing().end()), missing);
      return;
    }
    EXPECT_APPLIED(result);
    const auto before = std::exchange(model_.keys[key], named);
    model_.release(before, t.now);
  }
  void remove(const std::string& key) {
    const auto result = t.commit({delete_key(key)});
    EXPECT_EQ(result.code() == 0, model_.keys.contains(key));
    if (result.code() != 0) return;
    const auto before = model_.keys[key];
    model_.keys.erase(key);
    model_.release(before, t.now);
  }
  // A version whose part and manifest are staged first, one of its blocks in a list.
  void publish_version(const std::vector<pb::BlockRef>& references) {
    pb::BlockList list;
    for (const auto& reference : references) *list.add_blocks() = reference;
    stage(message_bytes(list), kHour);
    pb::ManifestPart part;
    *part.add_tensors() = tensor_of({references[0]}, "a");
    *part.add_tensors()->mutable_block_list() = reference_of(message_bytes(list));
    stage(message_bytes(part), kHour);
    pb::Manifest manifest;
    manifest.set_model("m");
    *manifest.add_parts() = reference_of(message_bytes(part));
    stage(message_bytes(manifest), kHour);
    auto named = digests(references);
    named.push_back(references[0].digest());
    for (const auto& bytes : {message_bytes(list), message_bytes(part), message_bytes(manifest)})
      named.push_back(reference_of(bytes).digest());
    const auto result = t.commit({publish("m", reference_of(message_bytes(manifest)))});
    EXPECT_EQ(result.code() == 0, model_.all_stored(named)) << result.message();
    if (result.code() == 0) model_.versions[++model_.latest] = named;
  }
  void remove_version(uint64_t number) {
    const auto result = t.commit({delete_version("m", number)});
    EXPECT_EQ(result.code() == 0, model_.versions.contains(number));
    if (result.code() != 0) return;
    const auto before = model_.versions[number];
    model_.versions.erase(number);
    model_.release(before, t.now);
  }
  void compare() {
    std::vector<Digest> all;
    for (uint64_t i = 0; i < kBlocks; ++i) all.push_back(digest_of(reference_of(bytes_of(i))));
    std::set<std::string> missing;
    for (const Digest& digest : *t.machine().missing(all)) missing.emplace(digest.text());
    for (const Digest& digest : all)
      ASSERT_EQ(!missing.contains(std::string(digest.text())),
                model_.leases.contains(std::string(digest.text())));
    ASSERT_EQ(t.machine().applied().blocks, model_.leases.size());
    bool expired = false;
    for (const auto& [digest, until] : model_.leases)
      expired = expired || (until <= t.now && model_.references(digest) == 0);
    ASSERT_EQ(t.machine().has_expired(t.now), expired);
  }

  static constexpr uint64_t kBlocks = 12;
  static Bytes bytes_of(uint64_t i) { return block_bytes(i, 50 + i * 3000); }

  TemporaryDirectory directory_;
  StateTester t{directory_.path()};
  Model model_;
};

TEST_P(BlocksAgainstModel, agree) {
  std::mt19937_64 random(GetParam());
  const auto pick = [&](uint64_t n) { return random() % n; };
  const auto some_blocks = [&] {
    std::vector<pb::BlockRef> references;
    for (uint64_t i = 0; i <= pick(4); ++i)
      references.push_back(reference_of(bytes_of(pick(kBlocks))));
    return references;
  };
  for (int step = 0; step < 500 && !HasFatalFailure(); ++step) {
    t.now += pick(10) == 0 ? pick(kHour) : pick(kMinute);
    const std::string key(1, static_cast<char>('a' + pick(6)));
    switch (pick(10)) {
      case 0:
      case 1:
      case 2: stage(bytes_of(pick(kBlocks)), pick(40 * kMinute)); break;
      case 3:
      case 4: put(key, some_blocks()); break;
      case 5: remove(key); break;
      case 6: publish_version(some_blocks()); break;
      case 7: remove_version(1 + pick(model_.latest + 1)); break;
      case 8: EXPECT_EQ(t.commit({expire(1000)}).operations(0).rows(), model_.expire(t.now)); break;
      default:
        if (pick(4) == 0) t.reopen();
    }
    compare();
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, BlocksAgainstModel, testing::Range<uint64_t>(1, 5));

}  // namespace
}  // namespace ballast::storage
