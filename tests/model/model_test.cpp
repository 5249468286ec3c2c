// Properties of the forward pass that hold for any weights: how a text is cut must not matter.

#include "xlstm/model/model.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/support/expect_error.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/model/load_weights.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

constexpr int64_t kBlocks = 2;
constexpr int64_t kChunk = 16;
// Float32 rounding, some 100 units in the last place after a few hundred operations each, enlarged by the head norm.
constexpr double kRounding = 2e-5;

ModelDims small_dims() {
  ModelDims dims;
  dims.vocab_size = 61;
  dims.embedding_dim = 48;
  dims.num_heads = 3;
  dims.head_dim_qk = 8;
  dims.head_dim_v = 16;
  dims.ffn_dim = 40;
  dims.gate_soft_cap = 15;
  dims.logit_soft_cap = 30;
  return dims;
}

struct Backend {
  const char* ops;
  const char* chunkwise;
  const char* sequence;
  const char* step;
};

void PrintTo(const Backend& backend, std::ostream* out) {
  *out << backend.chunkwise << " with ops " << backend.ops;
}

std::vector<int64_t> some_ids(int64_t count, int64_t salt) {
  std::vector<int64_t> ids(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) ids[static_cast<size_t>(i)] = (i * i * 7 + i * 13 + salt) % 61;
  return ids;
}

double relative(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).norm().item<double>() / b.norm().item<double>();
}

class ModelOnBackend : public testing::TestWithParam<Backend> {
 protected:
  ModelOnBackend() : pool_(2), model_(make_model()), work_(small_dims(), at::kCPU) { work_.reserve(256, 256); }

  Model make_model() {
    Resolution resolution;
    resolution.device = "cpu";
    resolution.ops = GetParam().ops;
    resolution.chunkwise = GetParam().chunkwise;
    resolution.sequence = GetParam().sequence;
    resolution.step = GetParam().step;
    ModelKernels kernels = make_kernels(resolution, small_dims(), {kChunk, /*heads_per_band=*/2}, pool_);
    Weights weights = random_weights({small_dims(), kBlocks, /*seed=*/11}, *kernels.ops,
                                     {weight_formats("float32"), pool_, /*progress=*/false});
    return Model(small_dims(), std::move(weights), std::move(kernels));
  }

  State make_state(int64_t slots) { return State(small_dims(), {kBlocks, slots, at::kFloat, at::kCPU}); }

  // Feeds ids to one slot in pieces of the given sizes and returns the logits of all rows.
  at::Tensor feed(State& state, int64_t slot, const std::vector<int64_t>& ids, const std::vector<int64_t>& pieces) {
    std::vector<at::Tensor> out;
    size_t begin = 0;
    for (const int64_t rows : pieces) {
      RowPlan plan;
      plan.add(slot, rows, LogitRows::kAll);
      model_.forward(plan, std::span(ids).subspan(begin, static_cast<size_t>(rows)), state, work_);
      out.push_back(work_.logits.narrow(0, 0, rows).clone());
      begin += static_cast<size_t>(rows);
    }
    EXPECT_EQ(begin, ids.size());
    return at::cat(out);
  }

  ThreadPool pool_;
  Model model_;
  Workspace work_;
};

TEST_P(ModelOnBackend, GivesTheSameLogitsAndStateHoweverATextIsSplit) {
  const std::vector<int64_t> ids = some_ids(75, 1);
  State whole_state = make_state(1);
  const at::Tensor whole = feed(whole_state, 0, ids, {75});
  const std::vector<std::vector<int64_t>> splits = {
      {16, 59}, {1, 74}, {40, 35}, {32, 32, 11}, std::vector<int64_t>(75, 1)};
  for (const std::vector<int64_t>& pieces : splits) {
    SCOPED_TRACE(testing::PrintToString(pieces));
    State state = make_state(1);
    EXPECT_LT(relative(feed(state, 0, ids, pieces), whole), kRounding);
    EXPECT_LT(relative(state.layer(1).c, whole_state.layer(1).c), kRounding);
  }
}

TEST_P(ModelOnBackend, GivesEachSequenceOfAnUnequalBatchItsOwnLogits) {
  const std::vector<int64_t> lengths = {37, 1, 16, 70, 5};
  State batch_state = make_state(5);
  RowPlan plan;
  std::vector<int64_t> ids;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const std::vector<int64_t> prompt = some_ids(lengths[i], static_cast<int64_t>(i));
    ids.insert(ids.end(), prompt.begin(), prompt.end());
    plan.add(/*slot=*/static_cast<int64_t>(lengths.size() - 1 - i), lengths[i], LogitRows::kAll);
  }
  model_.forward(plan, ids, batch_state, work_);
  const at::Tensor together = work_.logits.narrow(0, 0, plan.rows()).clone();
  int64_t row = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "sequence " << i);
    State alone_state = make_state(1);
    const at::Tensor alone = feed(alone_state, 0, some_ids(lengths[i], static_cast<int64_t>(i)), {lengths[i]});
    EXPECT_LT(relative(together.narrow(0, row, lengths[i]), alone), kRounding);
    const auto slot = static_cast<int64_t>(lengths.size() - 1 - i);
    EXPECT_LT(relative(batch_state.layer(0).c[slot], alone_state.layer(0).c[0]), kRounding);
    row += lengths[i];
  }
}

TEST_P(ModelOnBackend, ReturnsTheLogitsOfTheRowsThatThePlanNames) {
  const std::vector<int64_t> ids = some_ids(30, 4);
  State all_state = make_state(1);
  const at::Tensor all = feed(all_state, 0, ids, {30});
  State state = make_state(2);
  RowPlan plan;
  plan.add(0, 20, LogitRows::kNone);
  plan.add(1, 10, LogitRows::kLast);
  model_.forward(plan, ids, state, work_);
  const at::Tensor actual = work_.logits[0].clone();
  ASSERT_EQ(plan.logit_rows(), (std::vector<int64_t>{29}));
  State other = make_state(1);
  const at::Tensor expected = feed(other, 0, {ids.begin() + 20, ids.end()}, {10});
  EXPECT_LT(relative(actual, expected[9]), kRounding);
}

TEST_P(ModelOnBackend, ContinuesFromAnExportedState) {
  const std::vector<int64_t> ids = some_ids(50, 2);
  State state = make_state(2);
  (void)feed(state, 1, ids, {50});
  State copy = make_state(1);
  copy.import_canonical(0, state.export_canonical(1));
  const std::vector<int64_t> more = some_ids(9, 8);
  EXPECT_TRUE(at::equal(feed(copy, 0, more, {9}), feed(state, 1, more, {9})));
}

TEST_P(ModelOnBackend, AResetSlotStartsAgain) {
  const std::vector<int64_t> ids = some_ids(20, 2);
  State state = make_state(1);
  const at::Tensor first = feed(state, 0, ids, {20});
  state.reset(0);
  EXPECT_TRUE(at::equal(feed(state, 0, ids, {20}), first));
}

TEST_P(ModelOnBackend, RefusesAPlanThatDoesNotFit) {
  State state = make_state(1);
  RowPlan plan;
  plan.add(0, 300, LogitRows::kNone);
  const std::vector<int64_t> ids = some_ids(300, 0);
  test::expect_error([&] { model_.forward(plan, ids, state, work_); }, ExitCode::kInternal, {"work.rows()"});
}

INSTANTIATE_TEST_SUITE_P(Backends, ModelOnBackend,
                         testing::Values(Backend{"native", "chunkwise--native", "native_sequence__native", "native"},
                                         Backend{"cpu", "chunkwise--cpu", "native_sequence__cpu", "cpu"},
                                         Backend{"cpu", "chunkwise--ray_compiled_steps", "native_sequence__cpu", "cpu"},
                                         Backend{"cpu", "chunkwise--queued_compiled_steps", "native_sequence__native",
                                                 "native"}));

TEST(State, RoundTripsThroughTheCanonicalOrder) {
  const ModelDims dims = small_dims();
  State state(dims, {kBlocks, 2, at::kBFloat16, at::kCPU});
  state.layer(1).c.normal_();
  state.layer(1).m.normal_();
  const std::vector<SavedState::Layer> saved = state.export_canonical(1);
  EXPECT_EQ(saved[1].c.size(), static_cast<size_t>(dims.num_heads * dims.head_dim_qk * dims.head_dim_v));
  State copy(dims, {kBlocks, 1, at::kBFloat16, at::kCPU});
  copy.import_canonical(0, saved);
  EXPECT_TRUE(at::equal(copy.layer(1).c[0], state.layer(1).c[1]));
  EXPECT_TRUE(at::equal(copy.layer(1).m[0], state.layer(1).m[1]));
}

}  // namespace
}  // namespace xlstm
