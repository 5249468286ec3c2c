#include "src/selftest/speed.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "xlstm/core/stop.h"
#include "xlstm/model/load_weights.h"
#include "xlstm/model/state.h"
#include "xlstm/model/workspace.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

// Each sample is the time of a pass of this many calls, so that beginning and waiting count little.
constexpr int kCalls = 8;
constexpr int kSamples = 5;

double bytes_of(std::initializer_list<std::reference_wrapper<const Linear>> matrices) {
  size_t bytes = 0;
  for (const Linear& matrix : matrices) {
    for (const at::Tensor& part : {matrix.weight, matrix.scale, matrix.zero, matrix.bias}) {
      if (part.defined()) bytes += part.nbytes();
    }
  }
  return static_cast<double>(bytes);
}

class DecodeStep {
 public:
  DecodeStep(const SelftestRequest& request, const std::string& dtype, ThreadPool& pool)
      : dims_(*request.speed_dims),
        dtype_(dtype),
        ops_(make_ops(request.resolution.ops, request.resolution.device, dims_, pool)),
        step_(make_cell_kernel(request.resolution.step, request.resolution.device, dims_, {}, pool)),
        weights_(random_weights({dims_, 1, /*seed=*/5}, *ops_, {weight_formats(dtype), pool, /*progress=*/false})),
        work_(dims_, torch_device(request.resolution.device)),
        state_(dims_, {kCalls, 1, at::kFloat, torch_device(request.resolution.device)}) {
    work_.reserve(1, 1);
    for (at::Tensor* tensor : {&work_.act.x, &work_.act.qkvo, &work_.act.gates, &work_.act.h, &work_.act.ffn}) {
      tensor->fill_(0.5);
    }
    plan_.add(0, 1, LogitRows::kLast);
  }

  void measure(std::vector<SelftestSpeed>& rows) {
    const BlockWeights& block = weights_.blocks.front();
    Activations& act = work_.act;
    const LayerState& state = state_.layer(0);
    const auto state_bytes = static_cast<double>(2 * (state.c.nbytes() + state.n.nbytes()));
    add(rows, "mixer_in", bytes_of({block.qkvo, block.gates}), [&](int) { ops_->mixer_in(block, 1, act); });
    // A pass steps each layer once, and a kernel may rely on it.
    add(rows, "step", state_bytes, [&](int layer) { step_->run({act, state_.layer(layer), plan_.spans()}); });
    add(rows, "mixer_out", bytes_of({block.out_proj}), [&](int) { ops_->mixer_out(block, 1, act); });
    add(rows, "feed_forward", bytes_of({block.ffn_gate_up, block.ffn_down}),
        [&](int) { ops_->feed_forward(block, 1, act); });
    add(rows, "head", bytes_of({weights_.head}), [&](int) { ops_->head(weights_, plan_, act, work_.logits); });
  }

 private:
  void add(std::vector<SelftestSpeed>& rows, const char* operation, double bytes,
           const std::function<void(int)>& call) {
    using Clock = std::chrono::steady_clock;
    throw_if_stopped();
    double best = 0;
    for (int sample = 0; sample <= kSamples; ++sample) {  // the first one warms up
      const Clock::time_point begin = Clock::now();
      ops_->begin_pass(plan_);
      for (int i = 0; i < kCalls; ++i) call(i);
      ops_->end_pass();
      (void)work_.act.x.select(0, 0).select(0, 0).item<float>();  // waits for the device
      const double seconds = std::chrono::duration<double>(Clock::now() - begin).count() / kCalls;
      if (sample > 0) best = sample == 1 ? seconds : std::min(best, seconds);
    }
    rows.push_back({operation, dtype_, bytes, best});
  }

  ModelDims dims_;
  std::string dtype_;
  std::unique_ptr<DeviceOps> ops_;
  std::unique_ptr<CellKernel> step_;
  Weights weights_;
  Workspace work_;
  State state_;
  RowPlan plan_;
};

}  // namespace

std::vector<SelftestSpeed> measure_speed(const SelftestRequest& request, ThreadPool& pool) {
  std::vector<SelftestSpeed> rows;
  if (!request.speed_dims) return rows;
  for (const char* dtype : {"float32", "float16", "bfloat16", "int8", "int4"}) {
    DecodeStep(request, dtype, pool).measure(rows);
  }
  return rows;
}

}  // namespace xlstm
