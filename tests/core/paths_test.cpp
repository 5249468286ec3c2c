#include "xlstm/core/paths.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace xlstm {
namespace {

namespace fs = std::filesystem;

TEST(Paths, ExecutablePathIsThisProgram) {
  const fs::path path = executable_path();
  EXPECT_TRUE(path.is_absolute());
  EXPECT_EQ(path.filename(), "test_core");
  EXPECT_TRUE(fs::is_regular_file(path));
}

TEST(Paths, FindsFilesOfTheSourceTree) {
  EXPECT_EQ(find_shipped("CMakeLists.txt"), fs::path(XLSTM_SOURCE_DIR) / "CMakeLists.txt");
  EXPECT_EQ(find_shipped("src"), fs::path(XLSTM_SOURCE_DIR) / "src");
}

TEST(Paths, TheSourceTreeMayUseAnotherName) {
  EXPECT_EQ(find_shipped("goldens/tales", "tests/data/goldens/tales"),
            fs::path(XLSTM_SOURCE_DIR) / "tests/data/goldens/tales");
}

TEST(Paths, WhatIsNowhereIsNotFound) {
  EXPECT_EQ(find_shipped("no/such/thing"), std::nullopt);
  EXPECT_EQ(find_shipped("src", "no/such/thing"), std::nullopt) << "the name in the source tree replaces the other";
}

TEST(Paths, AnInstalledFileBeatsTheSourceTree) {
  const fs::path share = executable_path().parent_path().parent_path() / "share" / "xlstm_generate";
  const fs::path installed = share / "paths_test_only";
  fs::create_directories(share);
  std::ofstream(installed) << "x";
  EXPECT_EQ(find_shipped("paths_test_only", "CMakeLists.txt"), installed);
  fs::remove(installed);
  EXPECT_EQ(find_shipped("paths_test_only", "CMakeLists.txt"), fs::path(XLSTM_SOURCE_DIR) / "CMakeLists.txt");
}

}  // namespace
}  // namespace xlstm
