#include "xlstm/core/atomic_directory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"
#include "xlstm/core/emergency_files.h"
#include "xlstm/core/files.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempDir;

void write_file(const fs::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

TEST(AtomicDirectory, CommitPutsItInPlaceWithEverythingInIt) {
  const TempDir dir;
  AtomicDirectory out(dir / "out");
  write_file(out.file("a"), "first");
  write_file(out.path() / "b", "second");
  EXPECT_FALSE(fs::exists(dir / "out")) << "nothing is visible before commit";
  out.commit();
  EXPECT_EQ(read_file(dir / "out/a", ExitCode::kUsage), "first");
  EXPECT_EQ(read_file(dir / "out/b", ExitCode::kUsage), "second");
  EXPECT_EQ(dir.entries(), 1);
}

TEST(AtomicDirectory, WithoutCommitNothingStays) {
  const TempDir dir;
  {
    AtomicDirectory out(dir / "out");
    write_file(out.file("a"), "first");
    fs::create_directory(out.path() / "sub");
    write_file(out.path() / "sub/b", "second");
  }
  EXPECT_EQ(dir.entries(), 0);
}

TEST(AtomicDirectory, AnEmptyDirectoryIsReplacedAndAFullOneIsNot) {
  const TempDir dir;
  fs::create_directory(dir / "empty");
  AtomicDirectory empty(dir / "empty");
  write_file(empty.file("a"), "x");
  empty.commit();
  EXPECT_TRUE(fs::exists(dir / "empty/a"));
  {
    AtomicDirectory full(dir / "empty");
    write_file(full.file("b"), "x");
    expect_error([&] { full.commit(); }, ExitCode::kOutput, {"output directory", "empty", "a free name"});
  }
  EXPECT_TRUE(fs::exists(dir / "empty/a"));
  EXPECT_FALSE(fs::exists(dir / "empty/b"));
  EXPECT_EQ(dir.entries(), 1) << "the temporary directory is gone";
}

TEST(AtomicDirectory, PlacesThatCannotBeWrittenAreRefused) {
  const TempDir dir;
  expect_error([&] { const AtomicDirectory out(dir / "absent/out"); }, ExitCode::kOutput,
               {"output directory", "absent/out", "No such file"});
  // Of an earlier process of the same number: it is not ours to remove.
  const std::string taken = "out.tmp-" + std::to_string(::getpid());
  fs::create_directory(dir / taken);
  expect_error([&] { const AtomicDirectory out(dir / "out"); }, ExitCode::kOutput, {"exists"});
  EXPECT_TRUE(fs::exists(dir / taken));
}

TEST(AtomicDirectory, ASignalRemovesTheTemporaryAndNeverTheTarget) {
  const TempDir dir;
  AtomicDirectory done(dir / "done");
  write_file(done.file("a"), "x");
  done.commit();
  AtomicDirectory out(dir / "out");
  write_file(out.file("a"), "x");
  AtomicFile half(out.file("b"));
  half.write("half a file");
  remove_emergency_files();  // what the signal handlers do
  EXPECT_FALSE(fs::exists(out.path()));
  EXPECT_TRUE(fs::exists(dir / "done/a"));
  EXPECT_EQ(dir.entries(), 1);
}

TEST(AtomicDirectory, MoreFilesThanASignalCanRemoveLeaveTheTemporaryAlone) {
  const TempDir dir;
  AtomicDirectory out(dir / "out");
  for (int i = 0; i < kMaxEmergencyFiles + 3; ++i) write_file(out.file(std::to_string(i)), "x");
  remove_emergency_files();
  EXPECT_TRUE(fs::exists(out.path()));
  EXPECT_FALSE(fs::exists(dir / "out"));
}

}  // namespace
}  // namespace xlstm
