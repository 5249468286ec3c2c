#include "xlstm/model/model.h"

#include <c10/core/InferenceMode.h>

#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/stop.h"

namespace xlstm {

Model::Model(const ModelDims& dims, Weights weights, ModelKernels kernels)
    : dims_(dims), weights_(std::move(weights)), kernels_(std::move(kernels)) {}

void Model::forward(const RowPlan& plan, const PassTokens& tokens, State& state, Workspace& work, OnStop on_stop) {
  XLSTM_ASSERT(plan.rows() <= work.rows());
  const int64_t count = tokens.chooser != nullptr ? tokens.logits.size(0) : static_cast<int64_t>(tokens.ids.size());
  XLSTM_ASSERT(count == plan.rows());
  XLSTM_ASSERT(static_cast<int64_t>(plan.logit_rows().size()) <= work.logit_rows());
  const c10::InferenceMode no_autograd;
  DeviceOps& ops = *kernels_.ops;
  Activations& act = work.act;
  const int64_t rows = plan.rows();

  split(plan);
  ops.begin_pass(plan);
  if (tokens.chooser != nullptr) {
    ops.embed_chosen(weights_, tokens.chooser->choose(tokens.logits), act);
  } else {
    ops.embed(weights_, tokens.ids, act);
  }
  for (int64_t b = 0; b < num_blocks(); ++b) {
    if (on_stop == OnStop::kAbandon) throw_if_stopped();
    const BlockWeights& block = weights_.blocks[static_cast<size_t>(b)];
    ops.mixer_in(block, rows, act);
    cell(state.layer(b), act, on_stop);
    ops.mixer_out(block, rows, act);
    ops.feed_forward(block, rows, act);
  }
  ops.head(weights_, plan, act, work.logits);
  ops.end_pass();
}

void Model::set_cell_kernels(CellKernels kernels) {
  kernels_.cell = std::move(kernels);
}

void Model::cell(LayerState& state, const Activations& act, OnStop on_stop) {
  const CellKernels& kernels = kernels_.cell;
  const bool may_abandon = on_stop == OnStop::kAbandon;
  if (!step_spans_.empty()) kernels.step->run({act, state, step_spans_, may_abandon});
  if (!chunk_spans_.empty()) kernels.chunkwise->run({act, state, chunk_spans_, may_abandon});
  if (!tail_spans_.empty()) kernels.sequence->run({act, state, tail_spans_, may_abandon});
}

void Model::split(const RowPlan& plan) {
  step_spans_.clear();
  chunk_spans_.clear();
  tail_spans_.clear();
  for (const Span& span : plan.spans()) {
    if (span.rows == 1) {
      step_spans_.push_back(span);
      continue;
    }
    const int64_t chunked = span.rows / chunk_size() * chunk_size();
    if (chunked > 0) chunk_spans_.push_back({span.slot, span.first_row, chunked});
    if (chunked < span.rows) tail_spans_.push_back({span.slot, span.first_row + chunked, span.rows - chunked});
  }
}

}  // namespace xlstm
