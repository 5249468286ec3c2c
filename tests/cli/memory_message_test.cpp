#include "src/cli/memory_message.h"

#include <gtest/gtest.h>

namespace xlstm {
namespace {

TEST(MemoryMessage, SaysWhatWasAskedOfTheHost) {
  const char* const message =
      "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
      "4000000000 bytes. Error code 12 (Cannot allocate memory)";
  EXPECT_TRUE(is_about_memory(message));
  EXPECT_EQ(memory_message(message),
            "memory (libtorch): expected room for the tensors of this run, got none for 4000000000 bytes");
}

TEST(MemoryMessage, SaysWhatWasAskedOfADeviceAndWhatItHas) {
  const char* const message =
      "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 139.80 GiB of which 5.19 MiB is "
      "free. Including non-PyTorch memory, this process has 139.70 GiB memory in use.";
  EXPECT_TRUE(is_about_memory(message));
  EXPECT_EQ(memory_message(message),
            "memory (libtorch): expected room for the tensors of this run, got none for 20.50 GiB; 5.19 MiB of the "
            "device's 139.80 GiB are free");
}

TEST(MemoryMessage, DoesWithoutNumbers) {
  EXPECT_TRUE(is_about_memory("CUDA error: out of memory"));
  EXPECT_EQ(memory_message("CUDA error: out of memory"),
            "memory (libtorch): expected room for the tensors of this run, got none");
  EXPECT_FALSE(is_about_memory("mat1 and mat2 shapes cannot be multiplied"));
}

}  // namespace
}  // namespace xlstm
