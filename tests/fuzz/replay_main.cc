// Runs a fuzz target over the files of a folder, and over what a seeded generator makes of them by
// cutting and flipping: so the target is a test wherever libFuzzer is not.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Input = std::vector<uint8_t>;

constexpr int kMutationsPerFile = 2000;
constexpr int kRandomInputs = 2000;

Input load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Input mutate(Input input, std::minstd_rand& random) {
  const auto below = [&](size_t limit) { return limit == 0 ? 0 : random() % limit; };
  if (below(4) == 0) input.resize(below(input.size() + 1));
  for (size_t flips = below(8); flips > 0 && !input.empty(); --flips)
    input[below(input.size())] ^= static_cast<uint8_t>(1u << below(8));
  if (below(8) == 0) input.insert(input.end(), below(64), static_cast<uint8_t>(random()));
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  std::minstd_rand random{20261123};
  size_t runs = 0;
  const auto run = [&](const Input& input) {
    LLVMFuzzerTestOneInput(input.data(), input.size());
    ++runs;
  };
  if (argc > 1 && std::filesystem::is_directory(argv[1])) {
    for (const auto& file : std::filesystem::directory_iterator(argv[1])) {
      if (!file.is_regular_file()) continue;
      const Input input = load(file.path());
      run(input);
      for (int i = 0; i < kMutationsPerFile; ++i) run(mutate(input, random));
    }
  }
  for (int i = 0; i < kRandomInputs; ++i) run(mutate(Input(random() % 256), random));
  std::printf("%zu inputs\n", runs);
  return 0;
}
