// Which earlier row a row is compared with, and which files are refused.
#include "xlstm/bench/baseline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"
#include "xlstm/bench/bench.h"

namespace xlstm {
namespace {

using nlohmann::json;
using test::expect_error;
using test::TempDir;
using testing::Optional;

BenchRow decode_row() {
  BenchRow row;
  row.test = "decode";
  row.model = "406m";
  row.device = "cpu";
  row.dtype = "bfloat16";
  row.state_dtype = "float32";
  row.kernel = "cpu";
  row.n_gen = 32;
  row.batch = 1;
  row.threads = 2;
  row.tok_s = 40;
  return row;
}

json earlier(double tok_s, const json& changes = json::object()) {
  json row = json::parse(to_json(decode_row()).dump());
  row["tok_s"] = tok_s;
  row.update(changes);
  return row;
}

class Compare : public testing::Test {
 protected:
  Baseline read(const std::string& text) {
    const auto path = dir_ / "earlier.json";
    std::ofstream(path) << text;
    return Baseline::read(path);
  }
  Baseline rows(const std::vector<json>& rows) { return read(json{{"rows", rows}}.dump(1)); }

  TempDir dir_;
};

TEST_F(Compare, FindsTheRowOfTheSameWork) {
  const Baseline baseline = rows({earlier(1, {{"batch", 8}}), earlier(2, {{"dtype", "float32"}}),
                                  earlier(3, {{"n_gen", 64}}), earlier(4, {{"test", "prefill"}}),
                                  earlier(5, {{"model", "7b"}}), earlier(6, {{"n_prompt", 9}}), earlier(7)});
  EXPECT_THAT(baseline.tok_s_of(decode_row()), Optional(7.0));
}

TEST_F(Compare, HasNoAnswerForWorkThatWasNotMeasured) {
  EXPECT_EQ(rows({earlier(1, {{"batch", 8}})}).tok_s_of(decode_row()), std::nullopt);
}

TEST_F(Compare, TakesAPeersRowWhateverItsKernelAndThreads) {
  const Baseline peer = rows({earlier(9, {{"kernel", "transformers eager"}, {"threads", 64}, {"workers", nullptr}})});
  EXPECT_THAT(peer.tok_s_of(decode_row()), Optional(9.0));
  const Baseline bare = read(R"({"test": "decode", "model": "406m", "dtype": "bfloat16", "n_prompt": 0, "n_gen": 32,
    "batch": 1, "tok_s": 10, "anything": [1]})");
  EXPECT_THAT(bare.tok_s_of(decode_row()), Optional(10.0));
}

TEST_F(Compare, PrefersTheRowWithMoreInCommon) {
  const json other_kernel = {{"kernel", "native"}};
  const json other_threads = {{"threads", 1}};
  const json other_state = {{"state_dtype", "bfloat16"}};
  EXPECT_THAT(rows({earlier(1, other_kernel), earlier(2)}).tok_s_of(decode_row()), Optional(2.0));
  EXPECT_THAT(rows({earlier(1, other_kernel), earlier(2, other_threads)}).tok_s_of(decode_row()), Optional(2.0));
  EXPECT_THAT(rows({earlier(1, other_threads), earlier(2, other_state)}).tok_s_of(decode_row()), Optional(2.0));
  EXPECT_THAT(rows({earlier(1, {{"device", "cuda:0"}}), earlier(2, other_kernel)}).tok_s_of(decode_row()),
              Optional(2.0));
  EXPECT_THAT(rows({earlier(1), earlier(2)}).tok_s_of(decode_row()), Optional(1.0)) << "of equals the first";
}

TEST_F(Compare, ReadsAReportARowPerLineAndAReportOnOneLine) {
  const std::string one = earlier(3).dump();
  const std::string two = earlier(4, {{"batch", 2}}).dump();
  EXPECT_THAT(read(one + "\n\n" + two + "\n").tok_s_of(decode_row()), Optional(3.0));
  EXPECT_THAT(read("\n" + one).tok_s_of(decode_row()), Optional(3.0));
  EXPECT_THAT(read(json{{"rows", {earlier(5)}}}.dump()).tok_s_of(decode_row()), Optional(5.0));
  EXPECT_THAT(read(bench_report({{decode_row()}, {}}).dump(2)).tok_s_of(decode_row()), Optional(40.0));
}

TEST_F(Compare, RefusesWhatIsNoResult) {
  const std::string row = earlier(3).dump();
  struct Damage {
    std::string text;
    std::vector<std::string> parts;
  };
  const std::vector<Damage> cases = {
      {"", {"earlier.json"}},
      {"   \n", {"earlier.json"}},
      {"test,model\ndecode,406m\n", {"earlier.json"}},
      {"[1, 2]", {"earlier.json"}},
      {"{}", {"row 1", "test", "got none"}},
      {R"({"rows": []})", {"rows", "got none"}},
      {R"({"rows": {}})", {"a list of rows", "an object"}},
      {R"({"rows": [3]})", {"row 1", "an object"}},
      {row.substr(0, row.size() / 2), {"earlier.json"}},
      {row + "\n" + row.substr(0, row.size() / 2), {"earlier.json line 2"}},
      {row + "\n{}\n", {"row 2", "test"}},
      {earlier(3, {{"tok_s", "fast"}}).dump(), {"row 1", "tok_s, a number"}},
      {earlier(0).dump(), {"tok_s above 0", "got 0"}},
      {earlier(-4).dump(), {"tok_s above 0"}},
      {earlier(3, {{"batch", 1.5}}).dump(), {"batch, an integer", "1.5"}},
      {earlier(3, {{"model", nullptr}}).dump(), {"model, a text", "null"}},
  };
  for (const Damage& damage : cases) {
    SCOPED_TRACE(damage.text);
    std::vector<std::string> parts = damage.parts;
    parts.insert(parts.begin(), "--compare");
    expect_error([&] { (void)read(damage.text); }, ExitCode::kUsage, parts);
  }
  expect_error([&] { (void)Baseline::read(dir_ / "absent.json"); }, ExitCode::kUsage, {"absent.json"});
}

}  // namespace
}  // namespace xlstm
