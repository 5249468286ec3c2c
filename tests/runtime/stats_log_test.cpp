#include "xlstm/runtime/stats_log.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdlib>

#include "tests/support/expect_error.h"
#include "tests/support/run_program.h"
#include "tests/support/temp_dir.h"

namespace xlstm {
namespace {

TEST(StatsLog, WritesARowPerIntervalWithMeanAndCumulativeTimes) {
  const test::TempDir dir;
  StatsLog log((dir / "stats.csv").string(), /*every=*/2);
  log.add({1, 0.010});
  log.add({2, 0.030});
  log.add({3, 0.010});
  log.finish();
  EXPECT_EQ(test::read_all(dir / "stats.csv"),
            "step,dt_ms,cum_ms,inst_tok_s,avg_tok_s\n"
            "2,20.0000,40.000,50.00,50.00\n");
}

TEST(StatsLog, KeepsTheRowsOfARunThatFailedHalfWay) {
  const test::TempDir dir;
  {
    StatsLog log((dir / "stats.csv").string(), 1);
    log.add({1, 0.5});
  }
  EXPECT_EQ(test::read_all(dir / "stats.csv"),
            "step,dt_ms,cum_ms,inst_tok_s,avg_tok_s\n1,500.0000,500.000,2.00,2.00\n");
  EXPECT_EQ(dir.entries(), 1);
}

TEST(StatsLog, LeavesNoFileWhenARowCannotBeWritten) {
  const test::TempDir dir;
  const std::string path = (dir / "stats.csv").string();
  // In a process of its own, whose files may hold 64 bytes.
  const auto run = [&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{64, 64};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int code = 0;
    try {
      StatsLog log(path, 1);
      log.add({1, 0.5});
      log.add({2, 0.5});
    } catch (const Error& error) {
      code = static_cast<int>(error.code());
    }
    std::_Exit(code);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(6), "");
  EXPECT_EQ(dir.entries(), 0);
}

TEST(StatsLog, WritesNothingWithoutAPath) {
  StatsLog log("", 1);
  log.add({1, 0.5});
  EXPECT_NO_THROW(log.finish());
}

TEST(StatsLog, RefusesAPlaceThatCannotBeWritten) {
  test::expect_error([] { const StatsLog log("/no/such/folder/stats.csv", 1); }, ExitCode::kOutput,
                     {"/no/such/folder/stats.csv"});
}

}  // namespace
}  // namespace xlstm
