// What SIGINT, SIGTERM and SIGUSR1 do to a run, phase by phase.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/cli.h"
#include "tests/support/running_program.h"
#include "tests/support/runtime_dir.h"
#include "tests/support/sparse_checkpoint.h"

namespace xlstm::test {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::filesystem::path bundled_model() {
  return std::filesystem::path(XLSTM_SOURCE_DIR) / "models/xlstm-tales-8m";
}

// Greedy text without an end, a token or so a millisecond.
const std::vector<std::string> kEndless = {"-p",           "Once upon a time", "--temp",  "0",        "-n", "-1",
                                           "--ignore-eos", "--dtype",          "float32", "--device", "cpu"};

std::vector<std::string> with(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// A prompt of eight tokens a time; by default one that takes some seconds to prefill.
std::string long_prompt(int times = 60'000) {
  std::string text;
  for (int i = 0; i < times; ++i) text += "once upon a time there was a king ";
  return text;
}

int64_t lines(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

class StopSignals : public testing::TestWithParam<int> {};

TEST_P(StopSignals, EndDecodingAfterTheCurrentTokenWithEverythingPrintedAndWritten) {
  const TempDir dir;
  const std::string stats = (dir / "stats.csv").string();
  const std::string state = (dir / "state.safetensors").string();
  const std::string log = (dir / "run.log").string();
  RunningProgram program(executable(),
                         with(kEndless, {"--stats-log", stats, "--state-save", state, "--log-file", log}));
  ASSERT_TRUE(program.wait_until([&] { return program.out().size() > 300; })) << program.err();
  program.send(GetParam());
  const ProgramResult result = program.wait();

  EXPECT_EQ(result.exit_code, 128 + GetParam()) << result.err;
  EXPECT_THAT(result.err, HasSubstr("interrupted"));
  EXPECT_THAT(result.err, Not(HasSubstr("error")));
  EXPECT_THAT(read_all(log), HasSubstr("interrupted"));
  // Every step is in the statistics: a step per token but the first.
  const int64_t ids = saved_ids(state);
  constexpr int64_t kPromptIds = 5;
  EXPECT_EQ(lines(read_all(stats)), ids - kPromptIds) << "header and steps";

  const std::string count = std::to_string(ids - kPromptIds);
  std::vector<std::string> same = kEndless;
  same[5] = count;
  EXPECT_EQ(result.out, run(same).out);
}

TEST_P(StopSignals, LeaveAStateThatContinuesExactly) {
  const TempDir dir;
  const std::string state = (dir / "state.safetensors").string();
  RunningProgram program(executable(), with(kEndless, {"--state-save", state}));
  ASSERT_TRUE(program.wait_until([&] { return program.out().size() > 300; })) << program.err();
  program.send(GetParam());
  const std::string begin = program.wait().out;

  const ProgramResult rest =
      run({"--state-load", state, "-n", "40", "--temp", "0", "--ignore-eos", "--dtype", "float32", "-p", ""});
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  const int64_t generated = saved_ids(state) - 5;
  std::vector<std::string> whole = kEndless;
  whole[5] = std::to_string(generated + 40);
  EXPECT_EQ(begin + rest.out, run(whole).out);
}

TEST_P(StopSignals, EndThePrefillWithNothingPrinted) {
  const TempDir dir;
  const std::string prompt = dir.file("prompt.txt", long_prompt()).string();
  const std::string stats = (dir / "stats.csv").string();
  RunningProgram program(executable(), {"-f", prompt, "-s", "1", "--stats-log", stats});
  ASSERT_TRUE(program.wait_until([&] { return program.err().find("seed 1") != std::string::npos; })) << program.err();
  program.send(GetParam());
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 128 + GetParam()) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, Not(HasSubstr("error")));
}

TEST_P(StopSignals, InThePrefillLeaveAStateOfTheTokensFedSoFar) {
  const TempDir dir;
  const std::string prompt = dir.file("prompt.txt", long_prompt()).string();
  const std::string state = (dir / "state.safetensors").string();
  RunningProgram program(executable(), {"-f", prompt, "-s", "1", "--prefill-segment", "64", "--state-save", state});
  ASSERT_TRUE(program.wait_until([&] { return program.err().find("seed 1") != std::string::npos; })) << program.err();
  program.send(GetParam());
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 128 + GetParam()) << result.err;
  EXPECT_EQ(result.out, "");
  // Whole segments and the id that comes next.
  EXPECT_EQ(saved_ids(state) % 64, 1);
  EXPECT_EQ(run({"--state-load", state, "-p", " the", "-n", "3"}).exit_code, 0);
}

TEST_P(StopSignals, InThePrefillAfterALoadedStateLeaveOneThatContinues) {
  const TempDir dir;
  const std::string prompt = dir.file("prompt.txt", long_prompt()).string();
  const std::string first = (dir / "a").string();
  const std::string second = (dir / "b").string();
  ASSERT_EQ(run({"-p", "Once upon a time", "-n", "0", "--state-save", first}).exit_code, 0);
  RunningProgram program(executable(), {"-f", prompt, "-s", "1", "--prefill-segment", "64", "--state-load", first,
                                        "--state-save", second});
  ASSERT_TRUE(program.wait_until([&] { return program.err().find("seed 1") != std::string::npos; })) << program.err();
  program.send(GetParam());
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 128 + GetParam()) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_GT(saved_ids(second), saved_ids(first));
  const ProgramResult rest = run({"--state-load", second, "-p", " the", "-n", "3", "--ignore-eos"});
  EXPECT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_NE(rest.out, "");
}

TEST_P(StopSignals, EndTheLoadWithNothingPrinted) {
  const TempDir dir;
  write_sparse_checkpoint(bundled_model(), dir / "model", 600'000);
  RunningProgram program(executable(), {"-m", (dir / "model").string(), "-p", "x", "--dtype", "float32"});
  ASSERT_TRUE(program.wait_until([&] { return program.err().find("weights float32") != std::string::npos; }))
      << program.err();
  program.send(GetParam());
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 128 + GetParam()) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, Not(HasSubstr("seed"))) << "the load had ended before the signal";
}

TEST_P(StopSignals, EndTheWaitForAPrompt) {
  const TempDir dir;
  const std::string pipe = (dir / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  RunningProgram program(executable(), {"-f", pipe});
  // A writer that does not wait gets in only beside a reader.
  int writer = -1;
  ASSERT_TRUE(program.wait_until([&] {
    writer = ::open(pipe.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return writer >= 0;
  }));
  EXPECT_EQ(::write(writer, "Once", 4), 4);
  program.send(GetParam());
  EXPECT_EQ(program.wait().exit_code, 128 + GetParam());
  ::close(writer);
}

TEST_P(StopSignals, EndTheWaitForAPipeThatNobodyWrites) {
  const TempDir dir;
  const std::string pipe = (dir / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  RunningProgram program(executable(), {"-f", pipe, "--log-file", (dir / "log").string()});
  ASSERT_TRUE(program.wait_until([&] { return std::filesystem::exists(dir / "log"); }));
  program.send(GetParam());
  EXPECT_EQ(program.wait().exit_code, 128 + GetParam());
}

TEST_P(StopSignals, EndTheRunAtOnceTheSecondTimeAndLeaveNoTemporaryFiles) {
  const TempDir dir;
  const std::string prompt = dir.file("prompt.txt", long_prompt(6500)).string();
  const TempDir out;
  // One segment: the first signal waits for its end, because the state shall be saved.
  RunningProgram program(executable(),
                         {"-f", prompt, "-s", "1", "--prefill-segment", "60000", "--force", "--no-mem-watchdog",
                          "--state-save", (out / "state").string(), "--stats-log", (out / "stats").string()});
  ASSERT_TRUE(program.wait_until([&] {
    return program.err().find("seed 1") != std::string::npos && out.entries() > 0;
  })) << program.err();
  // Before the segment has begun the first signal would end the run in order.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  program.send_until_end(GetParam());
  EXPECT_EQ(program.wait().exit_code, 128 + GetParam());
  EXPECT_EQ(out.entries(), 0) << "neither temporary files nor the state of an orderly end";
}

TEST_P(StopSignals, EndOtherCommandsToo) {
  const OwnRuntimeDir runtime;
  RunningProgram program(executable(), {"bench", "-p", "0", "-n", "1000000", "-r", "1"});
  ASSERT_TRUE(program.wait_until([&] {
    const nlohmann::json all = nlohmann::json::parse(run({"monitor", "--json"}).out);
    return std::any_of(all["processes"].begin(), all["processes"].end(), [&](const nlohmann::json& one) {
      return one["pid"] == program.pid() && one["phase"] == "decode";
    });
  })) << program.err();
  program.send(GetParam());
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 128 + GetParam()) << result.err;
}

INSTANTIATE_TEST_SUITE_P(Both, StopSignals, testing::Values(SIGINT, SIGTERM),
                         [](const auto& param) { return param.param == SIGINT ? "SIGINT" : "SIGTERM"; });

TEST(CacheSignal, ChangesNothingInTheText) {
  std::vector<std::string> arguments = kEndless;
  arguments[5] = "800";
  RunningProgram program(executable(), arguments);
  ASSERT_TRUE(program.wait_until([&] { return program.out().size() > 300; })) << program.err();
  for (int i = 0; i < 20; ++i) {
    program.send(SIGUSR1);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, run(arguments).out);
}

TEST(CacheSignal, ChangesNothingInLoadAndPrefill) {
  const TempDir dir;
  const std::string prompt = dir.file("prompt.txt", long_prompt(500)).string();
  write_sparse_checkpoint(bundled_model(), dir / "model", 100'000);
  for (const std::string& model : {bundled_model().string(), (dir / "model").string()}) {
    const std::vector<std::string> arguments = {"-m",     model, "-f", prompt, "--prefill-segment", "256",
                                                "--temp", "0",   "-n", "8",    "--ignore-eos"};
    RunningProgram program(executable(), arguments);
    ASSERT_TRUE(program.wait_until([&] { return program.err().find("weights ") != std::string::npos; }))
        << program.err();
    program.send_until_end(SIGUSR1);
    const ProgramResult result = program.wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, run(arguments).out);
  }
}

TEST(CacheSignal, GivesTheMemoryOfALongPrefillBack) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "NOT RUN: AddressSanitizer keeps freed memory";
#endif
  const TempDir dir;
  const std::string prompt = dir.file("prompt.txt", long_prompt(4000)).string();
  RunningProgram program(executable(), {"-f", prompt, "--prefill-segment", "100000", "--temp", "0", "-n", "-1",
                                        "--ignore-eos", "--device", "cpu"});
  ASSERT_TRUE(program.wait_until([&] { return program.out().size() > 50; })) << program.err();
  const auto resident_kb = [&] {
    const std::string status = read_all("/proc/" + std::to_string(program.pid()) + "/status");
    return std::stoll(status.substr(status.find("RssAnon:") + 8));
  };
  const int64_t before = resident_kb();
  program.send(SIGUSR1);
  // 36,000 rows of the residual stream alone are 37 MB.
  EXPECT_TRUE(program.wait_until([&] { return resident_kb() < before - 100'000; })) << before << ' ' << resident_kb();
  program.send(SIGTERM);
  EXPECT_EQ(program.wait().exit_code, 128 + SIGTERM);
}

}  // namespace
}  // namespace xlstm::test
