#include "xlstm/monitor/run_record.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "tests/monitor/records.h"

namespace xlstm {
namespace {

TEST(RunRecord, ComesBackFromItsJson) {
  const RunRecord before = test::record(42);
  const std::optional<RunRecord> after = parse_run_record(to_json(before).dump());
  ASSERT_TRUE(after);
  EXPECT_EQ(*after, before);
}

TEST(RunRecord, UnknownKeysArePassedOverAndMissingOnesKeepTheirDefault) {
  const auto record = parse_run_record(
      R"({"pid": 7, "start_id": 1, "written": 2, "command": "generate", "phase": "dream", "colour": [1, {}]})");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->pid, 7);
  EXPECT_EQ(record->phase, "dream");
  EXPECT_EQ(record->tok_s, 0);
  EXPECT_EQ(record->model, "");
}

TEST(RunRecord, NumbersThatAreNotFiniteAreWrittenAsZero) {
  RunRecord record = test::record(42);
  record.tok_s = std::numeric_limits<double>::infinity();
  record.rss_mb = std::numeric_limits<double>::quiet_NaN();
  const auto after = parse_run_record(to_json(record).dump());
  ASSERT_TRUE(after);
  EXPECT_EQ(after->tok_s, 0);
  EXPECT_EQ(after->rss_mb, 0);
}

class RefusedRecord : public testing::TestWithParam<const char*> {};

TEST_P(RefusedRecord, IsNone) {
  EXPECT_FALSE(parse_run_record(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(
    RunRecord, RefusedRecord,
    testing::Values("", "null", "[]", "{}", "{", "not JSON", R"({"pid": 1})",
                    R"({"start_id": 1, "written": 2, "command": "g", "phase": "p"})",
                    R"({"pid": 0, "start_id": 1, "written": 2, "command": "g", "phase": "p"})",
                    R"({"pid": -1, "start_id": 1, "written": 2, "command": "g", "phase": "p"})",
                    R"({"pid": 1.5, "start_id": 1, "written": 2, "command": "g", "phase": "p"})",
                    R"({"pid": "1", "start_id": 1, "written": 2, "command": "g", "phase": "p"})",
                    R"({"pid": 1, "pid": 1, "start_id": 1, "written": 2, "command": "g", "phase": "p"})",
                    R"({"pid": 1, "start_id": 18446744073709551615, "written": 2, "command": "g", "phase": "p"})",
                    R"({"pid": 1, "start_id": 1, "written": 1e999, "command": "g", "phase": "p"})",
                    R"({"pid": 1, "start_id": 1, "written": 2, "command": null, "phase": "p"})",
                    R"({"pid": 1, "start_id": 1, "written": 2, "command": "g", "phase": 3})",
                    R"({"pid": 1, "start_id": 1, "written": 2, "command": "g", "phase": "p", "tok_s": -1})",
                    R"({"pid": 1, "start_id": 1, "written": 2, "command": "g", "phase": "p", "done": "many"})"));

TEST(RunRecord, MemoryIsJudgedByTheLinesThatThereAre) {
  EXPECT_EQ(memory_mark(99, 100, 200), MemoryMark::kBelow);
  EXPECT_EQ(memory_mark(100, 100, 200), MemoryMark::kSoft);
  EXPECT_EQ(memory_mark(200, 100, 200), MemoryMark::kHard);
  EXPECT_EQ(memory_mark(1e9, 0, 0), MemoryMark::kBelow);
  EXPECT_EQ(memory_mark(150, 0, 100), MemoryMark::kHard);
}

TEST(RunRecord, HostMemoryIsJudgedWithoutMappedFiles) {
  RunRecord record = test::record(1);
  record.rss_mb = 20000;
  record.anon_mb = 7999;
  EXPECT_EQ(host_memory_mark(record), MemoryMark::kBelow);
  record.anon_mb = 8001;
  EXPECT_EQ(host_memory_mark(record), MemoryMark::kSoft);
}

}  // namespace
}  // namespace xlstm
