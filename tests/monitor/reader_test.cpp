#include "xlstm/monitor/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "src/monitor/status_file.h"
#include "tests/monitor/records.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"
#include "xlstm/core/str.h"
#include "xlstm/monitor/process.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

RunRecord own_record() {
  RunRecord record = test::record(::getpid());
  record.start_id = process_state(::getpid()).start_id;
  record.written = now();
  return record;
}

std::string text_of(const RunRecord& record) {
  return to_json(record).dump();
}

std::vector<int64_t> pids_in(const Look& look) {
  std::vector<int64_t> pids;
  for (const RunningProcess& process : look.processes) pids.push_back(process.record.pid);
  return pids;
}

// A process that waits until it is told to end.
class Child {
 public:
  Child() : pid_(::fork()) {
    if (pid_ == 0) {
      while (true) ::pause();
    }
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  [[nodiscard]] pid_t pid() const { return pid_; }
  void kill_only() const { ::kill(pid_, SIGKILL); }
  void end() {
    if (ended_) return;
    ended_ = true;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  pid_t pid_;
  bool ended_ = false;
};

class Reader : public testing::Test {
 protected:
  Reader() { ::chmod(dir_.path().c_str(), 0700); }
  [[nodiscard]] Look read() const { return read_processes(std::vector<fs::path>{dir_.path()}); }
  [[nodiscard]] fs::path put(const RunRecord& record) const {
    return dir_.file(status_file_name(record.pid), text_of(record));
  }
  const test::TempDir dir_;
};

TEST_F(Reader, ReadsWhatARunningProcessWrote) {
  const RunRecord record = own_record();
  std::string why;
  const auto folder = PrivateDirectory::open(dir_.path(), false, why);
  ASSERT_TRUE(folder) << why;
  ASSERT_TRUE(write_status_file(*folder, record));
  const Look look = read();
  ASSERT_EQ(look.processes.size(), 1u);
  RunRecord rounded = record;
  rounded.written = look.processes[0].record.written;
  EXPECT_NEAR(rounded.written, record.written, 0.001);
  EXPECT_EQ(look.processes[0].record, rounded);
  EXPECT_EQ(dir_.entries(), 1);
}

TEST_F(Reader, TheFileOfAProcessThatDiedIsRemoved) {
  Child child;
  RunRecord record = own_record();
  record.pid = child.pid();
  record.start_id = process_state(child.pid()).start_id;
  const fs::path file = put(record);
  EXPECT_EQ(pids_in(read()), std::vector<int64_t>{child.pid()});
  child.end();
  EXPECT_EQ(pids_in(read()), std::vector<int64_t>{});
  EXPECT_FALSE(fs::exists(file));
}

TEST_F(Reader, AProcessThatOnlyWaitsForItsParentHasEnded) {
  const Child child;
  RunRecord record = own_record();
  record.pid = child.pid();
  record.start_id = process_state(child.pid()).start_id;
  static_cast<void>(put(record));
  child.kill_only();
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid()), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(pids_in(read()), std::vector<int64_t>{});
}

TEST_F(Reader, AProcessIdThatAnotherProcessHasNowIsStale) {
  RunRecord record = own_record();
  record.start_id += 1;
  const fs::path file = put(record);
  EXPECT_TRUE(read().processes.empty());
  EXPECT_FALSE(fs::exists(file));
}

TEST_F(Reader, ALivingProcessThatIsSilentIsShownWithItsAge) {
  RunRecord record = own_record();
  record.written -= 3600;
  const fs::path file = put(record);
  const Look look = read();
  ASSERT_EQ(look.processes.size(), 1u);
  EXPECT_GE(look.processes[0].silent_s, 3599);
  EXPECT_TRUE(fs::exists(file));
}

TEST_F(Reader, ARecordOfUnknownStartIsForgottenWhenItIsOld) {
  RunRecord record = own_record();
  record.start_id = 0;
  static_cast<void>(put(record));
  EXPECT_EQ(read().processes.size(), 1u);
  record.written -= kForgetAfter + 5;
  const fs::path file = put(record);
  EXPECT_TRUE(read().processes.empty());
  EXPECT_FALSE(fs::exists(file));
}

TEST_F(Reader, AClockThatWentBackIsNoNegativeAge) {
  RunRecord record = own_record();
  record.written += 3600;
  static_cast<void>(put(record));
  const Look look = read();
  ASSERT_EQ(look.processes.size(), 1u);
  EXPECT_EQ(look.processes[0].silent_s, 0);
}

TEST_F(Reader, ForeignAndHostileContentIsPassedOverAndLeftAlone) {
  const RunRecord record = own_record();
  static_cast<void>(put(record));
  static_cast<void>(dir_.file("notes.txt", "hello"));
  static_cast<void>(dir_.file("1.json.bak", "{}"));
  static_cast<void>(dir_.file("01.json", text_of(record)));
  static_cast<void>(dir_.file("-1.json", text_of(record)));
  static_cast<void>(dir_.file("99999999999999999999.json", text_of(record)));
  static_cast<void>(dir_.file("1.json", text_of(record)));            // another process than its name says
  static_cast<void>(dir_.file("2.json", "{\"pid\": 2, \"start"));     // broken off
  static_cast<void>(dir_.file("3.json", std::string(1 << 20, ' ')));  // too large
  static_cast<void>(dir_.file("4.json", std::string(50000, '[')));    // deep
  static_cast<void>(dir_.file("5.json", std::string("{}\0{}", 5)));
  fs::create_directory(dir_ / "6.json");
  ASSERT_EQ(::mkfifo((dir_ / "7.json").c_str(), 0600), 0);
  fs::create_symlink(dir_ / status_file_name(record.pid), dir_ / "8.json");
  fs::create_symlink("/dev/zero", dir_ / "9.json");
  static_cast<void>(dir_.file("10.json", ""));
  ASSERT_EQ(::chmod(dir_.file("11.json", text_of(record)).c_str(), 0), 0);
  const int before = dir_.entries();
  const Look look = read();
  EXPECT_EQ(pids_in(look), std::vector<int64_t>{::getpid()});
  EXPECT_TRUE(look.problems.empty());
  EXPECT_EQ(dir_.entries(), before);
}

TEST_F(Reader, AFileOfAnotherUserIsPassedOver) {
  if (::geteuid() != 0) GTEST_SKIP() << "NOT RUN: only root can make one";
  ASSERT_EQ(::chown(put(own_record()).c_str(), 12345, 12345), 0);
  EXPECT_TRUE(read().processes.empty());
}

TEST_F(Reader, TemporaryFilesOfDeadProcessesAreRemovedAndThoseOfLivingOnesStay) {
  Child child;
  const fs::path theirs = dir_.file(temporary_file_name(child.pid()), "{");
  const fs::path ours = dir_.file(temporary_file_name(::getpid()), "{");
  child.end();
  static_cast<void>(read());
  EXPECT_FALSE(fs::exists(theirs));
  EXPECT_TRUE(fs::exists(ours));
}

TEST_F(Reader, AProcessThatIsInTwoFoldersCountsOnceWithItsLastWord) {
  const test::TempDir other;
  ::chmod(other.path().c_str(), 0700);
  RunRecord record = own_record();
  static_cast<void>(put(record));
  record.written += 1;
  record.phase = "prefill";
  static_cast<void>(other.file(status_file_name(record.pid), text_of(record)));
  for (const auto& folders : {std::vector<fs::path>{dir_.path(), other.path()}, {other.path(), dir_.path()}}) {
    const Look look = read_processes(folders);
    ASSERT_EQ(look.processes.size(), 1u);
    EXPECT_EQ(look.processes[0].record.phase, "prefill");
  }
}

TEST_F(Reader, AFolderThatCannotBeTrustedIsAProblemAndAMissingOneIsNot) {
  static_cast<void>(put(own_record()));
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  const Look look = read();
  EXPECT_TRUE(look.processes.empty());
  EXPECT_EQ(look.problems.size(), 1u);
  EXPECT_TRUE(read_processes(std::vector<fs::path>{dir_ / "none"}).problems.empty());
}

TEST_F(Reader, SignalsReachOnlyTheProcessThatWasMeant) {
  Child child;
  RunRecord record = test::record(child.pid());
  record.start_id = process_state(child.pid()).start_id;
  RunRecord other = record;
  other.start_id += 1;
  EXPECT_EQ(signal_process(other, SIGTERM), "it has ended");
  EXPECT_TRUE(process_state(child.pid()).alive);
  EXPECT_EQ(signal_process(record, SIGTERM), "");
  int status = 0;
  ASSERT_EQ(::waitpid(child.pid(), &status, 0), child.pid());
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(signal_process(record, SIGTERM), "it has ended");
}

TEST(ProcessState, KnowsTheLivingFromTheDead) {
  const ProcessState ours = process_state(::getpid());
  EXPECT_TRUE(ours.alive);
  EXPECT_GT(ours.start_id, 0);
  EXPECT_EQ(process_state(::getpid()).start_id, ours.start_id);
  for (const int64_t pid : {int64_t{0}, int64_t{-1}, int64_t{1} << 40}) EXPECT_FALSE(process_state(pid).alive);
}

TEST(Sorting, IsByTheKeyThenByTheId) {
  RunRecord a = test::record(1, "b");
  RunRecord b = test::record(2, "a");
  RunRecord c = test::record(3, "a");
  a.phase = "decode";
  b.phase = "load";
  c.phase = "unheard of";
  a.tok_s = 5;
  b.tok_s = 50;
  c.tok_s = 5;
  a.rss_mb = 100;
  b.rss_mb = 10;
  c.rss_mb = 10;
  c.device_mb = 500;
  const auto sorted = [&](SortKey key) {
    Look look = test::look_of({c, a, b});
    sort_processes(look.processes, key);
    return pids_in(look);
  };
  EXPECT_EQ(sorted(SortKey::kPid), (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(sorted(SortKey::kModel), (std::vector<int64_t>{2, 3, 1}));
  EXPECT_EQ(sorted(SortKey::kPhase), (std::vector<int64_t>{2, 1, 3}));
  EXPECT_EQ(sorted(SortKey::kTokS), (std::vector<int64_t>{2, 1, 3}));
  EXPECT_EQ(sorted(SortKey::kMemory), (std::vector<int64_t>{3, 1, 2}));
}

TEST(Sorting, KeysHaveNamesAndGoRound) {
  SortKey key = SortKey::kPid;
  for (const char* name : {"pid", "model", "phase", "tok_s", "memory", "pid"}) {
    EXPECT_STREQ(sort_key_name(key), name);
    EXPECT_EQ(parse_sort_key(name), key);
    key = next_sort_key(key);
  }
  test::expect_error([] { static_cast<void>(parse_sort_key("size")); }, ExitCode::kUsage, {"--sort", "tok_s", "size"});
}

}  // namespace
}  // namespace xlstm
