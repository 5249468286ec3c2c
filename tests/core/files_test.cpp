#include "xlstm/core/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>
#include <utility>

#include "tests/support/expect_error.h"
#include "tests/support/temp_dir.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempDir;

std::string text_of(const MappedFile& file) {
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(ReadFile, ReturnsEveryByte) {
  const TempDir dir;
  std::string content(200'001, '\0');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 % 251);
  EXPECT_EQ(read_file(dir.file("data", content), ExitCode::kUsage), content);
  EXPECT_EQ(read_file(dir.file("empty", ""), ExitCode::kUsage), "");
}

TEST(ReadFile, ReadsPipesToTheirEnd) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  ASSERT_EQ(::write(ends[1], "from a pipe", 11), 11);
  ::close(ends[1]);
  EXPECT_EQ(read_file("/dev/fd/" + std::to_string(ends[0]), ExitCode::kUsage), "from a pipe");
  ::close(ends[0]);
}

TEST(ReadFile, ReportsMissingFilesAndFoldersWithTheCallersExitCode) {
  const TempDir dir;
  expect_error([&] { (void)read_file(dir / "absent", ExitCode::kUsage); }, ExitCode::kUsage,
               {"file (", "absent", "No such file"});
  expect_error([&] { (void)read_file(dir.path(), ExitCode::kCheckpoint); }, ExitCode::kCheckpoint, {"directory"});
}

TEST(MappedFile, HoldsTheFilesBytes) {
  const TempDir dir;
  const MappedFile file(dir.file("data", "safetensors"), ExitCode::kCheckpoint);
  EXPECT_EQ(text_of(file), "safetensors");
}

TEST(MappedFile, AnEmptyFileGivesAnEmptySpan) {
  const TempDir dir;
  const MappedFile file(dir.file("empty", ""), ExitCode::kCheckpoint);
  EXPECT_TRUE(file.bytes().empty());
  EXPECT_TRUE(MappedFile().bytes().empty());
}

TEST(MappedFile, KeepsItsBytesWhenMovedAndWhenTheFileIsDeleted) {
  const TempDir dir;
  const fs::path path = dir.file("data", "abc");
  MappedFile first(path, ExitCode::kCheckpoint);
  MappedFile second(std::move(first));
  EXPECT_EQ(text_of(second), "abc");
  MappedFile third(dir.file("other", "x"), ExitCode::kCheckpoint);
  third = std::move(second);
  fs::remove(path);
  EXPECT_EQ(text_of(third), "abc");
}

TEST(MappedFile, DroppedPagesCanBeReadAgain) {
  const TempDir dir;
  const std::string content(300'000, 'p');
  const MappedFile file(dir.file("data", content), ExitCode::kCheckpoint);
  file.drop_pages(0, content.size());
  file.drop_pages(5, 1);
  file.drop_pages(content.size(), 1'000'000);
  EXPECT_EQ(text_of(file), content);
}

TEST(MappedFile, RefusesWhatIsNoRegularFileWithoutWaiting) {
  const TempDir dir;
  const fs::path pipe = dir / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_error([&] { MappedFile file(pipe, ExitCode::kCheckpoint); }, ExitCode::kCheckpoint, {"a regular file"});
  expect_error([&] { MappedFile file(dir.path(), ExitCode::kCheckpoint); }, ExitCode::kCheckpoint, {"a directory"});
  expect_error([&] { MappedFile file(dir / "absent", ExitCode::kCheckpoint); }, ExitCode::kCheckpoint,
               {"absent", "No such file"});
}

TEST(AtomicFile, CommitPutsTheWholeFileInPlace) {
  const TempDir dir;
  const fs::path path = dir / "out.bin";
  AtomicFile file(path);
  file.write("first ");
  file.write("second");
  EXPECT_FALSE(fs::exists(path)) << "nothing is visible before commit";
  file.commit();
  EXPECT_EQ(read_file(path, ExitCode::kUsage), "first second");
  EXPECT_EQ(dir.entries(), 1);
}

TEST(AtomicFile, WithoutCommitTheOldFileStaysAndNothingElse) {
  const TempDir dir;
  const fs::path path = dir.file("out", "old");
  {
    AtomicFile file(path);
    file.write("new");
  }
  EXPECT_EQ(read_file(path, ExitCode::kUsage), "old");
  EXPECT_EQ(dir.entries(), 1);
}

TEST(AtomicFile, CommitReplacesAnExistingFile) {
  const TempDir dir;
  const fs::path path = dir.file("out", "a much longer old content");
  AtomicFile file(path);
  file.write("new");
  file.commit();
  EXPECT_EQ(read_file(path, ExitCode::kUsage), "new");
}

TEST(AtomicFile, ALinkToAFileStaysALink) {
  const TempDir dir;
  const fs::path target = dir.file("target", "old");
  fs::create_symlink("target", dir / "link");
  AtomicFile file(dir / "link");
  file.write("new");
  file.commit();
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(read_file(target, ExitCode::kUsage), "new");
}

TEST(AtomicFile, NewFilesFollowTheUmask) {
  const TempDir dir;
  const mode_t before = ::umask(027);
  {
    AtomicFile file(dir / "out");
    file.commit();
  }
  ::umask(before);
  EXPECT_EQ(fs::status(dir / "out").permissions(), static_cast<fs::perms>(0640));
}

TEST(AtomicFile, TwoWritersOfOnePathDoNotMix) {
  const TempDir dir;
  AtomicFile first(dir / "out");
  AtomicFile second(dir / "out");
  first.write("first");
  second.write("second");
  first.commit();
  second.commit();
  EXPECT_EQ(read_file(dir / "out", ExitCode::kUsage), "second");
  EXPECT_EQ(dir.entries(), 1);
}

TEST(AtomicFile, WriteAtFillsPlacesInAnyOrderAndDoesNotMoveWrite) {
  const TempDir dir;
  AtomicFile file(dir / "out");
  file.write("head");
  file.write_at(8, "tail", 4);
  file.write_at(6, "x", 1);
  file.write("er");         // at 4 and 5
  file.write_at(0, "", 0);  // nothing
  file.write_at(0, "H", 1);
  file.commit();
  EXPECT_EQ(read_file(dir / "out", ExitCode::kUsage), std::string("Headerx\0tail", 12));
}

TEST(AtomicFile, RefusesPlacesThatCannotBeWritten) {
  const TempDir dir;
  expect_error([&] { AtomicFile file(dir / "absent/out"); }, ExitCode::kOutput, {"absent/out", "No such file"});
  expect_error([&] { AtomicFile file(dir.path()); }, ExitCode::kOutput, {"a directory"});
  expect_error([&] { AtomicFile file(dir / std::string(300, 'n')); }, ExitCode::kOutput, {"too long"});
}

TEST(AtomicFile, NeverReplacesADevice) {
  expect_error([&] { AtomicFile file("/dev/null"); }, ExitCode::kOutput, {"/dev/null", "a new or a regular file"});
}

// Limits the size of files this process writes, so that write() fails as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  rlimit before_{};
};

TEST(AtomicFile, AFullDiskLeavesTheOldFileAndNoHalfFile) {
  const TempDir dir;
  const fs::path path = dir.file("state.safetensors", "old");
  {
    const FileSizeLimit limit(10'000);
    expect_error(
        [&] {
          AtomicFile file(path);
          const std::string block(4096, 'x');
          for (int i = 0; i < 100; ++i) file.write(block);
          file.commit();
        },
        ExitCode::kOutput, {"output file", "state.safetensors", "room to write"});
  }
  EXPECT_EQ(read_file(path, ExitCode::kUsage), "old");
  EXPECT_EQ(dir.entries(), 1);
}

TEST(AtomicFile, WriteAtBeyondTheDiskIsReported) {
  const TempDir dir;
  {
    const FileSizeLimit limit(10'000);
    AtomicFile file(dir / "out");
    expect_error([&] { file.write_at(20'000, "x", 1); }, ExitCode::kOutput, {"output file", "room to write"});
  }
  EXPECT_EQ(dir.entries(), 0);
}

TEST(AtomicFile, AFolderThatVanishesBeforeCommitIsReported) {
  const TempDir dir;
  fs::create_directory(dir / "sub");
  AtomicFile file(dir / "sub/out");
  file.write("x");
  fs::remove_all(dir / "sub");
  expect_error([&] { file.commit(); }, ExitCode::kOutput, {"sub/out"});
}

}  // namespace
}  // namespace xlstm
