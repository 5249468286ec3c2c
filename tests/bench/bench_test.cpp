#include "xlstm/bench/bench.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/expect_error.h"

namespace xlstm {
namespace {

using test::expect_error;

TEST(Shape, KnowsThePublishedModels) {
  const SyntheticShape big = parse_shape("7b");
  EXPECT_EQ(big.num_blocks, 32);
  EXPECT_EQ(big.dims.head_dim_qk, 256);
  EXPECT_EQ(big.dims.head_dim_v, 512);
  EXPECT_EQ(big.dims.ffn_dim, 10944);
  const SyntheticShape small = parse_shape("406m");
  EXPECT_EQ(small.dims.ffn_dim, 2752);
  EXPECT_EQ(small.dims.vocab_size, 50304);
}

TEST(Shape, ReadsKeysInAnyOrderWithDefaults) {
  const SyntheticShape shape = parse_shape("heads=2,E=64,vocab=100");
  EXPECT_EQ(shape.dims.embedding_dim, 64);
  EXPECT_EQ(shape.dims.num_heads, 2);
  EXPECT_EQ(shape.dims.vocab_size, 100);
  EXPECT_EQ(shape.num_blocks, 24);
}

TEST(Shape, RefusesWhatIsNoShape) {
  for (const char* text : {"", "13b", "E=64,", "E=64,depth=3", "blocks=2", "E", "E=", "E=0", "E=-4", "E=64x",
                           "E=99999999999999999999", "E=65,heads=4"}) {
    SCOPED_TRACE(text);
    expect_error([&] { (void)parse_shape(text); }, ExitCode::kUsage, {"--shape"});
  }
}

TEST(Bench, ReportsARowPerTestLengthAndBatch) {
  BenchRequest request;
  request.opts.device = "cpu";
  request.opts.dtype = "float32";
  request.opts.chunk_size = 16;
  request.shape = "E=32,blocks=1,heads=2,vocab=50";
  request.n_prompt = {0, 20, 40};
  request.n_gen = {4};
  request.batch = {1, 3};
  request.repeats = 3;
  int seen = 0;
  const BenchResult result = run_bench(request, [&](const BenchRow&) { ++seen; });
  const std::vector<BenchRow>& rows = result.rows;
  ASSERT_EQ(rows.size(), 6U) << "length 0 means none";
  EXPECT_EQ(seen, 6);
  for (const BenchRow& row : rows) {
    EXPECT_GT(row.tok_s, 0);
    EXPECT_LE(row.tok_s_min, row.tok_s);
    EXPECT_GE(row.tok_s_max, row.tok_s);
    EXPECT_EQ(row.weight_gb_s > 0, row.test == "decode");
  }
  const nlohmann::ordered_json report = bench_report(result);
  for (const char* key : {"build", "machine", "rows"}) EXPECT_TRUE(report.contains(key)) << key;
  const auto& row = report["rows"][0];
  for (const char* key :
       {"test",      "model",       "device",     "dtype",          "kernel",     "n_prompt", "n_gen",
        "batch",     "threads",     "workers",    "heads_per_band", "chunk_size", "tok_s",    "tok_s_min",
        "tok_s_max", "weight_gb_s", "state_gb_s", "limit_share",    "peak_mb",    "repeats"}) {
    EXPECT_TRUE(row.contains(key)) << key;
  }
}

}  // namespace
}  // namespace xlstm
