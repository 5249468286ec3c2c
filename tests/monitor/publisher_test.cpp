#include "xlstm/monitor/publisher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <thread>

#include "src/monitor/status_file.h"
#include "tests/monitor/records.h"
#include "tests/support/temp_dir.h"
#include "xlstm/core/emergency_files.h"
#include "xlstm/core/run_status.h"
#include "xlstm/monitor/process.h"
#include "xlstm/monitor/reader.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

// Far above what is waited for, even on a busy machine.
bool wait_until(const std::function<bool()>& condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

class Publisher : public testing::Test {
 protected:
  Publisher() {
    ::chmod(dir_.path().c_str(), 0700);
    describe_run({"generate", "tales", "cpu", "float32", "chunkwise--native", "golden", 1000, 2000});
    begin_phase(RunPhase::kStarting, 0);
    run_counters().prompt_tokens = 0;
    run_counters().decoded_tokens = 0;
  }
  [[nodiscard]] Look read() const { return read_processes(std::vector<fs::path>{dir_.path()}); }
  [[nodiscard]] bool wait_for(const std::function<bool(const RunRecord&)>& condition) const {
    return wait_until([&] {
      const Look look = read();
      return look.processes.size() == 1 && condition(look.processes[0].record);
    });
  }
  const test::TempDir dir_;
};

TEST_F(Publisher, SaysWhatTheProcessIsAndDoes) {
  const StatusPublisher publisher({[] { return MemoryStatus{300, 200, 100, 400, 500}; }, dir_.path()});
  ASSERT_TRUE(wait_for([](const RunRecord&) { return true; }));
  const RunRecord record = read().processes.at(0).record;
  EXPECT_EQ(record.pid, ::getpid());
  EXPECT_EQ(record.start_id, process_state(::getpid()).start_id);
  EXPECT_EQ(record.command, "generate");
  EXPECT_EQ(record.model, "tales");
  EXPECT_EQ(record.device, "cpu");
  EXPECT_EQ(record.dtype, "float32");
  EXPECT_EQ(record.kernel, "chunkwise--native");
  EXPECT_EQ(record.profile, "golden");
  EXPECT_EQ(record.phase, "starting");
  EXPECT_EQ(record.soft_mb, 1000);
  EXPECT_EQ(record.hard_mb, 2000);
  EXPECT_EQ(record.rss_mb, 300);
  EXPECT_EQ(record.anon_mb, 200);
  EXPECT_EQ(record.device_mb, 100);
  EXPECT_EQ(record.device_soft_mb, 400);
  EXPECT_EQ(record.device_hard_mb, 500);
  EXPECT_FALSE(record.version.empty());
}

TEST_F(Publisher, FollowsTheCountersAndMeasuresSpeed) {
  const StatusPublisher publisher({{}, dir_.path()});
  begin_phase(RunPhase::kDecode, 1000);
  const bool seen = wait_for([](const RunRecord& record) {
    ++run_counters().done;
    ++run_counters().decoded_tokens;
    return record.phase == "decode" && record.total == 1000 && record.done > 0 && record.decoded_tokens > 0 &&
           record.tok_s > 0 && record.tok_s_phase > 0;
  });
  EXPECT_TRUE(seen);
}

TEST_F(Publisher, GivesASignOfLifeWhenNothingChanges) {
  const StatusPublisher publisher({{}, dir_.path()});
  ASSERT_TRUE(wait_for([](const RunRecord&) { return true; }));
  const double first = read().processes.at(0).record.written;
  EXPECT_TRUE(wait_for([&](const RunRecord& record) { return record.written > first; }));
}

TEST_F(Publisher, LeavesNothingBehind) {
  {
    const StatusPublisher publisher({{}, dir_.path()});
    ASSERT_TRUE(wait_for([](const RunRecord&) { return true; }));
  }
  EXPECT_EQ(dir_.entries(), 0);
  { const StatusPublisher at_once({{}, dir_.path()}); }
  EXPECT_EQ(dir_.entries(), 0);
}

TEST_F(Publisher, ItsFileIsForThisUserAlone) {
  const StatusPublisher publisher({{}, dir_.path()});
  ASSERT_TRUE(wait_for([](const RunRecord&) { return true; }));
  struct stat info {};
  ASSERT_EQ(::stat((dir_ / status_file_name(::getpid())).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(Publisher, TheFileGoesWithAProcessThatASignalEndsAtOnce) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGTERM, [](int) {
      remove_emergency_files();
      ::_exit(143);
    });
    const StatusPublisher publisher({{}, dir_.path()});
    while (true) ::pause();
  }
  const fs::path file = dir_ / status_file_name(child);
  EXPECT_TRUE(wait_until([&] { return fs::exists(file); }));
  ::kill(child, SIGTERM);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 143);
  static_cast<void>(read());  // a write that was under way is stale now
  EXPECT_EQ(dir_.entries(), 0);
}

TEST_F(Publisher, ARunWithoutAUsableFolderGoesOnUnseen) {
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  {
    const StatusPublisher open_to_others({{}, dir_.path()});
    const StatusPublisher no_parent({{}, dir_ / "a/b/c"});
    const StatusPublisher a_file({{}, "/dev/null"});
  }
  EXPECT_EQ(dir_.entries(), 0);
}

TEST_F(Publisher, AMemoryReaderThatThrowsEndsNothing) {
  std::atomic<int> calls{0};
  const StatusPublisher publisher({[&]() -> MemoryStatus {
                                     ++calls;
                                     throw std::runtime_error("no /proc here");
                                   },
                                   dir_.path()});
  EXPECT_TRUE(wait_until([&] { return calls > 1; }));
}

TEST_F(Publisher, ComesBackWhenItsFolderWasCleanedAway) {
  const fs::path folder = dir_ / "status";
  const StatusPublisher publisher({{}, folder});
  const fs::path file = folder / status_file_name(::getpid());
  ASSERT_TRUE(wait_until([&] { return fs::exists(file); }));
  // The publisher may write between the two steps of remove_all().
  ASSERT_TRUE(wait_until([&] {
    std::error_code error;
    fs::remove_all(folder, error);
    return !error;
  }));
  EXPECT_TRUE(wait_until([&] { return fs::exists(file); }));
}

TEST_F(Publisher, AReaderNeverSeesAHalfWrittenRecord) {
  std::string why;
  const auto folder = PrivateDirectory::open(dir_.path(), false, why);
  ASSERT_TRUE(folder) << why;
  RunRecord record = test::record(::getpid());
  record.start_id = process_state(::getpid()).start_id;
  ASSERT_TRUE(write_status_file(*folder, record));
  std::atomic<bool> ending{false};
  std::thread writer([&] {
    RunRecord next = record;
    for (int64_t i = 1; !ending; ++i) {
      next.done = next.decoded_tokens = i;
      next.model.assign(static_cast<size_t>(i % 3000), 'm');
      EXPECT_TRUE(write_status_file(*folder, next));
    }
  });
  int64_t last = 0;
  for (int i = 0; i < 1000; ++i) {
    const Look look = read();
    ASSERT_EQ(look.processes.size(), 1u);
    const RunRecord& seen = look.processes[0].record;
    if (seen.model == "tales") continue;  // still the first
    EXPECT_EQ(seen.done, seen.decoded_tokens);
    EXPECT_EQ(seen.model.size(), static_cast<size_t>(seen.done % 3000));
    EXPECT_GE(seen.done, last);
    last = seen.done;
  }
  ending = true;
  writer.join();
}

TEST_F(Publisher, AFullOrForbiddenFolderLeavesNoTemporary) {
  std::string why;
  const auto folder = PrivateDirectory::open(dir_.path(), false, why);
  ASSERT_TRUE(folder) << why;
  const RunRecord record = test::record(::getpid());
  fs::create_directory(dir_ / status_file_name(record.pid));  // a rename cannot replace it
  EXPECT_FALSE(write_status_file(*folder, record));
  EXPECT_EQ(dir_.entries(), 1);
}

}  // namespace
}  // namespace xlstm
