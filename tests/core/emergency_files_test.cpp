#include "xlstm/core/emergency_files.h"

#include <gtest/gtest.h>

#include <fstream>
#include <list>
#include <optional>
#include <string>
#include <utility>

#include "tests/support/temp_dir.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using test::TempDir;

TEST(EmergencyFiles, FilesAndEmptyDirectoriesThatAreRegisteredAreRemovedAndNoOthers) {
  const TempDir dir;
  const fs::path file = dir.file("file", "x");
  const fs::path other = dir.file("other", "x");
  fs::create_directory(dir / "empty");
  fs::create_directory(dir / "full");
  const fs::path inside = dir.file("full/inside", "x");
  const EmergencyFile a(file);
  const EmergencyFile b(dir / "empty");
  const EmergencyFile c(dir / "full");
  const EmergencyFile d(dir / "absent");
  remove_emergency_files();
  EXPECT_FALSE(fs::exists(file));
  EXPECT_FALSE(fs::exists(dir / "empty"));
  EXPECT_TRUE(fs::exists(inside)) << "a directory is never emptied";
  EXPECT_TRUE(fs::exists(other));
}

TEST(EmergencyFiles, WhatIsNoLongerRegisteredStays) {
  const TempDir dir;
  const fs::path file = dir.file("file", "x");
  { const EmergencyFile registered(file); }
  remove_emergency_files();
  EXPECT_TRUE(fs::exists(file));
}

TEST(EmergencyFiles, LaterOnesGoFirstWhicheverPlacesWereFree) {
  const TempDir dir;
  fs::create_directory(dir / "sub");
  const fs::path inside = dir.file("sub/inside", "x");
  std::optional<EmergencyFile> earlier(std::in_place, dir / "earlier");
  const EmergencyFile directory(dir / "sub");
  earlier.reset();
  const EmergencyFile file(inside);  // takes the place that became free before the directory's
  remove_emergency_files();
  EXPECT_FALSE(fs::exists(dir / "sub"));
}

TEST(EmergencyFiles, ThoseBeyondTheLimitStayAndPlacesAreUsedAgain) {
  const TempDir dir;
  std::list<EmergencyFile> files;
  for (int i = 0; i < kMaxEmergencyFiles; ++i) files.emplace_back(dir.file(std::to_string(i), "x"));
  const fs::path beyond = dir.file("beyond", "x");
  {
    const EmergencyFile one_more(beyond);
    remove_emergency_files();
    EXPECT_TRUE(fs::exists(beyond));
    EXPECT_EQ(dir.entries(), 1);
  }
  files.pop_front();
  const EmergencyFile again(beyond);
  remove_emergency_files();
  EXPECT_FALSE(fs::exists(beyond));
}

TEST(EmergencyFiles, PathsAreCoveredUpToTheirGreatestLengthOnly) {
  const TempDir dir;
  std::string path = dir.path().string();
  while (path.size() < 900) path += "/" + std::string(60, 'd');
  fs::create_directories(path);
  const std::string longest = path + "/" + std::string(1023 - path.size() - 1, 'f');
  const std::string longer = path + "/" + std::string(1024 - path.size() - 1, 'f');
  for (const std::string& name : {longest, longer}) std::ofstream(name) << "x";
  const EmergencyFile a(longest);
  const EmergencyFile b(longer);
  remove_emergency_files();
  EXPECT_FALSE(fs::exists(longest));
  EXPECT_TRUE(fs::exists(longer));
}

}  // namespace
}  // namespace xlstm
