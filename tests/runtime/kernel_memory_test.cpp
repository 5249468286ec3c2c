// Kernels that take memory of their own, in the estimate before a load: a program of its own, whose device mps is a
// stand-in.
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "kernels/native/native_cell.h"
#include "src/registry/device_backend.h"
#include "tests/support/engines.h"
#include "tests/support/expect_error.h"

namespace xlstm {
namespace {

constexpr int64_t kChunk = 16;

// The native kernel, which claims a terabyte for each row of a pass and sequence.
class Greedy : public CellKernel {
 public:
  explicit Greedy(std::unique_ptr<CellKernel> cell) : cell_(std::move(cell)) {}
  void run(const CellArgs& args) override { cell_->run(args); }
  [[nodiscard]] double scratch_bytes(const PassSize& size) const override {
    return 1e12 * static_cast<double>(size.rows * size.sequences);
  }

 private:
  std::unique_ptr<CellKernel> cell_;
};

// Its memory is the machine's.
DeviceBackend stand_in() {
  DeviceBackend backend{{{{"mps", "mps", true, "stand-in"}, at::kCPU}}};
  backend.entries = {{{KernelFamily::kChunkwise, "chunkwise--metal", "mps", "stand-in"},
                      [](const KernelRequest& r) {
                        return std::make_unique<Greedy>(make_native_chunkwise(r.dims, r.settings.chunk_size));
                      },
                      {}}};
  return backend;
}

TEST(KernelMemory, IsPartOfTheEstimateBeforeALoad) {
  replace_device_backend(stand_in());
  RuntimeOpts opts = test::native_opts();
  opts.device = "mps";
  opts.chunkwise_backend = "metal";
  opts.chunk_size = kChunk;
  ModelDims dims;
  dims.vocab_size = 8;
  dims.embedding_dim = 4;
  dims.num_heads = 1;
  dims.head_dim_qk = 2;
  dims.head_dim_v = 4;
  dims.ffn_dim = 8;
  EngineSettings settings;
  settings.longest_prompt = 20;
  const auto load = [&] { return Engine::synthetic(opts, resolve(opts), dims, 1, settings); };
  test::expect_error([&] { load(); }, ExitCode::kMemory, {"workspace 20000.0, "});
  settings.slots = 3;
  test::expect_error([&] { load(); }, ExitCode::kMemory, {"workspace 180000.0, "});  // three prompts in a pass
  settings.longest_prompt = 1;
  test::expect_error([&] { load(); }, ExitCode::kMemory, {"workspace 9000.0, "});
  opts.prefill_segment = kChunk;
  settings.longest_prompt = 20;
  test::expect_error([&] { load(); }, ExitCode::kMemory, {"workspace 144000.0, "});

  settings.force = true;
  Engine engine = load();
  RowPlan plan;
  plan.add(0, kChunk, LogitRows::kLast);
  State state = engine.make_state(1);
  EXPECT_EQ(engine.forward(plan, std::vector<int64_t>(kChunk, 1), state)->rows(), 1);
}

}  // namespace
}  // namespace xlstm
