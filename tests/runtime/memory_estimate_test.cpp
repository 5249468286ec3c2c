#include "xlstm/runtime/memory_estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/engines.h"
#include "tests/support/expect_error.h"
#include "xlstm/memory/memory_guard.h"

namespace xlstm {
namespace {

constexpr uint64_t kGB = 1000000000;

ModelDims tiny_dims() {
  ModelDims dims;
  dims.vocab_size = 10;
  dims.embedding_dim = 8;
  dims.num_heads = 2;
  dims.head_dim_qk = 2;
  dims.head_dim_v = 4;
  dims.ffn_dim = 16;
  return dims;
}

ModelDims wide_dims() {
  ModelDims dims;
  dims.vocab_size = 5000;
  dims.embedding_dim = 512;
  dims.num_heads = 4;
  dims.head_dim_qk = 64;
  dims.head_dim_v = 128;
  dims.ffn_dim = 1408;
  return dims;
}

MemoryEstimate seven_billion(WeightPlace place = WeightPlace::kHost) {
  MemoryEstimate estimate;
  estimate.weights = 26'900'000'000;
  estimate.loading = 27'000'000'000;
  estimate.state = 135'000'000;
  estimate.workspace = 500'000'000;
  estimate.staging = 800'000'000;
  estimate.fixed = 100'000'000;
  estimate.place = place;
  return estimate;
}

MemorySample machine(uint64_t available) {
  MemorySample sample;
  sample.host.limit = 100 * kGB;
  sample.host.limit_name = "machine";
  sample.host.available = available;
  return sample;
}

RuntimeOpts unguarded() {
  RuntimeOpts opts;
  opts.mem_watchdog = false;
  return opts;
}

TEST(MemoryEstimate, CountsATinyModelToTheByte) {
  EstimateRequest request;
  request.weight_dtype = "bfloat16";
  request.rows = 3;
  const MemoryEstimate estimate = estimate_memory(tiny_dims(), 1, request);
  EXPECT_EQ(estimate.weights, 640U * 2 + 68 * 4 + 160 * 2);  // matrices; norms and gates; embedding and head
  EXPECT_EQ(estimate.loading, estimate.weights);
  EXPECT_EQ(estimate.state, 2U * ((2 * 4 + 2) * 4 + 4));
  EXPECT_EQ(estimate.workspace, 3U * 76 * 4 + 10 * 4);
}

TEST(MemoryEstimate, CountsTheKernelsOwnMemoryAndNoActivationsThatTheyDoNotWrite) {
  EstimateRequest request;
  request.rows = 3;
  const uint64_t all = estimate_memory(tiny_dims(), 1, request).workspace;
  request.ffn = false;
  EXPECT_EQ(estimate_memory(tiny_dims(), 1, request).workspace, all - 3U * 2 * 16 * 4);
  Workspace work(tiny_dims(), at::kCPU, /*ffn=*/false);
  work.reserve(3, 1);
  EXPECT_FALSE(work.act.ffn.defined());
  EXPECT_EQ(estimate_memory(tiny_dims(), 1, request).workspace, work.bytes());
  request.scratch_bytes = 1000;
  EXPECT_EQ(estimate_memory(tiny_dims(), 1, request).workspace, work.bytes() + 1000);
}

TEST(MemoryEstimate, IsExactForRowsTooWideForOneScaleAndTheyRun) {
  ModelDims dims = tiny_dims();
  dims.embedding_dim = 32;
  dims.ffn_dim = 65'600;
  for (const char* dtype : {"int8", "int4"}) {
    RuntimeOpts opts = test::native_opts();
    opts.dtype = dtype;
    Engine native = Engine::synthetic(opts, resolve(opts), dims, 1);
    EstimateRequest request;
    request.weight_dtype = dtype;
    EXPECT_EQ(estimate_memory(dims, 1, request).weights, total_bytes(native.model().weights())) << dtype;
    opts = test::quiet_opts();
    opts.dtype = dtype;
    Engine compiled = Engine::synthetic(opts, resolve(opts), dims, 1);
    RowPlan plan;
    plan.add(0, 3, LogitRows::kLast);
    State state = compiled.make_state(1);
    const std::vector<int64_t> ids = {1, 2, 3};
    const auto logits = compiled.forward(plan, ids, state)->all();
    EXPECT_TRUE(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) << dtype;
  }
}

TEST(MemoryEstimate, HasTheMatrixThatIsBeingPackedTwice) {
  EstimateRequest request;
  request.weight_dtype = "bfloat16";
  request.packs = true;
  const MemoryEstimate estimate = estimate_memory(tiny_dims(), 1, request);
  EXPECT_EQ(estimate.weights, 1872U);
  EXPECT_EQ(estimate.loading, 1872U + 80 * 2);  // the head, the last one
  EXPECT_EQ(estimate.staging, 2U * 256 * 2);    // the widest
}

TEST(MemoryEstimate, CountsScalesAndZeroPoints) {
  EstimateRequest request;
  request.weight_dtype = "int4";
  const MemoryEstimate estimate = estimate_memory(tiny_dims(), 1, request);
  const uint64_t blocks = (24 + 8 + 32) * (4 + 3) + 8 * (8 + 3);  // half a byte an element, 3 bytes a group
  EXPECT_EQ(estimate.weights, blocks + 68 * 4 + 80 * 2 + 10 * (8 + 2));
}

TEST(MemoryEstimate, IsWhatWeightsStatesAndWorkspaceOfASyntheticModelTake) {
  for (const char* dtype : {"float32", "bfloat16", "int8", "int4"}) {
    RuntimeOpts opts = test::native_opts();
    opts.dtype = dtype;
    opts.state_dtype = opts.dtype == "bfloat16" ? "bfloat16" : "float32";
    Engine engine = Engine::synthetic(opts, resolve(opts), wide_dims(), 3);
    EstimateRequest request = estimate_request(opts, resolve(opts), /*tokens=*/100);
    request.slots = 2;
    const MemoryEstimate estimate = estimate_memory(wide_dims(), 3, request);
    EXPECT_EQ(estimate.weights, total_bytes(engine.model().weights()));
    EXPECT_EQ(estimate.state, engine.make_state(2).bytes());
    Workspace work(wide_dims(), at::kCPU);
    work.reserve(100, 1);
    const uint64_t copies = request.float32_copies ? 4 * 5000 * 512 : 0;
    EXPECT_EQ(estimate.workspace, work.bytes() + copies);
  }
}

TEST(MemoryEstimate, IsWhatWeightsOfACheckpointTake) {
  for (const char* dtype : {"float32", "bfloat16", "int8", "int4"}) {
    RuntimeOpts opts = test::native_opts();
    opts.dtype = dtype;
    Engine engine = test::load_engine(test::bundled_model(), opts);
    const Checkpoint checkpoint(test::bundled_model());
    const MemoryEstimate estimate = estimate_memory(resolve_layout(checkpoint), estimate_request(opts, resolve(opts)));
    EXPECT_EQ(estimate.weights, total_bytes(engine.model().weights()));
    EXPECT_EQ(estimate.state, engine.make_state(1).bytes());
  }
}

// Packed matrices are padded to whole panels.
TEST(MemoryEstimate, IsAboutWhatPackedWeightsTake) {
  for (const char* dtype : {"float32", "bfloat16", "int8", "int4"}) {
    RuntimeOpts opts = test::quiet_opts();
    opts.dtype = dtype;
    Engine engine = Engine::synthetic(opts, resolve(opts), wide_dims(), 3);
    const auto estimate =
        static_cast<double>(estimate_memory(wide_dims(), 3, estimate_request(opts, resolve(opts))).weights);
    EXPECT_NEAR(static_cast<double>(total_bytes(engine.model().weights())), estimate, 0.05 * estimate) << dtype;
  }
}

TEST(MemoryEstimate, ATiedHeadIsASecondMatrixWhereItIsPackedOrQuantized) {
  const CheckpointLayout layout = resolve_layout(Checkpoint(test::goldens() / "zoo" / "tied_qk1_f32"));
  EstimateRequest request;
  const uint64_t shared = estimate_memory(layout, request).weights;
  request.packs = true;
  const auto table = static_cast<uint64_t>(layout.embedding.shape[0] * layout.embedding.shape[1]);
  EXPECT_EQ(estimate_memory(layout, request).weights, shared + 4 * table);
  request.packs = false;
  request.weight_dtype = "int8";
  RuntimeOpts opts = test::native_opts();
  opts.dtype = "int8";
  Engine engine = test::load_engine(test::goldens() / "zoo" / "tied_qk1_f32", opts);
  EXPECT_EQ(estimate_memory(layout, request).weights, total_bytes(engine.model().weights()));
}

TEST(MemoryEstimate, LoadingTakesTheFinalSizeAndOneMatrixWhereItIsPacked) {
  const CheckpointLayout layout = resolve_layout(Checkpoint(test::bundled_model()));
  EstimateRequest request;
  for (const char* dtype : {"float32", "bfloat16", "int8", "int4"}) {
    request.weight_dtype = dtype;
    request.packs = false;
    const MemoryEstimate in_place = estimate_memory(layout, request);
    EXPECT_EQ(in_place.loading, in_place.weights);
    request.packs = true;
    const MemoryEstimate packed = estimate_memory(layout, request);
    EXPECT_EQ(packed.weights, in_place.weights);
    EXPECT_GT(packed.loading, packed.weights);
    EXPECT_LE(packed.loading, packed.weights + packed.staging / 2);
  }
}

// What the process takes, watched while it loads and runs.
TEST(MemoryEstimate, CoversWhatLoadingAndRunningReallyTake) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "NOT RUN: AddressSanitizer's own memory counts as the process's";
#endif
  class Peak : public MemoryReader {
   public:
    explicit Peak(std::atomic<uint64_t>& peak) : peak_(peak) {}
    HostMemory read() override {
      HostMemory memory = reader_->read();
      peak_ = std::max(peak_.load(), memory.used);
      return memory;
    }

   private:
    std::unique_ptr<MemoryReader> reader_ = make_system_reader();
    std::atomic<uint64_t>& peak_;
  };
  RuntimeOpts opts = test::quiet_opts();
  opts.dtype = "bfloat16";
  opts.prefill_segment = 256;
  opts.mem_poll_ms = 1;
  ModelDims dims = wide_dims();
  dims.vocab_size = 50000;
  std::atomic<uint64_t> peak{0};
  MemorySources sources;
  sources.host = std::make_unique<Peak>(peak);
  MemoryGuard guard(opts, std::move(sources));
  const uint64_t before = guard.latest()->host.used;
  Engine engine = Engine::synthetic(opts, resolve(opts), dims, 4);
  State state = engine.make_state(1);
  RowPlan plan;
  plan.add(0, 256, LogitRows::kLast);
  engine.forward(plan, std::vector<int64_t>(256, 1), state);
  guard.finish();
  const uint64_t taken = peak - before;
  const MemoryEstimate estimate = estimate_memory(dims, 4, estimate_request(opts, resolve(opts)));
  EXPECT_LE(taken, estimate.total());
  EXPECT_GE(taken, total_bytes(engine.model().weights()) / 2) << "memory of earlier tests may have been used again";
}

TEST(MemoryEstimate, BoundsTheLargestPassByThePrompt) {
  RuntimeOpts opts = test::quiet_opts();
  opts.prefill_segment = INT64_MAX;
  EXPECT_EQ(estimate_request(opts, resolve(opts), 77).rows, 77);
  EXPECT_EQ(estimate_request(opts, resolve(opts)).rows, kMostPassRows);
  opts.prefill_segment = 10;
  opts.chunk_size = 64;
  EXPECT_EQ(estimate_request(opts, resolve(opts)).rows, 64);
}

TEST(MemoryEstimate, TakesShapesBeyondAnyMemory) {
  ModelDims dims = wide_dims();
  dims.vocab_size = INT64_MAX / 1024;
  dims.embedding_dim = INT64_MAX / 1024;
  const MemoryEstimate estimate = estimate_memory(dims, 1000000, {});
  test::expect_error([&] { require_room(estimate, machine(kGB), unguarded(), false); }, ExitCode::kMemory, {"memory"});
}

TEST(RequireRoom, PassesWhatFits) {
  EXPECT_NO_THROW(require_room(seven_billion(), machine(27'635'000'000), unguarded(), false));
}

TEST(RequireRoom, RefusesWhatDoesNotFitWithAllNumbers) {
  test::expect_error([] { require_room(seven_billion(), machine(27'634'999'999), unguarded(), false); },
                     ExitCode::kMemory,
                     {"memory (estimate before load): expected at most 27.6 GB available, got 27.6 GB needed: "
                      "weights 26.9, state 0.135, workspace 0.500, other 0.100; --force loads anyway"});
}

TEST(RequireRoom, SaysWhenLoadingTakesTheMost) {
  MemoryEstimate estimate = seven_billion();
  estimate.loading = 28 * kGB;
  test::expect_error([&] { require_room(estimate, machine(kGB), unguarded(), false); }, ExitCode::kMemory,
                     {"got 28.1 GB needed: weights 26.9 (28.0 while loading)"});
}

TEST(RequireRoom, LoadsAnywayWhenForced) {
  EXPECT_NO_THROW(require_room(seven_billion(), machine(kGB), unguarded(), true));
}

TEST(RequireRoom, LeavesRoomToTheGuardsHardLine) {
  RuntimeOpts opts;
  opts.mem_hard_mb = 20000;
  test::expect_error([&] { require_room(seven_billion(), machine(50 * kGB), opts, false); }, ExitCode::kMemory,
                     {"expected at most 20.0 GB below the memory guard's hard limit"});
  opts.mem_watchdog = false;
  EXPECT_NO_THROW(require_room(seven_billion(), machine(50 * kGB), opts, false));
}

TEST(RequireRoom, ComparesADevicesPartWithTheDevice) {
  MemorySample sample = machine(kGB);
  sample.device = {10 * kGB, 10 * kGB, 40 * kGB};
  EXPECT_NO_THROW(require_room(seven_billion(WeightPlace::kDevice), sample, unguarded(), false));
  sample.device.driver = 20 * kGB;
  test::expect_error([&] { require_room(seven_billion(WeightPlace::kDevice), sample, unguarded(), false); },
                     ExitCode::kMemory, {"at most 20.0 GB recommended by the device"});
}

TEST(RequireRoom, NeedsRoomOnBothSidesOfUnifiedMemory) {
  MemorySample sample = machine(50 * kGB);
  sample.device = {0, 0, 40 * kGB};
  EXPECT_NO_THROW(require_room(seven_billion(WeightPlace::kUnified), sample, unguarded(), false));
  sample.host.available = 20 * kGB;
  test::expect_error([&] { require_room(seven_billion(WeightPlace::kUnified), sample, unguarded(), false); },
                     ExitCode::kMemory, {"at most 20.0 GB available"});
}

}  // namespace
}  // namespace xlstm
