// What only CUDA's kernels have.
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/cell_recurrent.h"
#include "kernels/cuda/cuda_matrix.h"
#include "tests/kernels/cell_cases.h"
#include "tests/kernels/cell_reference.h"
#include "tests/kernels/op_dims.h"
#include "tests/kernels/random_tensors.h"
#include "tests/kernels_device/cuda_under_test.h"
#include "tests/kernels_device/expected_values.h"
#include "tests/kernels_device/ops_cases.h"

namespace xlstm {
namespace {

using test::from_device;
using test::on_device;
using test::Random;

// Inputs and intermediate values of the tiles' products are rounded to bfloat16: a handful of roundings of half a unit
// in the last of 8 significant bits.
const double kBfloatProducts = 8 * std::ldexp(1.0, -9);

TEST(CudaChunkwise, Bfloat16ProductsFollowTheRecurrence) {
  const auto device = test::make_cuda_under_test();
  uint64_t seed = 1;
  for (const ModelDims& dims : {test::cell_dims(2, 17, 31), test::cell_dims(2, 64, 128)}) {
    for (const int64_t chunk : {16, 64}) {
      const std::vector<Span> spans = test::make_spans({2 * chunk, 0, chunk});
      Random random(seed++);
      const Activations act = random.activations(dims, test::rows_of(spans));
      const LayerState before = random.state(dims, test::kCellSlots);
      const Activations placed = on_device(act, dims, *device);
      LayerState state = on_device(before, *device);
      make_cuda_chunkwise(dims, {.chunk_size = chunk, .bfloat16_products = true}, device->gpu())
          ->run({placed, state, spans});
      test::expect_cell(dims, from_device(placed), before, from_device(state), spans, kBfloatProducts);
      if (HasFatalFailure()) return;
    }
  }
}

// Their q, k and n leave the least room for C in a block's shared memory. h has the same bits whatever kernel and type
// of state.
TEST(CudaRecurrent, TheLongestHeadsFit) {
  const auto device = test::make_cuda_under_test();
  const std::vector<Span> spans = test::make_spans({1, 1});
  for (const int64_t dv : {3, 4, 8}) {
    const ModelDims dims = test::cell_dims(1, cuda::kMaxRecurrentDk, dv);
    Random random(7);
    const Activations act = random.activations(dims, 2);
    const LayerState narrow = random.state(dims, test::kCellSlots, at::kBFloat16);
    std::vector<at::Tensor> h;
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const LayerState before{narrow.c.to(dtype), narrow.n.to(dtype), narrow.m};
      for (const auto& kernel : {device->step(dims), device->sequence(dims)}) {
        const Activations placed = on_device(act, dims, *device);
        LayerState state = on_device(before, *device);
        kernel->run({placed, state, spans});
        const Activations result = from_device(placed);
        test::expect_cell(dims, result, before, from_device(state), spans, test::state_rounding(dtype));
        if (HasFatalFailure()) return;
        h.push_back(result.h.clone());
        EXPECT_TRUE(test::same_bits(h.back(), h.front())) << "dv " << dv << ", run " << h.size();
      }
    }
  }
}

// Whatever slices the matrix is widened in, and wherever its rows end.
TEST(CudaProduct, WidenedInSlicesIsTheProductOfTheWhole) {
  const auto device = test::make_cuda_under_test();
  constexpr int64_t kRows = 256;
  constexpr int64_t kIn = 75;
  const auto ops = device->ops(test::dims_of(test::kTiny));
  for (const int64_t out : {5, 128, 389}) {
    for (const test::Format& format : {test::Format{WeightFormat::kInt8, 0}, {WeightFormat::kInt4, 32}}) {
      Random random(static_cast<uint64_t>(out));
      const Linear canonical = random.linear(out, kIn, true, format);
      const Linear packed = ops->pack(canonical);
      const at::Tensor x = at::zeros({kRows, cuda::padded_columns(kIn)}, at::kBFloat16);
      x.narrow(1, 0, kIn).copy_(random.normal({kRows, kIn}, 1.0));
      const at::Tensor placed = device->place(x);
      const test::Values expected = test::multiplied(canonical, test::exactly(x.narrow(1, 0, kIn)), *ops);
      for (const int64_t slice : {int64_t{128}, int64_t{256}, out}) {  // the last: all at once
        const int64_t bytes = std::max<int64_t>(128, slice) * x.size(1) * static_cast<int64_t>(sizeof(uint16_t));
        const at::Tensor scratch = device->place(at::zeros({bytes}, at::kByte));
        const at::Tensor y = device->place(at::full({kRows, out + 3}, 7.0F));
        cuda::multiply_widened(device->gpu()->queue, cuda::matrix_of(packed), {placed.const_data_ptr(), x.size(1)},
                               kRows, {.y = y.mutable_data_ptr(), .stride = y.size(1)},
                               {scratch.mutable_data_ptr(), bytes});
        device->gpu()->queue.wait();
        test::expect_values(y.cpu().narrow(1, 0, out), expected, kIn);
        EXPECT_TRUE(y.cpu().narrow(1, out, 3).eq(7).all().item<bool>()) << "wrote behind the last row of W";
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Bytes of tensors that are made and not freed on this thread while an object lives.
class TensorBytes {
 public:
  [[nodiscard]] double live() const { return static_cast<double>(report_->live); }

 private:
  struct Report : c10::MemoryReportingInfoBase {
    void reportMemoryUsage(void* /*memory*/, int64_t bytes, size_t /*allocated*/, size_t /*reserved*/,
                           c10::Device /*device*/) override {
      live += bytes;
    }
    [[nodiscard]] bool memoryProfilingEnabled() const override { return true; }
    int64_t live = 0;
  };
  std::shared_ptr<Report> report_ = std::make_shared<Report>();
  c10::DebugInfoGuard guard_{c10::DebugInfoKind::PROFILER_STATE, report_};
};

// Allocators round sizes up.
constexpr double kRounding = 0.02;

TEST(CudaOps, KeepsTheMemoryThatItNames) {
  const auto device = test::make_cuda_under_test();
  const ModelDims dims = test::dims_of(test::kRound);
  for (const WeightFormat format : {WeightFormat::kFloat32, WeightFormat::kBfloat16, WeightFormat::kInt8}) {
    for (const int64_t rows : {8, 300}) {
      const auto ops = device->ops(dims);
      Random random(4);
      const BlockWeights block = test::packed(random.block(dims, rows == 300, test::Format{format, 0}), *ops);
      Activations act = on_device(random.activations(dims, rows), dims, *device);
      act.ffn = at::Tensor();
      const PassMemory memory = ops->pass_memory({.rows = rows}, format);
      EXPECT_FALSE(memory.ffn);
      const TensorBytes bytes;
      for (const int64_t count : {rows, std::min<int64_t>(rows, 255)}) {  // a shorter pass may need more of something
        ops->begin_pass(test::plan_of(count));
        ops->mixer_in(block, count, act);
        ops->mixer_out(block, count, act);
        ops->feed_forward(block, count, act);
        ops->end_pass();
      }
      EXPECT_NEAR(bytes.live(), memory.scratch_bytes, kRounding * memory.scratch_bytes) << rows;
    }
  }
}

// In a graph the weights of one product must not come before the product before has read its own.
TEST(CudaProduct, WidenedInTheSameMemoryEachTimeIsEachItsOwn) {
  const auto device = test::make_cuda_under_test();
  constexpr int64_t kRows = 256;
  constexpr int64_t kWidth = 64;
  const auto ops = device->ops(test::dims_of(test::kTiny));
  Random random(3);
  std::vector<Linear> canonical;
  std::vector<Linear> packed;
  for (const test::Format& format : {test::Format{WeightFormat::kInt8, 0}, {WeightFormat::kInt4, 32}}) {
    canonical.push_back(random.linear(200, kWidth, false, format));
    packed.push_back(ops->pack(canonical.back()));
  }
  const at::Tensor x = random.normal({kRows, kWidth}, 1.0, at::kBFloat16);
  const at::Tensor placed = device->place(x);
  const int64_t bytes = cuda::widened_bytes(200, kWidth);
  const at::Tensor scratch = device->place(at::zeros({bytes}, at::kByte));
  std::vector<at::Tensor> y;
  for (int i = 0; i < 4; ++i) y.push_back(device->place(at::zeros({kRows, 200})));
  for (int pass = 0; pass < 3; ++pass) {
    for (const at::Tensor& values : y) values.zero_();
    device->begin_pass();
    for (size_t i = 0; i < y.size(); ++i) {
      cuda::multiply_widened(device->gpu()->queue, cuda::matrix_of(packed[i % 2]), {placed.const_data_ptr(), kWidth},
                             kRows, {.y = y[i].mutable_data_ptr(), .stride = 200}, {scratch.mutable_data_ptr(), bytes});
    }
    device->end_pass();
    for (size_t i = 0; i < y.size(); ++i) {
      test::expect_values(y[i].cpu(), test::multiplied(canonical[i % 2], test::exactly(x), *ops), kWidth);
      if (HasFatalFailure()) return;
    }
  }
  EXPECT_EQ(device->gpu()->queue.graph_passes(), 2);
}

// Three bands, the last one of a single head, of a sequence and of a batch in two rounds.
TEST(CudaChunkwise, StreamsTakeMemoryAndLeaveTheBits) {
  const auto device = test::make_cuda_under_test();
  const ModelDims dims = test::cell_dims(5, 17, 31);
  for (const int64_t sequences : {1, 70}) {
    std::vector<Span> spans;
    for (int64_t slot = 0; slot < sequences; ++slot) spans.push_back({slot, 32 * slot, 32});
    Random random(6);
    const Activations act = random.activations(dims, 32 * sequences);
    const LayerState before = random.state(dims, sequences);
    std::string expected;
    double bytes_of_one = 0;
    const std::vector<int64_t> counts =
        sequences == 1 ? std::vector<int64_t>{0, 1, 2, 3, 32} : std::vector<int64_t>{0, 2};
    for (const int64_t streams : counts) {
      const auto kernel =
          make_cuda_chunkwise(dims, {.chunk_size = 16, .heads_per_band = 2, .streams = streams}, device->gpu());
      const Activations placed = on_device(act, dims, *device);
      LayerState state = on_device(before, *device);
      device->begin_pass();
      kernel->run({placed, state, spans});
      if (sequences == 1) kernel->run({placed, state, spans});  // in the same memory
      device->end_pass();
      const std::string bytes =
          test::bytes_of(placed.h) + test::bytes_of(state.c) + test::bytes_of(state.n) + test::bytes_of(state.m);
      const double scratch = kernel->scratch_bytes({.rows = 32 * sequences, .sequences = sequences});
      if (streams == 0) {
        expected = bytes;
        bytes_of_one = scratch;
      }
      EXPECT_TRUE(bytes == expected) << streams << " streams";
      EXPECT_EQ(scratch, bytes_of_one * static_cast<double>(std::clamp<int64_t>(streams, 1, 3))) << streams;
    }
  }
}

TEST(CudaChunkwise, KeepsTheMemoryThatItNames) {
  const auto device = test::make_cuda_under_test();
  const ModelDims dims = test::cell_dims(2, 17, 31);
  constexpr int64_t kRows = 16;  // of a chunk
  for (const bool bfloat16_products : {false, true}) {
    for (const int64_t heads_per_band : {0, 1}) {
      // One sequence of many tiles; a batch that goes through in rounds.
      for (const int64_t sequences : {1, 70}) {
        RowPlan plan;
        for (int64_t slot = 0; slot < sequences; ++slot) plan.add(slot, kRows * 70 / sequences, LogitRows::kNone);
        const PassSize size{.rows = plan.rows(), .sequences = sequences};
        Random random(5);
        const Activations act = on_device(random.activations(dims, size.rows), dims, *device);
        LayerState state = on_device(random.state(dims, sequences), *device);
        const auto kernel = make_cuda_chunkwise(dims,
                                                {.chunk_size = kRows,
                                                 .heads_per_band = heads_per_band,
                                                 .streams = sequences == 1 ? 2 : 0,
                                                 .bfloat16_products = bfloat16_products},
                                                device->gpu());
        const TensorBytes bytes;
        kernel->run({act, state, plan.spans()});
        EXPECT_NEAR(bytes.live(), kernel->scratch_bytes(size), kRounding * kernel->scratch_bytes(size));
      }
    }
  }
}

TEST(CudaOps, DecodingPassesBecomeAGraph) {
  const auto device = test::make_cuda_under_test();
  const ModelDims dims = test::dims_of({96, 3, 17, 31, 261, 101});
  const auto ops = device->ops(dims);
  Random random(3);
  Weights weights;
  weights.embedding = ops->place(random.normal({dims.vocab_size, dims.embedding_dim}, 1.0));
  Activations act = on_device(random.activations(dims, 2), dims, *device);
  RowPlan steps;
  for (int64_t slot = 0; slot < 2; ++slot) steps.add(slot, 1, LogitRows::kAll);
  RowPlan prompt;
  prompt.add(0, 2, LogitRows::kLast);
  for (const bool decoding : {true, false}) {
    const int64_t passes = device->gpu()->queue.graph_passes();
    for (int64_t token = 0; token < 4; ++token) {
      const std::vector<int64_t> ids = {token, token + 7};
      ops->begin_pass(decoding ? steps : prompt);
      ops->embed(weights, ids, act);
      ops->end_pass();
      const at::Tensor expected = weights.embedding.cpu().index_select(0, at::tensor(ids, at::kLong));
      EXPECT_TRUE(test::same_bits(act.x.cpu(), expected));
    }
    EXPECT_EQ(device->gpu()->queue.graph_passes() - passes, decoding ? 3 : 0);
  }
}

}  // namespace
}  // namespace xlstm
