// The memory guard and the published status of real runs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/cli/cli.h"
#include "tests/support/running_program.h"
#include "tests/support/runtime_dir.h"
#include "tests/support/sparse_checkpoint.h"

namespace xlstm::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// Decodes without an end and keeps 16 KB of logits a token, so that memory grows.
std::vector<std::string> growing_run(const std::filesystem::path& dump, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {
      "-p",      "Once upon a time", "--temp",        "0", "-n", "-1", "--force", "--ignore-eos",
      "--dtype", "float32",          "--dump-logits", dump};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// What the guard counts of a short run with float32 weights, in MB: it depends on the machine's threads and libraries.
int64_t base_mb() {
  const TempDir dir;
  const std::string log = (dir / "mem.csv").string();
  const ProgramResult result = run({"-p", "Once upon a time", "-n", "20", "--temp", "0", "--ignore-eos", "--dtype",
                                    "float32", "--mem-log", log, "--mem-every", "1"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  std::istringstream rows(read_all(log));
  std::string row;
  std::getline(rows, row);
  EXPECT_THAT(row, StartsWith("ts,rss_mb,rss_anon_mb,"));
  double largest = 0;
  while (std::getline(rows, row)) {
    const size_t rss_mb = row.find(',') + 1;
    largest = std::max(largest, std::stod(row.substr(row.find(',', rss_mb) + 1)));
  }
  EXPECT_GT(largest, 10);
  return static_cast<int64_t>(largest);
}

// Some tens of thousands of tokens.
std::string long_prompt() {
  std::string text;
  for (int i = 0; i < 4000; ++i) text += "once upon a time there was a king ";
  return text;
}

TEST(MemoryGuard, StopsDecodingAtTheHardLimitWithTheTextSoFarOnStandardOutput) {
  const TempDir dir;
  const int64_t base = base_mb();
  const std::string soft = std::to_string(base + 20);
  const std::string hard = std::to_string(base + 40);
  const ProgramResult result =
      run(growing_run(dir / "dump", {"--mem-hard-mb", hard, "--mem-soft-mb", soft, "--mem-poll-ms", "5", "--state-save",
                                     (dir / "state").string()}));
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_THAT(last_line(result.err),
              StartsWith("error: memory (decode): expected less than the hard limit of " + hard + ".0 MB"));
  EXPECT_THAT(result.err, HasSubstr("soft"));
  ASSERT_GT(result.out.size(), 100U);
  EXPECT_TRUE(std::filesystem::exists(dir / "state"));
  // What was printed is what a run without a guard prints.
  const std::string free_text =
      run({"-p", "Once upon a time", "--temp", "0", "-n", "60", "--ignore-eos", "--dtype", "float32"}).out;
  EXPECT_EQ(result.out.substr(0, 100), free_text.substr(0, 100));
}

TEST(MemoryGuard, StopsAPrefillWithNothingPrinted) {
  const TempDir dir;
  const std::string hard = std::to_string(base_mb() + 40);
  const ProgramResult result = run({"-f", dir.file("prompt.txt", long_prompt()).string(), "--prefill-segment", "100000",
                                    "--dtype", "float32", "--force", "--mem-hard-mb", hard, "--mem-poll-ms", "1"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(last_line(result.err),
              StartsWith("error: memory (prefill): expected less than the hard limit of " + hard + ".0 MB"));
}

TEST(MemoryGuard, InThePrefillLeavesAStateOfTheTokensFedSoFar) {
  const TempDir dir;
  constexpr int64_t kSegment = 8192;
  const std::string state = (dir / "state").string();
  const ProgramResult result = run({"-f", dir.file("prompt.txt", long_prompt()).string(), "--prefill-segment",
                                    std::to_string(kSegment), "--dtype", "float32", "--force", "--mem-hard-mb",
                                    std::to_string(base_mb() + 20), "--mem-poll-ms", "1", "--state-save", state});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(last_line(result.err), StartsWith("error: memory (prefill): "));
  // Whole segments and the id that comes next.
  EXPECT_EQ(saved_ids(state) % kSegment, 1);
  const ProgramResult rest =
      run({"--state-load", state, "-p", " the", "-n", "3", "--ignore-eos", "--dtype", "float32"});
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_NE(rest.out, "");
}

TEST(MemoryGuard, SwitchedOffStopsNothing) {
  const ProgramResult result = run({"-p", "Once", "-n", "3", "--mem-hard-mb", "1", "--no-mem-watchdog"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

TEST(MemoryGuard, StopsALoad) {
  const TempDir dir;
  write_sparse_checkpoint(std::filesystem::path(XLSTM_SOURCE_DIR) / "models/xlstm-tales-8m", dir / "model", 400'000);
  const ProgramResult result = run({"-m", (dir / "model").string(), "-p", "x", "--dtype", "float32", "--force",
                                    "--mem-hard-mb", "300", "--mem-poll-ms", "1"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(last_line(result.err), StartsWith("error: memory (load): expected less than the hard limit of 300.0 MB"));
}

TEST(MemoryEstimate, RefusesAModelThatDoesNotFitUnlessForced) {
  const TempDir dir;
  // 17 GB of bfloat16 in holes of a file.
  write_sparse_checkpoint(std::filesystem::path(XLSTM_SOURCE_DIR) / "models/xlstm-tales-8m", dir / "model", 16'777'216);
  const ProgramResult refused =
      run({"-m", (dir / "model").string(), "-p", "x", "--dtype", "float32", "--mem-hard-mb", "4000"});
  EXPECT_EQ(refused.exit_code, 5) << refused.err;
  EXPECT_THAT(last_line(refused.err), AllOf(StartsWith("error: memory (estimate before load): expected at most "),
                                            HasSubstr("weights 34."), HasSubstr("--force")));
  const ProgramResult forced = run({"-p", "x", "-n", "1", "--mem-hard-mb", "30", "--no-mem-watchdog", "--force"});
  EXPECT_EQ(forced.exit_code, 0) << forced.err;
}

TEST(MemoryEstimate, KnowsTheLimitThatTheShellSet) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "NOT RUN: AddressSanitizer reserves more address space than any such limit";
#endif
  const ProgramResult result =
      run_program("/bin/sh", {"-c", "ulimit -v 12000000; ulimit -d 500000; exec " + executable() +
                                        " bench --shape E=2048,blocks=8 -p 0 -n 1 -r 1 --no-mem-watchdog"});
  EXPECT_EQ(result.exit_code, 5) << result.err;
  EXPECT_THAT(last_line(result.err),
              AllOf(StartsWith("error: memory (estimate before load)"), HasSubstr("RLIMIT_DATA")));
}

TEST(MemoryLog, HasARowForEveryIntervalOfTheRun) {
  const TempDir dir;
  const std::string log = (dir / "mem.csv").string();
  const ProgramResult result = run({"-p", "Once", "-n", "300", "--ignore-eos", "--mem-log", log, "--mem-every", "10"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const std::string text = read_all(log);
  EXPECT_THAT(text, StartsWith("ts,rss_mb,rss_anon_mb,avail_mb,total_mb,device_alloc_mb,device_driver_mb\n"));
  EXPECT_GE(std::count(text.begin(), text.end(), '\n'), 5);
}

TEST(MemoryLog, ThatCannotBeWrittenIsFoundBeforeTheRun) {
  const ProgramResult result = run({"-p", "Once", "-n", "3", "--mem-log", "/nowhere/mem.csv"});
  EXPECT_EQ(result.exit_code, 6);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(last_line(result.err), HasSubstr("/nowhere/mem.csv"));
}

TEST(Monitor, ShowsTwoRunsAndForgetsThemWhenTheyEnd) {
  const OwnRuntimeDir runtime;
  const std::vector<std::string> endless = {"-p", "Once", "-n", "-1", "--ignore-eos", "-s", "1"};
  RunningProgram first(executable(), endless);
  RunningProgram second(executable(), {"bench", "-p", "0", "-n", "100000", "-r", "1", "--dtype", "float32"});
  // Tests beside this one have runs of their own.
  const std::set<int64_t> ours = {first.pid(), second.pid()};
  const auto processes = [&] {
    nlohmann::json found = nlohmann::json::array();
    const nlohmann::json all = nlohmann::json::parse(run({"monitor", "--json"}).out);
    for (const nlohmann::json& one : all["processes"]) {
      if (ours.count(one["pid"]) > 0) found.push_back(one);
    }
    return found;
  };
  ASSERT_TRUE(first.wait_until([&] {
    const nlohmann::json all = processes();
    return all.size() == 2 &&
           std::all_of(all.begin(), all.end(), [](const nlohmann::json& one) { return one["phase"] == "decode"; });
  })) << processes();
  for (const nlohmann::json& one : processes()) {
    const bool is_first = one["pid"] == first.pid();
    EXPECT_EQ(one["command"], is_first ? "generate" : "bench");
    EXPECT_EQ(one["model"], "xlstm-tales-8m");
    EXPECT_EQ(one["dtype"], is_first ? "bfloat16" : "float32");
    EXPECT_THAT(one["profile"].get<std::string>(), HasSubstr("golden_ray_cpu"));
    EXPECT_GT(one["rss_mb"], 10);
    EXPECT_GT(one["hard_mb"], one["soft_mb"]);
  }
  const std::string table = run({"monitor", "--once"}).out;
  EXPECT_THAT(table, AllOf(HasSubstr(std::to_string(first.pid())), HasSubstr(std::to_string(second.pid()))));
  first.send(SIGTERM);
  second.send(SIGTERM);
  EXPECT_EQ(first.wait().exit_code, 143);
  EXPECT_EQ(second.wait().exit_code, 143);
  EXPECT_TRUE(processes().empty());
}

}  // namespace
}  // namespace xlstm::test
