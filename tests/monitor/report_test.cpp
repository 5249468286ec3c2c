#include "xlstm/monitor/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/monitor/records.h"

namespace xlstm {
namespace {

using test::look_of;
using test::record;
using testing::HasSubstr;

TEST(MonitorReport, AnEmptyTableSaysSo) {
  EXPECT_EQ(table_text(look_of({})), "no xlstm_generate process is running\n");
}

TEST(MonitorReport, TheTableHasALinePerProcessInAlignedColumns) {
  EXPECT_EQ(table_text(look_of({record(7), record(12345, "xLSTM-7b")})),
            "  PID  COMMAND   MODEL     DEVICE  DTYPE     PHASE   DONE  TOK/S  RSS_MB  DEVICE_MB  PROFILE\n"
            "    7  generate  tales     cpu     bfloat16  decode   50%    102    1500          -  golden_ray_cpu\n"
            "12345  generate  xLSTM-7b  cpu     bfloat16  decode   50%    102    1500          -  golden_ray_cpu\n");
}

TEST(MonitorReport, ATableOfSilentAndNamelessProcessesHasNoEmptyFields) {
  Look look = look_of({record(7, "")});
  look.processes[0].record.profile = "";
  look.processes[0].silent_s = kSilentAfter;
  const std::string table = table_text(look);
  EXPECT_THAT(table, HasSubstr("silent"));
  EXPECT_THAT(table, HasSubstr("  -\n"));
}

TEST(MonitorReport, TheTableIsSafeToPrint) {
  const std::string table = table_text(look_of({record(7, "evil\x1b[2J\nmodel")}));
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 2);
  EXPECT_EQ(table.find('\x1b'), std::string::npos);
}

TEST(MonitorReport, JsonHoldsEveryFieldOfTheRecord) {
  const nlohmann::json json = nlohmann::json::parse(look_json(look_of({record(7)})).dump());
  ASSERT_EQ(json.at("processes").size(), 1u);
  const nlohmann::json& process = json["processes"][0];
  EXPECT_EQ(process.at("pid"), 7);
  EXPECT_EQ(process.at("tok_s"), 101.5);
  EXPECT_EQ(process.at("silent_s"), 0);
  EXPECT_EQ(process.size(), to_json(record(7)).size() + 1);
  EXPECT_TRUE(nlohmann::json::parse(look_json(look_of({})).dump()).at("processes").empty());
}

TEST(MonitorReport, ProgressIsInUnitsOfThePhase) {
  RunRecord r = record(1);
  EXPECT_EQ(progress_text(r), "50%");
  EXPECT_EQ(done_text(r), "64 of 128 tokens");
  r.phase = "load";
  r.done = 1'500'000'000;
  r.total = 3'000'000'000;
  EXPECT_EQ(done_text(r), "1.5 GB of 3.0 GB");
  r.total = 0;
  EXPECT_EQ(progress_text(r), "1.5 GB");
  EXPECT_EQ(done_share(r), 0);
  r.phase = "tune";
  r.done = 4;
  EXPECT_EQ(done_text(r), "4 trials");
  r.phase = "other";
  r.done = 0;
  EXPECT_EQ(progress_text(r), "-");
  EXPECT_EQ(done_text(r), "");
}

TEST(MonitorReport, MoreThanAllIsAll) {
  RunRecord r = record(1);
  r.done = 1000;
  EXPECT_EQ(progress_text(r), "100%");
  EXPECT_EQ(done_share(r), 1);
}

TEST(MonitorReport, SpeedsHaveThreeFiguresOrSo) {
  EXPECT_EQ(speed_text(0), "0.00");
  EXPECT_EQ(speed_text(9.994), "9.99");
  EXPECT_EQ(speed_text(9.996), "10.0");
  EXPECT_EQ(speed_text(99.96), "100");
  EXPECT_EQ(speed_text(12345.6), "12346");
}

}  // namespace
}  // namespace xlstm
