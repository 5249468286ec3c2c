#include "xlstm/core/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"
#include "xlstm/core/files.h"

namespace xlstm {
namespace {

using test::expect_error;
using test::TempDir;
using testing::HasSubstr;
using testing::Not;

class Log : public testing::Test {
 protected:
  void TearDown() override { log::configure(log::Level::kInfo, ""); }
  const TempDir dir_;
};

TEST_F(Log, LevelNamesParseToTheirLevels) {
  const auto& names = log::level_names();
  ASSERT_EQ(names.size(), 6u);
  for (size_t i = 0; i < names.size(); ++i) EXPECT_EQ(static_cast<size_t>(log::parse_level(names[i])), i) << names[i];
}

TEST_F(Log, AnUnknownLevelIsAUsageErrorThatListsTheKnownOnes) {
  for (const char* name : {"loud", "", "INFO", "info "}) {
    expect_error([&] { (void)log::parse_level(name); }, ExitCode::kUsage,
                 {"log_level", "trace, debug, info, warn, error, off"});
  }
}

TEST_F(Log, MessagesBelowTheLevelAreDropped) {
  const std::string file = (dir_ / "run.log").string();
  log::configure(log::Level::kWarn, file);
  testing::internal::CaptureStderr();
  log::debug("d-message");
  log::info("i-message");
  log::warn("w-message");
  log::error("e-message");
  log::flush();
  const std::string on_stderr = testing::internal::GetCapturedStderr();
  for (const std::string& text : {on_stderr, read_file(file, ExitCode::kUsage)}) {
    EXPECT_THAT(text, Not(HasSubstr("d-message")));
    EXPECT_THAT(text, Not(HasSubstr("i-message")));
    EXPECT_THAT(text, HasSubstr("w-message"));
    EXPECT_THAT(text, HasSubstr("e-message"));
  }
  EXPECT_FALSE(log::enabled(log::Level::kInfo));
  EXPECT_TRUE(log::enabled(log::Level::kError));
}

TEST_F(Log, NothingGoesToStdout) {
  log::configure(log::Level::kTrace, "");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  log::debug("one");
  log::error("two");
  log::flush();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("two"));
}

TEST_F(Log, OffSilencesEverything) {
  log::configure(log::Level::kOff, "");
  testing::internal::CaptureStderr();
  log::error("unheard");
  log::flush();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(Log, BracesInAMessageAreText) {
  testing::internal::CaptureStderr();
  log::error("{} {0} {name} %s");
  log::flush();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("{} {0} {name} %s"));
}

TEST_F(Log, ALogFileIsAppendedTo) {
  const std::string file = (dir_ / "run.log").string();
  for (const char* message : {"first run", "second run"}) {
    log::configure(log::Level::kInfo, file);
    log::info(message);
    log::flush();
  }
  const std::string text = read_file(file, ExitCode::kUsage);
  EXPECT_THAT(text, HasSubstr("first run"));
  EXPECT_THAT(text, HasSubstr("second run"));
}

TEST_F(Log, ALogFileThatCannotBeOpenedIsAnOutputError) {
  expect_error([&] { log::configure(log::Level::kInfo, dir_.path().string()); }, ExitCode::kOutput,
               {"log_file", dir_.path().string()});
}

TEST_F(Log, MessagesOfManyThreadsStayWholeLines) {
  const std::string file = (dir_ / "run.log").string();
  log::configure(log::Level::kInfo, file);
  testing::internal::CaptureStderr();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 250; ++i) log::info("a message of one line");
    });
  }
  for (std::thread& thread : threads) thread.join();
  log::flush();
  (void)testing::internal::GetCapturedStderr();
  const std::string text = read_file(file, ExitCode::kUsage);
  int lines = 0;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1, ++lines) {
    ASSERT_TRUE(text.substr(begin, end - begin).ends_with(" a message of one line")) << "line " << lines;
  }
  EXPECT_EQ(lines, 1000);
}

}  // namespace
}  // namespace xlstm
