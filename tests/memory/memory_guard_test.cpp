#include "xlstm/memory/memory_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"
#include "xlstm/core/cache_request.h"
#include "xlstm/core/log.h"
#include "xlstm/core/run_status.h"
#include "xlstm/core/stop.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

constexpr uint64_t kMB = 1000000;
constexpr const char* kColumns = "ts,rss_mb,rss_anon_mb,avail_mb,total_mb,device_alloc_mb,device_driver_mb";

// A machine of 1000 MB whose numbers the test sets while the guard reads them.
struct Machine {
  std::atomic<uint64_t> used_mb{100};
  std::atomic<uint64_t> device_mb{100};
  std::atomic<bool> host_fails{false};
  std::atomic<bool> device_fails{false};
  std::atomic<int> reads{0};

  // The guard has seen what was set before the call and acted on it: a look that began later has begun to end.
  void wait_for_looks() const {
    const int before = reads.load();
    while (reads.load() < before + 3) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
};

class MachineReader : public MemoryReader {
 public:
  explicit MachineReader(Machine& machine) : machine_(machine) {}
  HostMemory read() override {
    ++machine_.reads;
    if (machine_.host_fails) throw std::runtime_error("no numbers today");
    const uint64_t used = machine_.used_mb * kMB;
    return {used + 50 * kMB, used, 1000 * kMB, "machine", 1000 * kMB - used};
  }

 private:
  Machine& machine_;
};

class MemoryGuardTest : public testing::Test {
 protected:
  void SetUp() override {
    clear_stop();
    static_cast<void>(take_empty_cache_request());
    begin_phase(RunPhase::kStarting, 0);
    log::configure(log::Level::kInfo, log_file());
    opts_.mem_poll_ms = 1;
  }
  void TearDown() override {
    log::configure(log::Level::kInfo, "");
    clear_stop();
  }

  [[nodiscard]] std::string log_file() const { return (dir_ / "run.log").string(); }
  [[nodiscard]] std::string mem_log() const { return (dir_ / "mem.csv").string(); }

  MemorySources sources() {
    MemorySources sources;
    sources.host = std::make_unique<MachineReader>(machine_);
    sources.device = [this]() -> DeviceSample {
      if (machine_.device_fails) throw std::runtime_error("no such device");
      return {40 * kMB, machine_.device_mb * kMB, 1000 * kMB};
    };
    return sources;
  }

  // Lines of the log that hold `part`.
  [[nodiscard]] int logged(const std::string& part) const {
    int count = 0;
    for (const std::string& line : lines_of(log_file())) count += line.find(part) != std::string::npos ? 1 : 0;
    return count;
  }

  static std::vector<std::string> lines_of(const std::string& path) {
    std::ifstream in(path);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }

  test::TempDir dir_;
  Machine machine_;
  RuntimeOpts opts_;
};

TEST_F(MemoryGuardTest, StopsARunThatIsOverTheHardLineBeforeAnythingElseHappens) {
  opts_.mem_poll_ms = INT64_MAX;
  machine_.used_mb = 930;
  const MemoryGuard guard(opts_, sources());
  EXPECT_EQ(stop_reason(), StopReason::kMemory);
}

TEST_F(MemoryGuardTest, SaysWhatStoppedTheRunAndInWhichPhase) {
  const MemoryGuard guard(opts_, sources());
  EXPECT_EQ(guard.stop_message(), std::nullopt);
  begin_phase(RunPhase::kDecode, 10);
  machine_.used_mb = 930;
  machine_.wait_for_looks();
  EXPECT_EQ(stop_reason(), StopReason::kMemory);
  EXPECT_EQ(guard.stop_message(),
            "memory (decode): expected less than the hard limit of 920.0 MB (92% of 1000.0 MB, machine), got 930.0 MB "
            "used");
}

TEST_F(MemoryGuardTest, AsksForAStopOnceEvenIfUseStaysHigh) {
  machine_.used_mb = 930;
  const MemoryGuard guard(opts_, sources());
  clear_stop();
  machine_.wait_for_looks();
  machine_.used_mb = 100;
  machine_.wait_for_looks();
  machine_.used_mb = 930;
  machine_.wait_for_looks();
  EXPECT_FALSE(stop_requested());
  EXPECT_EQ(logged("hard limit"), 1);
}

TEST_F(MemoryGuardTest, WarnsOncePerCrossingOfTheSoftLine) {
  const MemoryGuard guard(opts_, sources());
  machine_.wait_for_looks();
  EXPECT_EQ(logged("soft limit"), 0);
  machine_.used_mb = 860;
  machine_.wait_for_looks();
  EXPECT_EQ(logged("memory: 860.0 MB used, the soft limit is 850.0 MB (85% of 1000.0 MB, machine)"), 1);
  machine_.used_mb = 870;
  machine_.wait_for_looks();
  EXPECT_EQ(logged("soft limit"), 1);
  machine_.used_mb = 800;
  machine_.wait_for_looks();
  machine_.used_mb = 855;
  machine_.wait_for_looks();
  EXPECT_EQ(logged("soft limit"), 2);
  EXPECT_FALSE(stop_requested());
}

TEST_F(MemoryGuardTest, WatchesTheDeviceBesideTheProcess) {
  const MemoryGuard guard(opts_, sources());
  machine_.used_mb = 860;
  machine_.wait_for_looks();
  machine_.device_mb = 860;
  machine_.wait_for_looks();
  EXPECT_EQ(logged("device memory: 860.0 MB used, the soft limit is"), 1);
  machine_.device_mb = 921;
  machine_.wait_for_looks();
  EXPECT_EQ(stop_reason(), StopReason::kMemory);
  EXPECT_THAT(guard.stop_message().value_or(""), HasSubstr("device memory (starting)"));
  EXPECT_THAT(guard.stop_message().value_or(""), HasSubstr("got 921.0 MB used"));
}

TEST_F(MemoryGuardTest, DoesWhatMemActionNamesAndNothingElse) {
  machine_.used_mb = 860;
  {
    opts_.mem_action = "warn";
    const MemoryGuard guard(opts_, sources());
    EXPECT_FALSE(take_empty_cache_request());
    EXPECT_EQ(logged("soft limit"), 1);
  }
  {
    opts_.mem_action = "empty_cache";
    const MemoryGuard guard(opts_, sources());
    EXPECT_TRUE(take_empty_cache_request());
    machine_.wait_for_looks();
    EXPECT_FALSE(take_empty_cache_request()) << "once per crossing";
    EXPECT_EQ(logged("soft limit"), 1);
  }
  {
    opts_.mem_action = "";
    const MemoryGuard guard(opts_, sources());
    EXPECT_FALSE(take_empty_cache_request());
    EXPECT_EQ(logged("soft limit"), 1);
  }
}

TEST_F(MemoryGuardTest, LetsMegabytesWinOverShares) {
  opts_.mem_hard_mb = 50;
  const MemoryGuard guard(opts_, sources());
  EXPECT_EQ(stop_reason(), StopReason::kMemory);
  EXPECT_THAT(guard.stop_message().value_or(""), HasSubstr("50.0 MB (mem_hard_mb)"));
  EXPECT_EQ(guard.lines().hard, 50 * kMB);
}

TEST_F(MemoryGuardTest, SurvivesFailingReadsSaysSoOnceAndGoesOnWatching) {
  machine_.host_fails = true;
  const MemoryGuard guard(opts_, sources());
  EXPECT_EQ(guard.latest(), std::nullopt);
  machine_.wait_for_looks();
  EXPECT_EQ(logged("no numbers today"), 1);
  machine_.host_fails = false;
  machine_.used_mb = 930;
  machine_.wait_for_looks();
  EXPECT_EQ(stop_reason(), StopReason::kMemory);
}

TEST_F(MemoryGuardTest, WatchesTheProcessWhenTheDeviceCannotBeRead) {
  machine_.device_fails = true;
  const MemoryGuard guard(opts_, sources());
  machine_.used_mb = 930;
  machine_.wait_for_looks();
  EXPECT_EQ(stop_reason(), StopReason::kMemory);
  EXPECT_EQ(logged("no such device"), 1);
}

TEST_F(MemoryGuardTest, GivesTheNewestSampleToOthers) {
  const MemoryGuard guard(opts_, sources());
  EXPECT_EQ(guard.latest()->host.used, 100 * kMB);
  EXPECT_EQ(guard.latest()->device.driver, 100 * kMB);
  EXPECT_EQ(guard.lines().soft, 850 * kMB);
  machine_.used_mb = 300;
  machine_.wait_for_looks();
  EXPECT_EQ(guard.latest()->host.used, 300 * kMB);
}

TEST_F(MemoryGuardTest, DoesNothingWhenItIsOffAndNoLogIsWanted) {
  opts_.mem_watchdog = false;
  machine_.used_mb = 990;
  {
    const MemoryGuard guard(opts_, sources());
    EXPECT_EQ(guard.latest(), std::nullopt);
    EXPECT_EQ(guard.lines().hard, 0U);
  }
  EXPECT_EQ(machine_.reads, 0);
  EXPECT_FALSE(stop_requested());
}

TEST_F(MemoryGuardTest, WritesTheLogThoughTheWatchdogIsOff) {
  opts_.mem_watchdog = false;
  opts_.mem_log = mem_log();
  opts_.mem_every = 1;
  machine_.used_mb = 990;
  MemoryGuard guard(opts_, sources());
  machine_.wait_for_looks();
  guard.finish();
  EXPECT_FALSE(stop_requested());
  EXPECT_EQ(logged("limit"), 0);
  EXPECT_GE(lines_of(mem_log()).size(), 3U);
}

TEST_F(MemoryGuardTest, LogsARowAtOnceAndThenAtItsOwnInterval) {
  opts_.mem_log = mem_log();
  opts_.mem_every = INT64_MAX;
  machine_.used_mb = 123;
  machine_.device_mb = 456;
  MemoryGuard guard(opts_, sources());
  machine_.wait_for_looks();
  EXPECT_FALSE(std::filesystem::exists(mem_log())) << "it appears when the run ends";
  guard.finish();
  const std::vector<std::string> lines = lines_of(mem_log());
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0], kColumns);
  // 10 digits and milliseconds: seconds since 1970.
  EXPECT_THAT(lines[1], testing::MatchesRegex(
                            "[0-9]{10}\\.[0-9]{3},173\\.000,123\\.000,877\\.000,1000\\.000,40\\.000,456\\.000"));
}

TEST_F(MemoryGuardTest, KeepsTheLogOfARunThatEndsHalfWay) {
  opts_.mem_log = mem_log();
  { const MemoryGuard guard(opts_, sources()); }
  EXPECT_EQ(lines_of(mem_log()).size(), 2U);
}

TEST_F(MemoryGuardTest, FinishesMoreThanOnceWithoutHarm) {
  opts_.mem_log = mem_log();
  MemoryGuard guard(opts_, sources());
  guard.finish();
  EXPECT_NO_THROW(guard.finish());
}

TEST_F(MemoryGuardTest, RefusesALogThatCannotBeWritten) {
  opts_.mem_log = "/no/such/folder/mem.csv";
  test::expect_error([&] { const MemoryGuard guard(opts_, sources()); }, ExitCode::kOutput, {"/no/such/folder"});
}

TEST_F(MemoryGuardTest, ReportsAFullDiskAtTheEndAndLeavesNoHalfFile) {
  opts_.mem_log = mem_log();
  opts_.mem_every = 1;
  const int before = dir_.entries();
  // In a process of its own, whose files may hold 200 bytes: the columns and two rows.
  const auto run = [&] {
    log::configure(log::Level::kInfo, "");
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{200, 200};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int code = 0;
    try {
      MemoryGuard guard(opts_, sources());
      machine_.wait_for_looks();
      machine_.wait_for_looks();
      guard.finish();
    } catch (const Error& error) {
      code = static_cast<int>(error.code());
    }
    std::_Exit(code);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(6), "");
  EXPECT_EQ(dir_.entries(), before);
}

TEST_F(MemoryGuardTest, EndsAtOnceHoweverLongItsIntervals) {
  opts_.mem_poll_ms = INT64_MAX;
  opts_.mem_every = INT64_MAX;
  opts_.mem_log = mem_log();
  { const MemoryGuard guard(opts_, sources()); }
  EXPECT_TRUE(std::filesystem::exists(mem_log())) << "a guard that slept would run into the test's time limit";
}

}  // namespace
}  // namespace xlstm
