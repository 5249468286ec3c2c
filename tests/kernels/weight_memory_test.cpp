#include "kernels/cpu/weight_memory.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace xlstm::cpu {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

std::byte* begin_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.mutable_data_ptr());
}

TEST(WeightMemory, PiecesBeginOnCacheLinesAndDoNotOverlap) {
  WeightMemory memory;
  std::vector<at::Tensor> pieces;
  // More than one chunk together, with sizes around the cache line and one that fits into no rest of a chunk.
  for (const int64_t bytes : {int64_t{1}, int64_t{64}, int64_t{65}, int64_t{127}, 40 * kMiB, 40 * kMiB + 1, int64_t{3},
                              64 * kMiB, int64_t{5}}) {
    pieces.push_back(memory.allocate(bytes));
    ASSERT_EQ(pieces.back().numel(), bytes);
    ASSERT_EQ(pieces.back().scalar_type(), at::kByte);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(begin_of(pieces.back())) % 64, 0U) << bytes;
  }
  // All of a piece is memory: the last byte too of those that stepped to a chunk of their own.
  for (size_t i = 0; i < pieces.size(); ++i) {
    begin_of(pieces[i])[0] = begin_of(pieces[i])[pieces[i].numel() - 1] = static_cast<std::byte>(i + 1);
  }
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(begin_of(pieces[i])[0], static_cast<std::byte>(i + 1));
    EXPECT_EQ(begin_of(pieces[i])[pieces[i].numel() - 1], static_cast<std::byte>(i + 1));
    for (size_t j = 0; j < i; ++j) {
      const bool apart = begin_of(pieces[i]) >= begin_of(pieces[j]) + pieces[j].numel() ||
                         begin_of(pieces[j]) >= begin_of(pieces[i]) + pieces[i].numel();
      EXPECT_TRUE(apart) << "pieces " << i << " and " << j;
    }
  }
}

TEST(WeightMemory, SmallPiecesLieBehindEachOtherInOneChunk) {
  WeightMemory memory;
  const at::Tensor first = memory.allocate(100);
  const at::Tensor second = memory.allocate(1);
  const at::Tensor third = memory.allocate(1);
  EXPECT_EQ(begin_of(second) - begin_of(first), 128);
  EXPECT_EQ(begin_of(third) - begin_of(second), 64);
}

TEST(WeightMemory, APieceLargerThanAChunkCanBeWrittenToItsLastByte) {
  WeightMemory memory;
  const at::Tensor before = memory.allocate(10);
  const at::Tensor large = memory.allocate(64 * kMiB + 1);
  const at::Tensor behind = memory.allocate(10);
  std::memset(begin_of(before), 1, 10);
  begin_of(large)[0] = std::byte{2};
  begin_of(large)[64 * kMiB] = std::byte{3};
  std::memset(begin_of(behind), 4, 10);
  EXPECT_TRUE((before == 1).all().item<bool>());
  EXPECT_EQ(begin_of(large)[0], std::byte{2});
  EXPECT_EQ(begin_of(large)[64 * kMiB], std::byte{3});
  EXPECT_TRUE((behind == 4).all().item<bool>());
}

TEST(WeightMemory, TensorsKeepTheirChunkWhenTheObjectAndTheirNeighboursAreGone) {
  at::Tensor kept;
  at::Tensor view;
  {
    auto memory = std::make_unique<WeightMemory>();
    const at::Tensor neighbour = memory->allocate(1000);
    kept = memory->allocate(1000);
    view = memory->allocate(1000).narrow(0, 500, 10);
    kept.fill_(7);
    view.fill_(8);
    static_cast<void>(memory->allocate(100 * kMiB));  // the object itself has moved on to another chunk
  }
  EXPECT_TRUE((kept == 7).all().item<bool>());
  EXPECT_TRUE((view == 8).all().item<bool>());
}

}  // namespace
}  // namespace xlstm::cpu
