// Parity with reference outputs of Hugging Face transformers, in float32: the bundled trained model and tiny random
// checkpoints with one configuration feature each, on the native and on the compiled kernels.

#include "xlstm/selftest/golden.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/engines.h"

namespace xlstm {
namespace {

// The limits that tests/data/goldens/README.md gives and explains.
constexpr double kLogits = 1e-5;
constexpr double kRow = 3e-5;
constexpr double kState = 1e-4;

struct GoldenSet {
  const char* name;  // folder below goldens/, or "tales"
  bool native;       // all operations and kernels in plain libtorch
  int64_t chunk_size;
};

void PrintTo(const GoldenSet& set, std::ostream* out) {
  *out << set.name << (set.native ? " native" : " cpu") << " chunk " << set.chunk_size;
}

class Goldens : public testing::TestWithParam<GoldenSet> {};

TEST_P(Goldens, LogitsStatesAndGreedyIdsAgree) {
  const GoldenSet& set = GetParam();
  RuntimeOpts opts = set.native ? test::native_opts() : test::quiet_opts();
  opts.chunk_size = set.chunk_size;
  const bool tales = std::string(set.name) == "tales";
  const std::filesystem::path folder = test::goldens() / (tales ? "tales" : std::string("zoo/") + set.name);
  Engine engine = test::load_engine(tales ? test::bundled_model() : folder, opts);
  const std::vector<GoldenCase> cases = load_goldens(folder / "golden.safetensors");
  ASSERT_EQ(cases.size(), tales ? 6U : 8U);
  size_t with_state = 0;
  for (const GoldenCase& golden : cases) {
    SCOPED_TRACE(golden.name);
    ASSERT_FALSE(golden.greedy_ids.empty());
    for (const float margin : golden.greedy_margin) ASSERT_GT(margin, 1e-3F) << "greedy ids are decisive";
    const GoldenResult result = compare_with_golden(engine, golden);
    EXPECT_LE(result.logits_relative, kLogits);
    EXPECT_LE(result.worst_row_relative, kRow);
    EXPECT_LE(result.state_relative, kState);
    EXPECT_EQ(result.greedy_equal, static_cast<int64_t>(golden.greedy_ids.size()));
    with_state += golden.states.empty() ? 0 : 1;
  }
  EXPECT_EQ(with_state, 2U);
}

std::vector<GoldenSet> all_sets() {
  std::vector<GoldenSet> sets;
  for (const char* name :
       {"tales", "single_f32", "fused_f32", "bias_f32", "heads3_bf16", "tied_qk1_f32", "caps_f16", "sharded_f32"}) {
    for (const bool native : {false, true}) sets.push_back({name, native, 64});
  }
  sets.push_back({"tales", false, 16});
  sets.push_back({"bias_f32", false, 16});
  sets.push_back({"bias_f32", true, 16});
  sets.push_back({"caps_f16", false, 100});
  return sets;
}

INSTANTIATE_TEST_SUITE_P(All, Goldens, testing::ValuesIn(all_sets()));

TEST(RelativeError, IsInfiniteForNanAndZeroForEqualArrays) {
  const std::vector<float> a = {1, 2, 3};
  std::vector<float> b = a;
  EXPECT_EQ(relative_error(a, b), 0);
  b[1] = std::nanf("");
  EXPECT_TRUE(std::isinf(relative_error(b, a)));
}

}  // namespace
}  // namespace xlstm
