// The reader of this very machine.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tests/support/temp_dir.h"
#include "xlstm/core/files.h"
#include "xlstm/memory/memory_reader.h"

namespace xlstm {
namespace {

constexpr size_t kBlock = size_t{64} << 20;

TEST(SystemReader, TellsPlausibleNumbers) {
  const HostMemory memory = make_system_reader()->read();
  EXPECT_GT(memory.used, uint64_t{1} << 16);
  EXPECT_GT(memory.resident, 0U);
  EXPECT_GT(memory.limit, memory.used);
  EXPECT_GT(memory.available, 0U);
  EXPECT_FALSE(memory.limit_name.empty());
}

TEST(SystemReader, CountsMemoryThatWasWrittenTo) {
  const auto reader = make_system_reader();
  const uint64_t before = reader->read().used;
  const std::string block(kBlock, 'x');
  const uint64_t after = reader->read().used;
  EXPECT_EQ(block.back(), 'x');
  EXPECT_GT(after, before + kBlock / 2);
}

TEST(SystemReader, CountsSharedMemory) {
  const auto reader = make_system_reader();
  const uint64_t before = reader->read().used;
  void* memory = ::mmap(nullptr, kBlock, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  for (size_t i = 0; i < kBlock; i += 4096) static_cast<volatile char*>(memory)[i] = 1;
  const uint64_t after = reader->read().used;
  ::munmap(memory, kBlock);
  EXPECT_GT(after, before + kBlock / 2);
}

// A float32 checkpoint of 27 GB is mapped while it is made into 7 GB of int8.
TEST(SystemReader, DoesNotCountPagesOfMappedFiles) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "NOT RUN: ThreadSanitizer keeps anonymous memory of its own for every byte that is read";
#endif
  const test::TempDir dir;
  const auto path = dir.file("weights", std::string(kBlock, 'x'));
  const auto reader = make_system_reader();
  const MappedFile file(path, ExitCode::kCheckpoint);
  const HostMemory before = reader->read();
  size_t sum = 0;
  for (const std::byte byte : file.bytes()) sum += static_cast<size_t>(byte);
  const HostMemory after = reader->read();
  EXPECT_EQ(sum, kBlock * 'x');
  EXPECT_LT(after.used, before.used + kBlock / 2);
#if defined(__linux__)
  EXPECT_GT(after.resident, before.resident + kBlock / 2);
#endif
}

}  // namespace
}  // namespace xlstm
