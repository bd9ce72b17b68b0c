// Each kind of file of a data directory, damaged at random places: what is read afterwards is
// right, or an error says which file is damaged and what to do. Never other data, a crash, a hang,
// or less than was acknowledged without a word.
//
//   BALLAST_DAMAGE_PLACES=200   places for each kind of file and damage; 10 by default
//   BALLAST_SEED=N              the first of their seeds; each failure names its own
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>

#include "storage/log/record.h"
#include "tests/unit/storage/damage_store.h"
#include "tests/unit/storage/temporary_directory.h"

namespace ballast::storage {
namespace {

constexpr std::array kDamages{Damage::kFlip, Damage::kTruncate, Damage::kZero, Damage::kSwap};

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

using Ranges = std::function<std::vector<Range>(const Image&)>;

// One of what a store may read as, if it reads at all. Empty: the reading is that, but for things
// whose damage was noticed; else what is wrong.
std::string difference(const Reading& reading, const Reading& right) {
  for (const auto& [name, value] : reading.things) {
    const auto found = right.things.find(name);
    if (found == right.things.end()) return fmt::format("{} is there and should not be", name);
    if (found->second != value) return fmt::format("{} reads as something else", name);
  }
  for (const auto& [name, value] : right.things)
    if (!reading.things.contains(name) && !reading.errors.contains(name))
      return fmt::format("{} is missing, and nothing says so", name);
  return "";
}

bool holds_one_of(const std::string& text, const std::vector<std::string>& parts) {
  return std::ranges::any_of(parts, [&](const std::string& part) { return text.contains(part); });
}

// An error that somebody has to act upon.
std::string complaint(const std::string& error, const std::vector<std::string>& files) {
  if (!holds_one_of(error, files)) return fmt::format("it names no file: {}", error);
  if (!holds_one_of(error, {"join again as a new", "join as a new", "restore"}))
    return fmt::format("it does not say what to do: {}", error);
  return "";
}

class DamageLoop : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // Nothing here needs a real disk, whose flushes would take most of the time.
    if (std::getenv("TMPDIR") == nullptr && ::access("/dev/shm", W_OK) == 0)
      ::setenv("TMPDIR", "/dev/shm", 1);
    const TemporaryDirectory directory;
    sample = std::make_unique<SampleStore>(make_sample(directory / "data", 80, 16));
  }
  static void TearDownTestSuite() { sample.reset(); }

  // What the store must read as after the damage; null: what was acknowledged is lost.
  using Right = std::function<const Reading*(const Image& damaged, const Reading&)>;

  // Damages copies of `image`; each must read right, but for what is noticed. A refusal, and an
  // error of a read, must name one of the `files`.
  void loop(const Image& image, const SampleContent& content, const Ranges& ranges,
            const Right& right, const std::vector<std::string>& files) {
    for (const Damage damage : kDamages) {
      size_t whole = 0, noticed = 0, refused = 0, stopped = 0;
      for (uint64_t i = 0; i < places_; ++i) {
        std::mt19937_64 random(seed_ + i);
        Image damaged = image;
        const std::string deed = strike(damaged, ranges(image), damage, random);
        SCOPED_TRACE(fmt::format("BALLAST_SEED={}: {}", seed_ + i, deed));
        write_image(damaged, path());
        const Reading reading = read_(path(), content);
        // RocksDB as Debian builds it asserts what it finds in a table's properties before it
        // compares their checksum. That ends the process while it opens: before anything is served.
        if (reading.died == "it died of signal 6" && deed.find(".sst") != std::string::npos) {
          ++stopped;
          continue;
        }
        EXPECT_EQ(reading.died, "");
        if (!reading.refused.empty()) {
          ++refused;
          EXPECT_EQ(complaint(reading.refused, files), "");
          continue;
        }
        ++(reading.errors.empty() ? whole : noticed);
        const Reading* expected = right(damaged, reading);
        EXPECT_EQ(expected == nullptr ? "the end of the log is lost, and its records say so"
                                      : difference(reading, *expected),
                  "");
        expect_named(reading, files);
      }
      fmt::print(
          "{:>8}: of {} places {} read right, {} are noticed when read, {} refused, {} stop\n",
          damage_name(damage), places_, whole, noticed, refused, stopped);
      EXPECT_LE(stopped, places_ / 10);
      if (flips_are_healed_ && damage == Damage::kFlip) EXPECT_EQ(whole, places_);
    }
  }

  // What could not be read says of which file and why.
  static void expect_named(const Reading& reading, const std::vector<std::string>& files) {
    for (const auto& [name, error] : reading.errors) {
      EXPECT_TRUE(error.starts_with("corrupt: ")) << name << ": " << error;
      EXPECT_TRUE(name == "verify" || holds_one_of(error, files)) << name << ": " << error;
    }
  }

  Reading read(const Image& image, const SampleContent& content) {
    write_image(image, path());
    Reading reading = read_(path(), content);
    EXPECT_TRUE(reading.refused.empty() && reading.died.empty() && reading.errors.empty())
        << reading.refused << reading.died;
    return reading;
  }

  // The store of a node that was stopped.
  void loop_closed(const Ranges& ranges, const std::vector<std::string>& files) {
    const Reading all = read(sample->closed, sample->content);
    ASSERT_EQ(all.things.size(), sample->content.entries.size() + sample->content.keys.size() +
                                     sample->content.blocks.size() + 4);
    loop(
        sample->closed, sample->content, ranges, [&](const Image&, const Reading&) { return &all; },
        files);
  }

  // The store of a node that was killed. Where damage takes all from some record on, nothing is
  // left that says that this record was durable, and it looks like one that the kill cut off.
  void loop_killed(const Ranges& ranges, const std::vector<std::string>& files) {
    const size_t count = sample->content.entries.size();
    std::map<size_t, Reading> by_length{{count, read(sample->killed, sample->content)}};
    const auto right = [&](const Image& damaged, const Reading& reading) -> const Reading* {
      const size_t length = log_length(reading);
      if (length < count && log_tells_of(damaged, length + 1)) return nullptr;
      if (!by_length.contains(length))
        by_length[length] = read(shortened(sample->killed, length), sample->content);
      return &by_length[length];
    };
    loop(sample->killed, sample->content, ranges, right, files);
  }

  static size_t log_length(const Reading& reading) {
    const auto in_log = [](const auto& thing) { return thing.first.starts_with("log/"); };
    return static_cast<size_t>(std::ranges::count_if(reading.things, in_log) +
                               std::ranges::count_if(reading.errors, in_log));
  }
  // Without the records behind the first `length`.
  static Image shortened(Image image, size_t length) {
    const std::vector<Range> heads = log_ranges(image).heads;
    for (size_t i = length; i < heads.size(); ++i)
      image[heads[i].file].replace(heads[i].begin, kRecordFixedBytes, kRecordFixedBytes, '\0');
    return image;
  }

  // What `image` reads as, whole.
  void loop_image(const Image& image, const Ranges& ranges, const std::vector<std::string>& files) {
    const Reading all = read(image, sample->content);
    loop(image, sample->content, ranges, [&](const Image&, const Reading&) { return &all; }, files);
  }

  std::string path() const { return directory_ / "data"; }

  Reading (*read_)(const std::string&, const SampleContent&) = read_store;
  // What is flipped has a second place: nothing is refused.
  bool flips_are_healed_ = false;

  const uint64_t places_ = number_from("BALLAST_DAMAGE_PLACES", 10);
  const uint64_t seed_ = number_from("BALLAST_SEED", 1);
  static inline std::unique_ptr<SampleStore> sample;

 private:
  const TemporaryDirectory directory_;
};

TEST_F(DamageLoop, segment_headers) {
  flips_are_healed_ = true;
  loop_closed([](const Image& i) { return log_ranges(i).segment_headers; }, {".log'"});
}
TEST_F(DamageLoop, segment_headers_after_a_kill) {
  flips_are_healed_ = true;
  loop_killed([](const Image& i) { return log_ranges(i).segment_headers; }, {".log'"});
}
TEST_F(DamageLoop, record_heads) {
  flips_are_healed_ = true;
  loop_closed([](const Image& i) { return log_ranges(i).heads; }, {".log'"});
}
TEST_F(DamageLoop, record_heads_after_a_kill) {
  flips_are_healed_ = true;
  loop_killed([](const Image& i) { return log_ranges(i).heads; }, {".log'"});
}
TEST_F(DamageLoop, payloads) {
  loop_closed([](const Image& i) { return log_ranges(i).payloads; }, {".log'"});
}
TEST_F(DamageLoop, payloads_after_a_kill) {
  loop_killed([](const Image& i) { return log_ranges(i).payloads; }, {".log'"});
}
TEST_F(DamageLoop, the_segment_that_is_not_in_use) {
  loop_closed([](const Image& i) { return log_ranges(i).prepared; }, {".log'"});
}
TEST_F(DamageLoop, term_and_vote) {
  loop_killed([](const Image& i) { return files_like(i, "log/hard_state"); }, {"hard_state'"});
}
TEST_F(DamageLoop, identity) {
  loop_closed([](const Image& i) { return files_like(i, "identity"); }, {"identity'"});
}
TEST_F(DamageLoop, tables) {
  loop_killed([](const Image& i) { return files_like(i, "state/", ".sst"); }, {".sst", "/state'"});
}
TEST_F(DamageLoop, the_list_of_tables) {
  loop_killed([](const Image& i) { return files_like(i, "state/MANIFEST"); }, {"/state'"});
}
TEST_F(DamageLoop, the_name_of_the_list_of_tables) {
  loop_killed([](const Image& i) { return files_like(i, "state/CURRENT"); }, {"/state'"});
}
// So long that it fills several of the blocks in which RocksDB writes it.
TEST_F(DamageLoop, a_long_list_of_tables) {
  const TemporaryDirectory directory;
  const SampleStore store = make_sample(directory / "data", 480, 1);
  const auto lists = [](const Image& i) { return files_like(i, "state/MANIFEST"); };
  ASSERT_GT(store.killed.at(lists(store.killed).front().file).size(), 64u << 10);
  const Reading right = read(store.killed, store.content);
  loop(store.killed, store.content, lists, [&](const Image&, const Reading&) { return &right; },
       {"/state'"});
}
// Each file in turn is gone.
TEST_F(DamageLoop, files_that_are_gone) {
  const Reading right = read(sample->closed, sample->content);
  size_t whole = 0;
  for (const auto& [name, bytes] : sample->closed) {
    SCOPED_TRACE(name + " is gone");
    Image damaged = sample->closed;
    damaged.erase(name);
    write_image(damaged, path());
    const Reading reading = read_store(path(), sample->content);
    EXPECT_EQ(reading.died, "");
    if (!reading.refused.empty()) {
      EXPECT_EQ(complaint(reading.refused, {name.substr(name.find('/') + 1), "/state'"}), "");
      continue;
    }
    ++whole;
    EXPECT_EQ(difference(reading, right), "");
    EXPECT_TRUE(reading.errors.empty());
  }
  fmt::print("of {} files {} are not needed\n", sample->closed.size(), whole);
}
TEST_F(DamageLoop, blob_files) {
  loop_image(sample->moved, [](const Image& i) { return files_like(i, "state/", ".blob"); },
             {"/state'", ".blob"});
}
// Of a snapshot that has come halfway, and is brought to its end afterwards.
TEST_F(DamageLoop, tables_of_a_snapshot) {
  read_ = read_fetched;
  loop_image(sample->fetching,
             [](const Image& i) { return files_like(i, "state.incoming/", ".sst"); },
             {"state.incoming"});
}
TEST_F(DamageLoop, segments_of_a_snapshot) {
  read_ = read_fetched;
  loop_image(sample->fetching,
             [](const Image& i) { return files_like(i, "log.incoming/", ".log"); }, {"/log"});
}
TEST_F(DamageLoop, the_list_of_tables_of_a_snapshot) {
  read_ = read_fetched;
  loop_image(sample->fetching,
             [](const Image& i) { return files_like(i, "state.incoming/MANIFEST"); },
             {"state.incoming"});
}
TEST_F(DamageLoop, options_that_nobody_reads) {
  loop_killed([](const Image& i) { return files_like(i, "state/OPTIONS"); }, {"/state'"});
}

}  // namespace
}  // namespace ballast::storage
