// The forward pass: the one place where the blocks of the model are run.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/model_kernels.h"
#include "kernels/row_plan.h"
#include "kernels/token_chooser.h"
#include "kernels/weights.h"
#include "xlstm/model/state.h"
#include "xlstm/model/workspace.h"

namespace xlstm {

// What a pass does when a stop is requested (xlstm/core/stop.h) while it runs.
enum class OnStop {
  kFinish,   // goes on to its end
  kAbandon,  // throws Stopped soon; state and logits are then undefined
};

// The tokens of a pass, one for each row of its plan.
struct PassTokens {
  PassTokens(std::span<const int64_t> these) : ids(these) {}     // NOLINT(google-explicit-constructor): the usual ones
  PassTokens(const std::vector<int64_t>& these) : ids(these) {}  // NOLINT(google-explicit-constructor)
  PassTokens(TokenChooser& by, at::Tensor from) : chooser(&by), logits(std::move(from)) {}

  std::span<const int64_t> ids;     // each in [0, V); or
  TokenChooser* chooser = nullptr;  // chooses them, of this model's operations,
  at::Tensor logits;                // from these, [rows, V]; the pass may overwrite them afterwards
};

class Model {
 public:
  Model(const ModelDims& dims, Weights weights, ModelKernels kernels);

  // Feeds the tokens and advances the state of the plan's slots. Afterwards row j of work.logits holds the logits of
  // row plan.logit_rows()[j]. `work` must have room for the plan. One pass at a time.
  //
  // Of a span of S > 1 rows the first floor(S / chunk_size) · chunk_size go through the chunkwise kernel, the rest
  // through the sequence kernel; a span of one row is a step.
  void forward(const RowPlan& plan, const PassTokens& tokens, State& state, Workspace& work,
               OnStop on_stop = OnStop::kFinish);

  // Replaces the cell kernels and their chunk size; operations and weights stay.
  void set_cell_kernels(CellKernels kernels);

  [[nodiscard]] const ModelDims& dims() const { return dims_; }
  [[nodiscard]] const Weights& weights() const { return weights_; }
  [[nodiscard]] DeviceOps& ops() { return *kernels_.ops; }
  [[nodiscard]] int64_t num_blocks() const { return static_cast<int64_t>(weights_.blocks.size()); }
  [[nodiscard]] int64_t chunk_size() const { return kernels_.cell.chunk_size; }

 private:
  void split(const RowPlan& plan);
  void cell(LayerState& state, const Activations& act, OnStop on_stop);

  ModelDims dims_;
  Weights weights_;
  ModelKernels kernels_;
  // The spans of the current plan by kernel family.
  std::vector<Span> step_spans_, chunk_spans_, tail_spans_;
};

}  // namespace xlstm
