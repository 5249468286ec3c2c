#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/cli.h"
#include "tests/support/temp_dir.h"

namespace xlstm::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const char* const kShape = "E=32,blocks=1,heads=2,vocab=64";

// bench of a tiny shape, one repeat.
ProgramResult bench(std::vector<std::string> arguments, const std::string& shape = kShape) {
  arguments.insert(arguments.begin(), {"bench", "--shape", shape, "-r", "1"});
  return run(arguments);
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

TEST(BenchCommand, MeasuresEveryCombinationOnce) {
  const ProgramResult result = bench({"-p", "16", "-n", "1", "--workers", "1,2", "--heads-per-band", "1,2,8",
                                      "--chunk-size", "4,8", "--dtype", "float32", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json rows = json::parse(result.out)["rows"];
  EXPECT_EQ(rows.size(), 9U) << "2 workers x 2 bands that differ x 2 chunk sizes, and one decode row";
  EXPECT_TRUE(rows.back()["chunk_size"].is_null());
  EXPECT_EQ(rows[0]["chunk_size"], 4);
}

TEST(BenchCommand, ShowsColumnsForTheListsInUse) {
  const std::string plain = first_line(bench({"-p", "8", "-n", "0", "--chunk-size", "4"}).out);
  for (const char* column : {"threads", "workers", "heads_per_band", "chunk_size"}) {
    EXPECT_THAT(plain, Not(HasSubstr(column)));
  }
  const ProgramResult listed = bench({"-p", "8", "-n", "0", "--chunk-size", "4,8", "--workers", "1,2", "-t", "1,2",
                                      "--chunkwise-backend", "ray_compiled_steps,queued_compiled_steps"});
  ASSERT_EQ(listed.exit_code, 0) << listed.err;
  EXPECT_THAT(first_line(listed.out), Not(HasSubstr("heads_per_band")));
  for (const char* column : {"threads", "workers", "chunk_size"}) {
    EXPECT_THAT(first_line(listed.out), HasSubstr(column));
  }
}

TEST(BenchCommand, TakesASingleValueIntoTheConfigurationLayers) {
  const ProgramResult result =
      bench({"-p", "8", "-n", "0", "--chunkwise-backend", "queued_compiled_steps", "--chunk-size", "4", "-o", "jsonl"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, Not(HasSubstr("golden_ray"))) << "the profile of the backend that runs";
  EXPECT_EQ(json::parse(result.out)["kernel"], "chunkwise--queued_compiled_steps");
}

TEST(BenchCommand, MeasuresTheCellWithoutAModel) {
  const ProgramResult result = bench({"--cell", "-p", "16", "-n", "0", "--chunk-size", "8", "--chunkwise-backend",
                                      "ray_compiled_steps,cpu", "-o", "csv"},
                                     "E=256,blocks=1000000,heads=2,vocab=64");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\ncell,"));
  EXPECT_THAT(result.out, Not(HasSubstr("decode")));
}

TEST(BenchCommand, ReportsLimitsAndSharesOfThem) {
  const ProgramResult result = bench({"-p", "16", "-n", "2", "-t", "1", "--limits", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json report = json::parse(result.out);
  for (const char* key : {"read_gb_s", "copy_gb_s"}) EXPECT_GT(report["limits"][key], 0) << key;
  EXPECT_GT(report["limits"]["gemm_gflop_s"]["float32"], 0);
  EXPECT_GT(report["limits"]["peak_gflop_s"]["fma_float32"], 0);
  EXPECT_THAT(result.err, HasSubstr("limits of cpu: reads "));
  ASSERT_EQ(report["rows"].size(), 2U);
  for (const json& row : report["rows"]) {
    EXPECT_TRUE(row["limit_share"].is_number() || row["rejected"] > 0) << row;
    EXPECT_TRUE(row["peak_share"].is_null() || row["test"] == "prefill");
    EXPECT_EQ(row["judged_by"].is_string(), row["test"] == "prefill");
  }
  EXPECT_TRUE(json::parse(bench({"-p", "4", "-n", "0", "-o", "json"}).out)["rows"][0]["limit_share"].is_null());
}

TEST(BenchCommand, ComparesWithEarlierResults) {
  const TempDir dir;
  const std::string earlier = (dir / "earlier.json").string();
  const ProgramResult first = bench({"-p", "8,16", "-n", "0", "-o", "json"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  json report = json::parse(first.out);
  for (json& row : report["rows"]) row["tok_s"] = 1;
  std::ofstream(earlier) << report.dump(2);
  const ProgramResult second = bench({"-p", "16,32", "-n", "0", "--compare", earlier, "-o", "json"});
  ASSERT_EQ(second.exit_code, 0) << second.err;
  const json rows = json::parse(second.out)["rows"];
  EXPECT_EQ(rows.at(0)["ratio"], rows[0]["tok_s"]);
  EXPECT_TRUE(rows.at(1)["ratio"].is_null()) << "32 tokens were not measured then";
  EXPECT_THAT(first_line(bench({"-p", "8", "-n", "0", "--compare", earlier}).out), HasSubstr(" ratio"));
  EXPECT_THAT(first_line(bench({"-p", "8", "-n", "0"}).out), Not(HasSubstr("ratio")));

  std::ofstream(earlier) << R"({"rows": [{"test": "decode"}]})";
  const ProgramResult damaged = bench({"-p", "8", "-n", "0", "--compare", earlier});
  EXPECT_EQ(damaged.exit_code, 2);
  EXPECT_EQ(damaged.out, "");
  EXPECT_THAT(last_line(damaged.err), HasSubstr("--compare"));
}

// Fields of a line that has no commas and bars inside its values.
size_t fields(const std::string& line, char separator) {
  return static_cast<size_t>(std::count(line.begin(), line.end(), separator));
}

TEST(BenchCommand, HasTheSameColumnsInEveryFormatWhateverIsMeasured) {
  const TempDir dir;
  const std::string model = (std::filesystem::path(XLSTM_SOURCE_DIR) / "models/xlstm-tales-8m").string();
  const auto output = [&](const char* format) {
    const ProgramResult result = run({"bench", "-m", model, "-p", "4", "-n", "1", "-r", "1", "-o", format});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  const json row = json::parse(first_line(output("jsonl")));
  const std::string csv = output("csv");
  const std::string md = output("md");
  EXPECT_EQ(fields(first_line(csv), ',') + 1, row.size());
  EXPECT_EQ(fields(last_line(csv), ','), fields(first_line(csv), ','));
  EXPECT_EQ(fields(first_line(md), '|'), row.size() + 1);
  EXPECT_EQ(fields(last_line(md), '|'), row.size() + 1);
  for (const char* column : {"state_dtype", "limit_share", "peak_share", "rejected", "ratio"}) {
    EXPECT_THAT(first_line(csv), HasSubstr(column));
    EXPECT_THAT(first_line(md), HasSubstr(column));
  }
}

TEST(BenchCommand, QuotesFieldsOfCsv) {
  const ProgramResult shape = bench({"-p", "4", "-n", "0", "-o", "csv"});
  EXPECT_THAT(last_line(shape.out), StartsWith("prefill,\"E=32,blocks=1,heads=2,vocab=64\",cpu,"));
  const TempDir dir;
  const std::filesystem::path odd = dir / "a \"b\", c|d";
  std::filesystem::create_directory_symlink(std::filesystem::path(XLSTM_SOURCE_DIR) / "models/xlstm-tales-8m", odd);
  const std::vector<std::string> call = {"bench", "-m", odd.string(), "-p", "8", "-n", "0", "-r", "1", "-o"};
  const auto in_format = [&](const char* format) {
    std::vector<std::string> arguments = call;
    arguments.push_back(format);
    return last_line(run(arguments).out);
  };
  EXPECT_THAT(in_format("csv"), StartsWith("prefill,\"a \"\"b\"\", c|d\",cpu,"));
  EXPECT_THAT(in_format("md"), StartsWith("| prefill | a \"b\", c\\|d | cpu |"));
}

struct BadBench {
  std::vector<std::string> arguments;
  int exit_code;
  std::vector<std::string> parts;
};

TEST(BenchCommand, NamesTheFlagOfABadValue) {
  const std::vector<BadBench> cases = {
      {{"--workers", "1,x"}, 2, {"--workers", "x"}},
      {{"--workers", "300"}, 2, {"--workers", "300"}},
      {{"--workers", "1,,2"}, 2, {"--workers"}},
      {{"--chunk-size", "0"}, 2, {"--chunk-size"}},
      {{"--heads-per-band", "-1"}, 2, {"--heads-per-band"}},
      {{"-t", "9999"}, 2, {"--threads"}},
      {{"--dtype", "float32,float99"}, 2, {"--dtype", "float99"}},
      {{"--chunkwise-backend", "cpu,quued_compiled_steps"}, 2, {"chunkwise_backend", "queued_compiled_steps"}},
      {{"--cell", "-p", "0"}, 2, {"-p", "--cell"}},
      {{"--cell", "-p", "8", "--chunk-size", "8,16"}, 2, {"-p", "16"}},
      {{"--state-dtype", "float32,float99"}, 2, {"--state-dtype", "float99"}},
      {{"--compare", "/nowhere/earlier.json"}, 2, {"/nowhere/earlier.json"}},
      {{"-p", "0", "-n", "0"}, 2, {"-p and -n"}},
      {{"--chunkwise-backend", "cpu,metal"}, 4, {"metal"}},
  };
  for (const BadBench& bad : cases) {
    SCOPED_TRACE(testing::PrintToString(bad.arguments));
    const ProgramResult result = bench(bad.arguments);
    EXPECT_EQ(result.exit_code, bad.exit_code);
    EXPECT_EQ(result.out, "");
    for (const std::string& part : bad.parts) EXPECT_THAT(last_line(result.err), HasSubstr(part));
  }
}

}  // namespace
}  // namespace xlstm::test
