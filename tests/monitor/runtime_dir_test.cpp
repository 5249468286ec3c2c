#include "xlstm/monitor/runtime_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/temp_dir.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

mode_t mode_of(const fs::path& path) {
  struct stat info {};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0);
  return info.st_mode & 07777;
}

std::string user_folder() {
  return cat("xlstm_generate-", ::geteuid());
}

TEST(RuntimeDir, PrefersXdgRuntimeDir) {
  const test::TempDir dir;
  std::string why;
  const auto opened = open_publish_directory({dir.path().string(), "/nonexistent"}, why);
  ASSERT_TRUE(opened) << why;
  EXPECT_EQ(opened->path(), dir / "xlstm_generate");
  EXPECT_EQ(mode_of(opened->path()), 0700u);
}

TEST(RuntimeDir, FallsBackToTheTemporaryFolder) {
  const test::TempDir dir;
  for (const std::string xdg : {"", "relative/path", "/nonexistent/folder"}) {
    std::string why;
    const auto opened = open_publish_directory({xdg, dir.path().string()}, why);
    ASSERT_TRUE(opened) << why;
    EXPECT_EQ(opened->path(), dir / user_folder());
    EXPECT_EQ(mode_of(opened->path()), 0700u);
  }
}

TEST(RuntimeDir, AnXdgRuntimeDirThatOthersCanWriteToIsNotUsed) {
  const test::TempDir xdg;
  const test::TempDir temporary;
  ASSERT_EQ(::chmod(xdg.path().c_str(), 0777), 0);
  std::string why;
  const auto opened = open_publish_directory({xdg.path().string(), temporary.path().string()}, why);
  ASSERT_TRUE(opened) << why;
  EXPECT_EQ(opened->path(), temporary / user_folder());
  EXPECT_EQ(xdg.entries(), 0);
}

TEST(RuntimeDir, ALinkIsRefused) {
  const test::TempDir dir;
  const test::TempDir planted;
  fs::create_directory_symlink(planted.path(), dir / user_folder());
  std::string why;
  EXPECT_FALSE(open_publish_directory({"", dir.path().string()}, why));
  EXPECT_THAT(why, HasSubstr("not a folder"));
  EXPECT_EQ(planted.entries(), 0);
}

TEST(RuntimeDir, AFileInItsPlaceIsRefused) {
  const test::TempDir dir;
  static_cast<void>(dir.file(user_folder(), "x"));
  std::string why;
  EXPECT_FALSE(open_publish_directory({"", dir.path().string()}, why));
  EXPECT_THAT(why, HasSubstr("not a folder"));
}

TEST(RuntimeDir, AFolderOpenToOthersIsRefused) {
  const test::TempDir dir;
  fs::create_directory(dir / user_folder());
  for (const mode_t mode : std::vector<mode_t>{0770, 0705, 0701}) {
    ASSERT_EQ(::chmod((dir / user_folder()).c_str(), mode), 0);
    std::string why;
    EXPECT_FALSE(open_publish_directory({"", dir.path().string()}, why));
    EXPECT_THAT(why, HasSubstr("0700"));
  }
}

TEST(RuntimeDir, AFolderOfAnotherUserIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "NOT RUN: only root can make one";
  const test::TempDir dir;
  fs::create_directory(dir / user_folder());
  ASSERT_EQ(::chmod((dir / user_folder()).c_str(), 0700), 0);
  ASSERT_EQ(::chown((dir / user_folder()).c_str(), 12345, 12345), 0);
  std::string why;
  EXPECT_FALSE(open_publish_directory({"", dir.path().string()}, why));
  EXPECT_THAT(why, HasSubstr("another user"));
}

TEST(RuntimeDir, ReadingMakesNoFolderAndReportsOnlyUntrustworthyOnes) {
  const test::TempDir dir;
  std::vector<std::string> problems;
  static_cast<void>(open_read_directories({dir.path().string(), dir.path().string()}, problems));
  EXPECT_EQ(dir.entries(), 0);
  EXPECT_THAT(problems, testing::Not(testing::Contains(HasSubstr(dir.path().string()))));

  fs::create_directory(dir / user_folder());
  ASSERT_EQ(::chmod((dir / user_folder()).c_str(), 0777), 0);
  static_cast<void>(open_read_directories({"", dir.path().string()}, problems));
  EXPECT_THAT(problems, testing::Contains(HasSubstr(dir.path().string())));
}

TEST(RuntimeDir, ReadingLooksWhereARunWithoutXdgRuntimeDirWrites) {
  const test::TempDir dir;
  std::string why;
  const auto written = open_publish_directory({"", dir.path().string()}, why);
  ASSERT_TRUE(written) << why;
  const test::TempDir xdg;
  std::vector<std::string> problems;
  std::vector<fs::path> paths;
  for (const auto& opened : open_read_directories({xdg.path().string(), dir.path().string()}, problems)) {
    paths.push_back(opened.path());
  }
  EXPECT_THAT(paths, testing::Contains(written->path()));
}

}  // namespace
}  // namespace xlstm
