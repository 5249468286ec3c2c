#include "src/bench/cell.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "kernels/row_plan.h"
#include "src/bench/device_wait.h"

namespace xlstm {
namespace {

// Only what a cell reads and writes. q, k and v are views of one matrix, as in a pass.
Activations random_activations(const ModelDims& dims, int64_t rows, const at::Device& device) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(/*seed=*/0);
  const auto normal = [&](int64_t columns) { return at::empty({rows, columns}, at::kFloat).normal_(0, 1, generator); };
  Activations act;
  act.qkvo = normal(dims.qkvo_dim()).to(device);
  act.q = act.qkvo.narrow(1, 0, dims.qk_dim());
  act.k = act.qkvo.narrow(1, dims.qk_dim(), dims.qk_dim());
  act.v = act.qkvo.narrow(1, 2 * dims.qk_dim(), dims.v_dim());
  at::Tensor gates = normal(2 * dims.num_heads);
  gates.narrow(1, dims.num_heads, dims.num_heads).add_(3);  // trained forget gates are mostly open
  act.gates = gates.to(device);
  act.h = at::empty({rows, dims.v_dim()}, at::TensorOptions().device(device).dtype(at::kFloat));
  return act;
}

// Sets libtorch's threads as an Engine does, before the pool's workers start.
int torch_threads(int threads) {
  at::set_num_threads(threads);
  return threads;
}

int64_t most_rows(const LoadGroup& group, const Workload& work) {
  int64_t rows = 1;
  for (const BenchSetting& setting : group) {
    rows = std::max(rows, rows_per_pass(setting.opts.prefill_segment, work.batch, setting.opts.chunk_size));
  }
  return std::min(rows, work.length) * work.batch;
}

}  // namespace

int64_t rows_per_pass(int64_t segment, int64_t batch, int64_t chunk_size) {
  return std::max(chunk_size, std::min(segment, kMostPassRows) / batch / chunk_size * chunk_size);
}

CellRunner::CellRunner(const ModelDims& dims, const LoadGroup& group, const Workload& work)
    : dims_(dims),
      work_(work),
      pool_(torch_threads(group.front().resolution.threads), [] { at::set_num_threads(1); }),
      state_(dims, {1, work.batch, torch_dtype(group.front().opts.state_dtype),
                    torch_device(group.front().resolution.device)}),
      act_(random_activations(dims, most_rows(group, work), torch_device(group.front().resolution.device))) {}

void CellRunner::choose(const BenchSetting& setting) {
  chunk_size_ = setting.opts.chunk_size;
  rows_ = rows_per_pass(setting.opts.prefill_segment, work_.batch, chunk_size_);
  kernel_ = make_cell_kernel(setting.resolution.chunkwise, setting.resolution.device, dims_,
                             {chunk_size_, setting.opts.heads_per_band, setting.resolution.workers,
                              setting.opts.streams, setting.resolution.weight_dtype},
                             pool_);
  pass(chunk_size_);
}

void CellRunner::run() {
  const int64_t length = work_.length / chunk_size_ * chunk_size_;
  for (int64_t begin = 0; begin < length; begin += rows_) pass(std::min(rows_, length - begin));
}

void CellRunner::pass(int64_t rows) {
  const c10::InferenceMode no_autograd;
  spans_.clear();
  for (int64_t slot = 0; slot < work_.batch; ++slot) spans_.push_back({slot, slot * rows, rows});
  kernel_->run({act_, state_.layer(0), spans_, /*may_abandon=*/true});
  wait_for(act_.h);
}

}  // namespace xlstm
