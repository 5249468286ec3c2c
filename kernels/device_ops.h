// The operations of the forward pass around the mLSTM cell, as one device computes them.
//
// Formulas: Beck et al., "xLSTM 7B: A Recurrent LLM for Fast and Efficient Inference", 2025. Activations and sums are
// float32; weights are whatever dtype they were packed from.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>

#include "kernels/activations.h"
#include "kernels/model_dims.h"
#include "kernels/row_plan.h"
#include "kernels/token_chooser.h"
#include "kernels/weights.h"
#include "xlstm/core/errors.h"

namespace xlstm {

// What the rows of a matrix are, so that a device can lay those side by side that it uses together.
enum class RowOrder {
  kPlain,
  kGateUp,  // two halves of equal size, gate and up, whose results meet element by element (feed_forward)
};

// What a product rounds its input rows to before it multiplies; sums and results are float32 in any case.
enum class InputRounding { kNone, kBfloat16, kInt8 };  // kInt8: codes in steps of a row's largest magnitude / 127

// What a product rounds to bfloat16 beside its inputs.
struct ProductRounding {
  bool weights = false;  // what integer codes stand for
  bool results = false;  // the sums of gate and up, before their bias and SwiGLU
};

// What passes up to some size take beside weights, states and the activations that all devices write.
struct PassMemory {
  bool ffn = true;           // Activations::ffn is written
  double scratch_bytes = 0;  // of the object's own memory, about, where it says so; else it is in a fixed amount
};

// One pass at a time per object. Rows are [0, plan.rows()). Operations come in the order of their calls but may return
// before they are done: mixer_in leaves what a cell kernel of the same device reads, mixer_out and feed_forward may
// still write x, which other readers find after the next mixer_in, head or end_pass. Weights live until then, too.
class DeviceOps {
 public:
  virtual ~DeviceOps() = default;

  // Turns a canonical row-major matrix on the CPU into the form that this device multiplies with. Called once per
  // matrix at load. The result keeps no reference to the canonical tensors if its order differs.
  [[nodiscard]] virtual Linear pack(Linear canonical, RowOrder order = RowOrder::kPlain) const = 0;

  [[nodiscard]] virtual InputRounding input_rounding(WeightFormat /*weights*/) const { return InputRounding::kNone; }

  // Of products of so many rows.
  [[nodiscard]] virtual ProductRounding product_rounding(WeightFormat /*weights*/, int64_t /*rows*/) const {
    return {};
  }

  // Moves a tensor that is not multiplied with (norm vectors, the embedding table) to where this device reads it.
  [[nodiscard]] virtual at::Tensor place(at::Tensor tensor) const { return tensor; }

  // The pass before may have been abandoned between two operations (xlstm/core/stop.h), without end_pass().
  virtual void begin_pass(const RowPlan& plan) = 0;

  // x[r] = embedding[ids[r]]; ids are valid rows of the embedding.
  virtual void embed(const Weights& weights, std::span<const int64_t> ids, Activations& act) = 0;
  // The same of ids that a chooser of this object has chosen.
  virtual void embed_chosen(const Weights& /*weights*/, const at::Tensor& /*ids*/, Activations& /*act*/) {
    XLSTM_ASSERT(false);  // it makes none
  }

  // u = RMSNorm(x);  qkvo = u · Wqkvoᵀ;  gates = softcap(u · Wgatesᵀ + b)
  virtual void mixer_in(const BlockWeights& block, int64_t rows, Activations& act) = 0;

  // x += (LayerNorm over each head's features of h ⊙ σ(o)) · Woutᵀ
  virtual void mixer_out(const BlockWeights& block, int64_t rows, Activations& act) = 0;

  // u = RMSNorm(x);  x += (SiLU(u · Wgateᵀ) ⊙ (u · Wupᵀ)) · Wdownᵀ
  virtual void feed_forward(const BlockWeights& block, int64_t rows, Activations& act) = 0;

  // logits[j] = softcap(RMSNorm(x[r_j]) · Wheadᵀ) for r_j = plan.logit_rows()[j]; logits: [at least that many, V]
  // float32
  virtual void head(const Weights& weights, const RowPlan& plan, Activations& act, at::Tensor& logits) = 0;

  // After it, logits and state can be read.
  virtual void end_pass() = 0;

  // The most that find_candidates() finds in a row; 0: it is not there, and who chooses a token looks at all logits.
  [[nodiscard]] virtual int64_t max_candidates() const { return 0; }

  // Finds the greatest of the first `vocab` logits of each row: greatest first, lower ids first among equal ones, NaN
  // as +inf. candidates: [rows, count, 2] int32 where place() puts tensors, gets the ids and the bits of their logits;
  // 1 ≤ count ≤ max_candidates(), count ≤ vocab. logits: what head() wrote, after end_pass(); nothing is waited for.
  virtual void find_candidates(const at::Tensor& /*logits*/, int64_t /*vocab*/, at::Tensor& /*candidates*/) {
    XLSTM_ASSERT(false);  // there is none
  }

  // What chooses tokens on this device, one for each of `draws`; null where the host has to do it. Of rules that need
  // no more than max_candidates().
  [[nodiscard]] virtual std::unique_ptr<TokenChooser> make_chooser(const ChoiceRules& /*rules*/,
                                                                   std::span<const Draw> /*draws*/) {
    return nullptr;
  }

  // Asked before weights are loaded. `matrices`: the format that those of all blocks will have.
  [[nodiscard]] virtual PassMemory pass_memory(const PassSize& /*size*/, WeightFormat /*matrices*/) const { return {}; }
};

}  // namespace xlstm
