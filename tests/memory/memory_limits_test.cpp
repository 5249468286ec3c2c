#include "xlstm/memory/memory_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace xlstm {
namespace {

constexpr uint64_t kMB = 1000000;

HostMemory using_mb(uint64_t used) {
  HostMemory host;
  host.used = used * kMB;
  host.limit = 1000 * kMB;
  host.limit_name = "cgroup";
  host.available = 600 * kMB;
  return host;
}

DeviceSample driver_mb(uint64_t driver) {
  return {driver * kMB / 2, driver * kMB, 1000 * kMB};
}

GuardLimits limits(double soft_mb = 0, double hard_mb = 0) {
  return {0.85, 0.92, soft_mb, hard_mb};
}

TEST(GuardLimits, AreTheSettings) {
  RuntimeOpts opts;
  opts.mem_soft_pct = 0.1;
  opts.mem_hard_pct = 0.2;
  opts.mem_soft_mb = 3;
  opts.mem_hard_mb = 4;
  const GuardLimits from = guard_limits(opts);
  EXPECT_EQ(from.soft_share, 0.1);
  EXPECT_EQ(from.hard_share, 0.2);
  EXPECT_EQ(from.soft_mb, 3);
  EXPECT_EQ(from.hard_mb, 4);
}

TEST(JudgeHost, CrossesALineByReachingIt) {
  EXPECT_EQ(judge_host(limits(), using_mb(849)).level, MemoryLevel::kNone);
  EXPECT_EQ(judge_host(limits(), using_mb(850)).level, MemoryLevel::kSoft);
  EXPECT_EQ(judge_host(limits(), using_mb(919)).level, MemoryLevel::kSoft);
  EXPECT_EQ(judge_host(limits(), using_mb(920)).level, MemoryLevel::kHard);
}

TEST(JudgeHost, NamesTheNumbersOfTheLineThatWasCrossed) {
  const MemoryVerdict soft = judge_host(limits(), using_mb(860));
  EXPECT_EQ(soft.used, 860 * kMB);
  EXPECT_EQ(soft.line, 850 * kMB);
  EXPECT_EQ(soft.origin, "85% of 1000.0 MB, cgroup");
  EXPECT_EQ(judge_host(limits(), using_mb(930)).origin, "92% of 1000.0 MB, cgroup");
}

TEST(JudgeHost, LetsMegabytesWinOverTheShare) {
  const MemoryVerdict lower = judge_host(limits(200, 300), using_mb(250));
  EXPECT_EQ(lower.level, MemoryLevel::kSoft);
  EXPECT_EQ(lower.line, 200 * kMB);
  EXPECT_EQ(lower.origin, "mem_soft_mb");
  EXPECT_EQ(judge_host(limits(200, 300), using_mb(300)).origin, "mem_hard_mb");
  EXPECT_EQ(judge_host(limits(2000, 3000), using_mb(999)).level, MemoryLevel::kNone);
}

TEST(JudgeHost, TreatsASoftLineAboveTheHardOneAsTheHardOne) {
  const GuardLines lines = host_lines(limits(0, 300), using_mb(0));
  EXPECT_EQ(lines.soft, 300 * kMB);
  EXPECT_EQ(lines.hard, 300 * kMB);
  EXPECT_EQ(judge_host(limits(0, 300), using_mb(299)).level, MemoryLevel::kNone);
  EXPECT_EQ(judge_host(limits(0, 300), using_mb(300)).level, MemoryLevel::kHard);
}

TEST(JudgeHost, HasNoLinesWithoutALimitUnlessMegabytesAreGiven) {
  HostMemory unknown = using_mb(500);
  unknown.limit = 0;
  EXPECT_EQ(judge_host(limits(), unknown).level, MemoryLevel::kNone);
  EXPECT_EQ(judge_host(limits(100), unknown).level, MemoryLevel::kSoft);
}

TEST(JudgeHost, TakesAnyNumberOfMegabytes) {
  EXPECT_EQ(judge_host(limits(1e300, 1e300), using_mb(999)).level, MemoryLevel::kNone);
  EXPECT_EQ(judge_host(limits(1e-300, 1e-300), using_mb(1)).level, MemoryLevel::kHard);
}

TEST(JudgeDevice, ComparesDriverMemoryWithWhatTheDeviceRecommends) {
  EXPECT_EQ(judge_device(limits(), driver_mb(849)).level, MemoryLevel::kNone);
  EXPECT_EQ(judge_device(limits(), driver_mb(850)).level, MemoryLevel::kSoft);
  const MemoryVerdict hard = judge_device(limits(), driver_mb(950));
  EXPECT_EQ(hard.level, MemoryLevel::kHard);
  EXPECT_EQ(hard.used, 950 * kMB);
  EXPECT_EQ(hard.line, 920 * kMB);
  EXPECT_EQ(hard.origin, "92% of 1000.0 MB, recommended by the device");
}

TEST(JudgeDevice, LeavesMegabytesToTheProcess) {
  EXPECT_EQ(judge_device(limits(1, 1), driver_mb(500)).level, MemoryLevel::kNone);
}

TEST(JudgeDevice, HasNothingToSayWithoutADevice) {
  EXPECT_EQ(judge_device(limits(), {}).level, MemoryLevel::kNone);
}

TEST(HostRoom, IsWhatIsAvailableOrWhatTheGuardLeaves) {
  const MemoryRoom unguarded = host_room(using_mb(800), nullptr);
  EXPECT_EQ(unguarded.bytes, 600 * kMB);
  EXPECT_EQ(unguarded.bound, "available under the cgroup limit");
  const GuardLimits guard = limits();
  const MemoryRoom guarded = host_room(using_mb(800), &guard);
  EXPECT_EQ(guarded.bytes, 120 * kMB);
  EXPECT_THAT(guarded.bound, testing::HasSubstr("hard limit"));
  EXPECT_EQ(host_room(using_mb(100), &guard).bound, "available under the cgroup limit");
  EXPECT_EQ(host_room(using_mb(990), &guard).bytes, 0U);
}

TEST(DeviceRoom, IsBelowTheRecommendationAndUnlimitedWithoutOne) {
  const GuardLimits guard = limits();
  EXPECT_EQ(device_room(driver_mb(400), nullptr).bytes, 600 * kMB);
  EXPECT_EQ(device_room(driver_mb(400), &guard).bytes, 520 * kMB);
  EXPECT_EQ(device_room(driver_mb(990), &guard).bytes, 0U);
  EXPECT_EQ(device_room({}, &guard).bytes, UINT64_MAX);
}

}  // namespace
}  // namespace xlstm
