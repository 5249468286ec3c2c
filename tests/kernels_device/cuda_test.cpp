// What only CUDA's kernels have.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/cell_cases.h"
#include "tests/kernels/cell_reference.h"
#include "tests/kernels/op_dims.h"
#include "tests/kernels/random_tensors.h"
#include "tests/kernels_device/cuda_under_test.h"

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
    const int64_t launches = device->gpu()->queue.graph_launches();
    for (int64_t token = 0; token < 4; ++token) {
      const std::vector<int64_t> ids = {token, token + 7};
      ops->begin_pass(decoding ? steps : prompt);
      ops->embed(weights, ids, act);
      ops->end_pass();
      const at::Tensor expected = weights.embedding.cpu().index_select(0, at::tensor(ids, at::kLong));
      EXPECT_TRUE(test::same_bits(act.x.cpu(), expected));
    }
    EXPECT_EQ(device->gpu()->queue.graph_launches() - launches, decoding ? 3 : 0);
  }
}

}  // namespace
}  // namespace xlstm
