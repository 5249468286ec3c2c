#include "tests/cuda_emulator/emulator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cuda/product.h"
#include "kernels/cuda/queue.h"
#include "tests/cuda_emulator/include/emulated_types.h"
#include "tests/cuda_emulator/samples.h"

namespace xlstm::cuda_emulator {
namespace {

using namespace cuda::samples;

using testing::HasSubstr;

constexpr size_t kLanes = 32;
constexpr size_t kValuesOfBlock = 256;

struct alignas(16) Four {
  std::array<float, 4> values;
};

// The sums of `blocks` blocks, from aligned memory.
std::vector<float> sums(SumsFault fault, unsigned blocks = 5) {
  cuda::Queue queue(0);
  std::vector<Four> in(kValuesOfBlock / 4 * blocks + 1);
  for (size_t i = 0; i < in.size(); ++i) {
    for (size_t j = 0; j < 4; ++j) in[i].values[j] = static_cast<float>((4 * i + j) % 1000);
  }
  std::vector<float> out(blocks);
  sum_blocks(queue, blocks, {in.front().values.data(), out.data(), fault});
  return out;
}

std::vector<float> expected_sums(unsigned blocks = 5) {
  std::vector<float> expected(blocks);
  for (size_t i = 0; i < kValuesOfBlock * blocks; ++i) expected[i / kValuesOfBlock] += static_cast<float>(i % 1000);
  return expected;
}

template <class Run>
std::string fault_in(const Run& run) {
  try {
    static_cast<void>(run());
  } catch (const Fault& error) {
    return error.what();
  }
  return "none";
}

std::string fault_of(SumsFault fault) {
  return fault_in([&] { return sums(fault); });
}

TEST(CudaEmulator, FunctionsOfAWarpMoveValuesBetweenLanes) {
  std::array<int32_t, kLanes> in{};
  for (size_t i = 0; i < kLanes; ++i) in[i] = static_cast<int32_t>(i * i + 10);
  std::vector<int64_t> out(kLanes * WarpFunctions::kResults);
  cuda::Queue queue(0);
  warp_functions(queue, {in.data(), out.data()});
  for (size_t lane = 0; lane < kLanes; ++lane) {
    SCOPED_TRACE(lane);
    const int64_t next = in[(lane + 1) % kLanes];
    const std::vector<int64_t> expected = {in[(lane * 7 + 3) % kLanes],
                                           in[lane ^ 5],
                                           in[lane < 3 ? lane : lane - 3],
                                           in[lane + 3 < kLanes ? lane + 3 : lane],
                                           in[lane / 8 * 8 + 2],
                                           next << 32 | next,
                                           0xaaaaaaaa,
                                           1,
                                           0};
    const auto begin = out.begin() + static_cast<std::ptrdiff_t>(lane * WarpFunctions::kResults);
    EXPECT_EQ(std::vector<int64_t>(begin, begin + WarpFunctions::kResults), expected);
  }
}

TEST(CudaEmulator, MatrixUnitsMultiplyBfloat16) {
  std::array<__nv_bfloat16, 16 * 16> a{};
  std::array<__nv_bfloat16, 16 * 8> b{};
  for (size_t i = 0; i < a.size(); ++i) a[i] = __float2bfloat16(static_cast<float>(i * 37 % 29) - 14);
  for (size_t i = 0; i < b.size(); ++i) b[i] = __float2bfloat16(static_cast<float>(i * 53 % 31) - 15);
  std::array<float, 16 * 8> c{};
  c.fill(0.5F);
  cuda::Queue queue(0);
  multiply_by_matrix_units(queue, {a.data(), b.data(), c.data(), 1});
  for (size_t i = 0; i < c.size(); ++i) {
    float expected = 0.5F;
    for (size_t k = 0; k < 16; ++k)
      expected += __bfloat162float(a[i / 8 * 16 + k]) * __bfloat162float(b[k * 8 + i % 8]);
    EXPECT_EQ(c[i], expected) << i;
  }
}

TEST(CudaEmulator, MatrixUnitsMultiplyTheUpperBitsOfFloats) {
  std::array<float, 16 * 8> a{};
  std::array<float, 8 * 8> b{};
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i * 37 % 29) - 14;
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i * 53 % 31) - 15;
  std::array<float, 16 * 8> expected{};
  for (size_t i = 0; i < expected.size(); ++i) {
    for (size_t k = 0; k < 8; ++k) expected[i] += a[i / 8 * 8 + k] * b[k * 8 + i % 8];
  }
  // What the units do not see.
  for (float& value : a) value *= 1 + std::ldexp(1.0F, -11);
  std::array<float, 16 * 8> c{};
  cuda::Queue queue(0);
  multiply_by_matrix_units(queue, {a.data(), b.data(), c.data(), 0});
  EXPECT_EQ(c, expected);
}

TEST(CudaEmulator, ASoundKernelComputes) {
  EXPECT_EQ(sums(kSound), expected_sums());
  EXPECT_EQ(sums(kSound, 1), expected_sums(1));
  const auto bytes = [] {
    const std::vector<float> result = sums(kSound);
    return std::string(reinterpret_cast<const char*>(result.data()), result.size() * sizeof(float));
  };
  EXPECT_EQ(order_dependence(bytes), "");
}

TEST(CudaEmulator, MissingSynchronisationShowsInTheResults) {
  EXPECT_NE(sums(kNoBarrier), expected_sums());
  for (const float sum : sums(kNoWaitForCopies)) EXPECT_TRUE(std::isnan(sum));
}

TEST(CudaEmulator, FaultsEndTheLaunchWithTheirPlace) {
  EXPECT_THAT(fault_of(kLanesDiverge),
              testing::AllOf(HasSubstr("sum_block (block "), HasSubstr("thread "), HasSubstr("the kernel's end"),
                             HasSubstr("__syncthreads of line")));
  EXPECT_THAT(fault_of(kWarpsDiverge), HasSubstr("the kernel's end"));
  EXPECT_THAT(fault_of(kMisalignedCopy), HasSubstr("copy_async_16 of a misaligned address"));
  EXPECT_THAT(fault_of(kSecondCopy), HasSubstr("copies to where another copy may still go"));
  EXPECT_THAT(fault_of(kNoWaitForPrevious), HasSubstr("wait_for_previous()"));
  EXPECT_EQ(sums(kSound), expected_sums()) << "after faults";
}

constexpr int64_t kStreamRows = 11;
constexpr size_t kStreamColumns = 7 * cuda::kLineBytes;  // the last line of the second box is not there

std::vector<uint8_t> streamed_matrix() {
  std::vector<uint8_t> matrix(kStreamRows * kStreamColumns);
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<uint8_t>(i * i % 251);
  return matrix;
}

std::vector<int32_t> streamed_sums(StreamFault fault) {
  constexpr size_t kAlignment = 16;
  const std::vector<uint8_t> matrix = streamed_matrix();
  std::vector<uint8_t> memory(matrix.size() + kAlignment);
  uint8_t* const aligned =
      memory.data() + (kAlignment - reinterpret_cast<uintptr_t>(memory.data()) % kAlignment) % kAlignment;
  std::copy(matrix.begin(), matrix.end(), aligned);
  std::vector<int32_t> out(size_t{2} * cuda::kBoxLines, -1);
  cuda::Queue queue(0);
  stream_boxes(queue, {queue.tensor_map(aligned, kStreamColumns, kStreamRows), out.data(), fault});
  return out;
}

std::string stream_fault_of(StreamFault fault) {
  return fault_in([&] { return streamed_sums(fault); });
}

TEST(CudaEmulator, BoxesOfAMatrixStreamThroughSharedMemory) {
  std::vector<int32_t> expected(size_t{2} * cuda::kBoxLines);
  const std::vector<uint8_t> matrix = streamed_matrix();
  for (size_t i = 0; i < matrix.size(); ++i) expected[i % kStreamColumns / cuda::kLineBytes] += matrix[i];
  const ScopedSettings saved;
  for (const Order order : {Order::kForward, Order::kReversed, Order::kShuffled}) {
    settings().order = order;
    EXPECT_EQ(streamed_sums(kSoundStream), expected);
  }
}

TEST(CudaEmulator, FaultsOfBarriersEndTheLaunchWithTheirPlace) {
  EXPECT_THAT(stream_fault_of(kNoPhaseWait), HasSubstr("ends before its copies"));
  EXPECT_THAT(stream_fault_of(kNoRelease), HasSubstr("wait_at of line"));
  EXPECT_THAT(stream_fault_of(kWrongBytes), HasSubstr("wait_at of line"));
  EXPECT_THAT(stream_fault_of(kUnpublished), HasSubstr("not initialised and published"));
  EXPECT_THAT(stream_fault_of(kInitsTwice), HasSubstr("initialised twice"));
  EXPECT_THAT(stream_fault_of(kWritesOver), HasSubstr("something else was written over"));
  EXPECT_THAT(stream_fault_of(kArrivesTwice), HasSubstr("one arrival too many"));
  EXPECT_THAT(stream_fault_of(kLeavesCopies), HasSubstr("ends before its copies"));
  EXPECT_THAT(stream_fault_of(kMisplacedBox), HasSubstr("copy_box to a misaligned address"));
  EXPECT_THAT(stream_fault_of(kBarrierOfTooMany), HasSubstr("sync_threads of line"));
  EXPECT_EQ(stream_fault_of(kSoundStream), "none") << "after faults";
}

TEST(CudaEmulator, TheProcessorsFaultsEndTheLaunch) {
  if (!has_checks()) GTEST_SKIP() << "NOT RUN: built with a sanitizer, which ends the program itself";
  EXPECT_THAT(fault_of(kPastShared), testing::AllOf(HasSubstr("where no memory is"), HasSubstr("thread 77")));
  EXPECT_THAT(fault_of(kMisalignedVector), HasSubstr("a misaligned access"));
  EXPECT_EQ(sums(kSound), expected_sums()) << "after faults";
}

TEST(CudaEmulator, RefusesArgumentsWithPadding) {
#if __has_builtin(__builtin_clear_padding)
  cuda::Queue queue(0);
  float out = 0;
  EXPECT_THROW(run_with_padding(queue, {&out, 3}), Fault);
#endif
}

TEST(CudaEmulator, ConvertsHalves) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float wide = __half2float(__ushort_as_half(static_cast<uint16_t>(bits)));
    if (std::isnan(wide)) continue;
    ASSERT_EQ(__half_as_ushort(__float2half(wide)), bits);
    const uint32_t exponent = bits >> 10 & 0x1f;
    const double fraction = static_cast<double>(bits & 0x3ff) / 1024;
    const double magnitude = exponent == 0x1f ? std::numeric_limits<double>::infinity()
                             : exponent == 0  ? std::ldexp(fraction, -14)
                                              : std::ldexp(1 + fraction, static_cast<int>(exponent) - 15);
    ASSERT_EQ(static_cast<double>(wide), (bits & 0x8000) != 0 ? -magnitude : magnitude);
  }
  // Ties go to the even neighbour: between the smallest two, above 1, above the greatest.
  EXPECT_EQ(__half_as_ushort(__float2half(0x1p-25F)), 0);
  EXPECT_EQ(__half_as_ushort(__float2half(0x3p-25F)), 2);
  EXPECT_EQ(__half_as_ushort(__float2half(1 + 0x1p-11F)), 0x3c00);
  EXPECT_EQ(__half_as_ushort(__float2half(1 + 0x3p-11F)), 0x3c02);
  EXPECT_EQ(__half_as_ushort(__float2half(65519.0F)), 0x7bff);
  EXPECT_EQ(__half_as_ushort(__float2half(65520.0F)), 0x7c00);
}

TEST(CudaEmulator, RoundsToBfloat16) {
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16(1 + 0x1p-8F)), 0x3f80);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16(1 + 0x3p-8F)), 0x3f82);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16(-1 - 0x1.8p-8F)), 0xbf81);
  EXPECT_EQ(__bfloat16_as_ushort(__float2bfloat16(std::numeric_limits<float>::max())), 0x7f80);
  EXPECT_TRUE(std::isnan(__bfloat162float(__float2bfloat16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(CudaEmulator, TheLibrarysProductMultipliesStridedRows) {
  constexpr int64_t kOut = 35, kIn = 3, kRows = 9, kWeightStride = 4, kXStride = 5, kYStride = 40;
  std::vector<float> weight(kOut * kWeightStride);
  std::vector<float> x(kRows * kXStride);
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<float>(i % 11) - 5;
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7) - 3;
  std::vector<float> y(kRows * kYStride, 2);
  cuda::Queue queue(0);
  cuda::library_multiply(
      queue, {weight.data(), x.data(), y.data(), kOut, kIn, kRows, kWeightStride, kXStride, kYStride, 0, 0, 1});
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t column = 0; column < kYStride; ++column) {
      float expected = 2;
      for (int64_t i = 0; i < kIn && column < kOut; ++i) {
        expected +=
            weight[static_cast<size_t>(column * kWeightStride + i)] * x[static_cast<size_t>(row * kXStride + i)];
      }
      EXPECT_EQ(y[static_cast<size_t>(row * kYStride + column)], expected) << row << ' ' << column;
    }
  }
}

}  // namespace
}  // namespace xlstm::cuda_emulator
