// The Linux reader over invented /proc and control group trees.
#if defined(__linux__)

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"
#include "xlstm/core/str.h"
#include "xlstm/memory/memory_reader.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;

constexpr const char* kVersion2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* kVersion1 =
    "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
    "32 23 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n";

// A machine of 8 GiB of which 6 GiB are available; this process uses 100 + 20 + 4 MiB.
class LinuxReaderTest : public testing::Test {
 protected:
  LinuxReaderTest() {
    write("proc/self/status",
          "Name:\tx\nVmSize:\t  819200 kB\nVmData:\t  204800 kB\nVmRSS:\t  153600 kB\nRssAnon:\t  102400 kB\n"
          "RssFile:\t   30720 kB\nRssShmem:\t   20480 kB\nVmSwap:\t    4096 kB\n");
    write("proc/meminfo", "MemTotal:    8388608 kB\nMemFree:     1048576 kB\nMemAvailable: 6291456 kB\n");
    limits("unlimited", "unlimited");
  }

  void write(const std::string& name, const std::string& text) {
    fs::create_directories((root_ / name).parent_path());
    static_cast<void>(root_.file(name, text));
  }
  void limits(const std::string& data, const std::string& address_space) {
    write("proc/self/limits", cat("Limit                     Soft Limit           Hard Limit           Units     \n",
                                  "Max data size             ", data, "            unlimited            bytes     \n",
                                  "Max stack size            8388608              unlimited            bytes     \n",
                                  "Max address space         ", address_space, "         unlimited     bytes     \n"));
  }
  void groups(const std::string& cgroup, const std::string& mountinfo) {
    write("proc/self/cgroup", cgroup);
    write("proc/self/mountinfo", mountinfo);
  }
  // A group of version 2.
  void group(const std::string& folder, const std::string& max, uint64_t current, uint64_t file_pages = 0) {
    write(folder + "/memory.max", max + "\n");
    write(folder + "/memory.current", cat(current, "\n"));
    write(folder + "/memory.stat", cat("anon 1\nfile 999999999999\ninactive_file ", file_pages / 2, "\nactive_file ",
                                       file_pages - file_pages / 2, "\nslab_reclaimable 0\n"));
  }
  [[nodiscard]] HostMemory read() const { return make_system_reader(root_.path())->read(); }

  test::TempDir root_;
};

TEST_F(LinuxReaderTest, CountsAnonymousSharedAndSwappedMemoryButNotMappedFiles) {
  const HostMemory memory = read();
  EXPECT_EQ(memory.resident, 150 * kMiB);
  EXPECT_EQ(memory.used, 124 * kMiB);
  EXPECT_EQ(memory.limit, 8192 * kMiB);
  EXPECT_EQ(memory.limit_name, "machine");
  EXPECT_EQ(memory.available, 6144 * kMiB);
}

TEST_F(LinuxReaderTest, CountsAllResidentMemoryWhereTheKernelDoesNotTellMore) {
  write("proc/self/status", "VmRSS:\t  153600 kB\n");
  EXPECT_EQ(read().used, 150 * kMiB);
}

TEST_F(LinuxReaderTest, TakesFreeMemoryWhereTheKernelDoesNotTellWhatIsAvailable) {
  write("proc/meminfo", "MemTotal:    8388608 kB\nMemFree:     1048576 kB\n");
  EXPECT_EQ(read().available, 1024 * kMiB);
}

TEST_F(LinuxReaderTest, FailsWithTheNameOfTheFileWhenItCannotReadItsOwnUse) {
  fs::remove(root_ / "proc/self/status");
  test::expect_error([&] { static_cast<void>(read()); }, ExitCode::kMemory, {"proc/self/status"});
  write("proc/self/status", "VmRSS:\t  lots kB\n");
  test::expect_error([&] { static_cast<void>(read()); }, ExitCode::kMemory, {"VmRSS"});
  write("proc/self/status", "");
  test::expect_error([&] { static_cast<void>(read()); }, ExitCode::kMemory, {"VmRSS"});
}

TEST_F(LinuxReaderTest, TakesTheLimitOfItsControlGroupVersion2) {
  groups("0::/user/run\n", kVersion2);
  group("sys/fs/cgroup/user/run", cat(1024 * kMiB), 300 * kMiB, 100 * kMiB);
  const HostMemory memory = read();
  EXPECT_EQ(memory.limit, 1024 * kMiB);
  EXPECT_EQ(memory.limit_name, "cgroup");
  EXPECT_EQ(memory.available, 824 * kMiB) << "file pages can be taken back";
}

TEST_F(LinuxReaderTest, TakesTheSmallestLimitOfTheGroupsAround) {
  groups("0::/a/b/c\n", kVersion2);
  group("sys/fs/cgroup/a/b/c", "max", 10 * kMiB);
  group("sys/fs/cgroup/a/b", cat(2048 * kMiB), 2000 * kMiB);
  group("sys/fs/cgroup/a", cat(1024 * kMiB), 100 * kMiB);
  const HostMemory memory = read();
  EXPECT_EQ(memory.limit, 1024 * kMiB);
  EXPECT_EQ(memory.available, 48 * kMiB) << "the fullest group counts, not the smallest";
}

TEST_F(LinuxReaderTest, TakesTheLimitOfItsControlGroupVersion1) {
  groups("4:cpu:/x\n3:hugetlb,memory:/user/run\n0::/\n", kVersion1);
  write("sys/fs/cgroup/memory/user/run/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/user/run/memory.usage_in_bytes", "5\n");
  write("sys/fs/cgroup/memory/user/memory.limit_in_bytes", cat(512 * kMiB, "\n"));
  write("sys/fs/cgroup/memory/user/memory.usage_in_bytes", cat(400 * kMiB, "\n"));
  write("sys/fs/cgroup/memory/user/memory.stat",
        cat("inactive_file 1\ntotal_inactive_file ", 30 * kMiB, "\ntotal_active_file ", 20 * kMiB, "\n"));
  const HostMemory memory = read();
  EXPECT_EQ(memory.limit, 512 * kMiB);
  EXPECT_EQ(memory.limit_name, "cgroup");
  EXPECT_EQ(memory.available, 162 * kMiB);
}

TEST_F(LinuxReaderTest, FindsItsLimitInAContainerThatSeesItsGroupAsTheRoot) {
  groups("0::/\n", kVersion2);
  group("sys/fs/cgroup", cat(256 * kMiB), 56 * kMiB);
  EXPECT_EQ(read().limit, 256 * kMiB);
  EXPECT_EQ(read().available, 200 * kMiB);
}

TEST_F(LinuxReaderTest, FindsItsLimitWhereThePathIsTheHostsAndTheMountIsTheGroup) {
  groups("5:memory:/docker/f00\n", "32 23 0:28 /docker/f00 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", cat(256 * kMiB, "\n"));
  EXPECT_EQ(read().limit, 256 * kMiB);
}

TEST_F(LinuxReaderTest, FindsItsLimitBelowAMountedGroup) {
  groups("0::/docker/f00/inner\n", "30 23 0:26 /docker/f00 /sys/fs/cgroup rw - cgroup2 none rw\n");
  group("sys/fs/cgroup", "max", 0);
  group("sys/fs/cgroup/inner", cat(128 * kMiB), 0);
  EXPECT_EQ(read().limit, 128 * kMiB);
}

TEST_F(LinuxReaderTest, TakesTheMountPointWhereItsPathLiesOutside) {
  groups("0::/../../elsewhere\n", kVersion2);
  group("sys/fs/cgroup", cat(64 * kMiB), 0);
  EXPECT_EQ(read().limit, 64 * kMiB);
  groups("0::/elsewhere\n", "30 23 0:26 /docker/f00 /sys/fs/cgroup rw - cgroup2 none rw\n");
  EXPECT_EQ(read().limit, 64 * kMiB);
}

TEST_F(LinuxReaderTest, UnderstandsMountPointsWithSpaces) {
  groups("0::/\n", "30 23 0:26 / /my\\040groups rw - cgroup2 none rw\n");
  group("my groups", cat(64 * kMiB), 0);
  EXPECT_EQ(read().limit, 64 * kMiB);
}

TEST_F(LinuxReaderTest, IsNotLimitedByGroupsThatAreUnlimitedMissingOrUnreadable) {
  groups("0::/user\n", kVersion2);
  EXPECT_EQ(read().limit_name, "machine") << "no memory controller";
  group("sys/fs/cgroup/user", "max", 10 * kMiB);
  EXPECT_EQ(read().limit_name, "machine");
  for (const char* nonsense : {"", "-1", "12 34", "99999999999999999999999", "a lot"}) {
    group("sys/fs/cgroup/user", nonsense, 10 * kMiB);
    EXPECT_EQ(read().limit_name, "machine") << nonsense;
  }
  groups("\n:::\n0\nnonsense", "\n- - -\n1 2 3 4 5 6 -\n - cgroup2\n");
  EXPECT_EQ(read().limit_name, "machine");
}

TEST_F(LinuxReaderTest, IsNotLimitedByAGroupThatMayUseMoreThanTheMachineHas) {
  groups("0::/\n", kVersion2);
  group("sys/fs/cgroup", cat(100000 * kMiB), 10 * kMiB);
  EXPECT_EQ(read().limit, 8192 * kMiB);
  EXPECT_EQ(read().limit_name, "machine");
  EXPECT_EQ(read().available, 6144 * kMiB);
}

TEST_F(LinuxReaderTest, HasNothingAvailableInAGroupThatIsFull) {
  groups("0::/\n", kVersion2);
  group("sys/fs/cgroup", cat(100 * kMiB), 101 * kMiB);
  EXPECT_EQ(read().available, 0U);
}

TEST_F(LinuxReaderTest, CanUseWhatIsLeftOfALimitOnVirtualMemory) {
  limits("unlimited", cat(1000 * kMiB));  // 800 MiB of it are taken
  HostMemory memory = read();
  EXPECT_EQ(memory.limit, (124 + 200) * kMiB);
  EXPECT_EQ(memory.limit_name, "RLIMIT_AS");
  EXPECT_EQ(memory.available, 200 * kMiB);
  limits(cat(250 * kMiB), cat(1000 * kMiB));  // 200 MiB of it are taken
  memory = read();
  EXPECT_EQ(memory.limit, (124 + 50) * kMiB);
  EXPECT_EQ(memory.limit_name, "RLIMIT_DATA");
  EXPECT_EQ(memory.available, 50 * kMiB);
  limits(cat(10 * kMiB), "unlimited");
  EXPECT_EQ(read().available, 0U);
}

TEST_F(LinuxReaderTest, IgnoresVirtualLimitsThatCannotBeRead) {
  fs::remove(root_ / "proc/self/limits");
  EXPECT_EQ(read().limit_name, "machine");
  write("proc/self/limits", "Max address space\nMax data size x y\n");
  EXPECT_EQ(read().limit_name, "machine");
}

}  // namespace
}  // namespace xlstm

#endif
