#include "kernels/cuda/cuda_ops.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cuda/blocks.h"
#include "kernels/cuda/cuda_matrix.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/rows.h"
#include "kernels/cuda/token_chooser.h"
#include "xlstm/core/errors.h"

namespace xlstm {
namespace {

using cuda::blocks_of;
using cuda::InputNorm;
using cuda::ProductInput;
using cuda::ProductOutput;
using cuda::ProductRows;

// Passes of more rows are so long that launching their kernels one by one does not count.
constexpr int64_t kMostRepeatedRows = 1024;

const float* floats(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const float*>(tensor.const_data_ptr()) : nullptr;
}

float* mutable_floats(const at::Tensor& tensor) {
  return static_cast<float*>(tensor.mutable_data_ptr());
}

WeightFormat format_of(const at::Tensor& table) {
  switch (table.scalar_type()) {
    case at::kFloat: return WeightFormat::kFloat32;
    case at::kBFloat16: return WeightFormat::kBfloat16;
    case at::kHalf: return WeightFormat::kFloat16;
    default:
      fail(ExitCode::kDevice, "embedding dtype", "CUDA kernels", "float32, bfloat16 or float16",
           c10::toString(table.scalar_type()));
  }
}

bool takes_bfloat16(const Linear& linear) {
  return linear.format != WeightFormat::kFloat32;
}

// One token of each of several sequences, all of whose logits are wanted: what decoding repeats.
bool is_decoding(const RowPlan& plan) {
  return plan.rows() <= kMostRepeatedRows && static_cast<int64_t>(plan.spans().size()) == plan.rows() &&
         static_cast<int64_t>(plan.logit_rows().size()) == plan.rows();
}

class CudaOps : public DeviceOps {
 public:
  CudaOps(const ModelDims& dims, std::shared_ptr<cuda::Gpu> gpu) : dims_(dims), gpu_(std::move(gpu)) {}
  ~CudaOps() override { gpu_->queue.abandon_pass(); }
  CudaOps(const CudaOps&) = delete;
  CudaOps& operator=(const CudaOps&) = delete;

  [[nodiscard]] Linear pack(Linear canonical, RowOrder order) const override {
    return cuda::pack_linear(std::move(canonical), order, gpu_->tensors);
  }

  [[nodiscard]] InputRounding input_rounding(WeightFormat weights) const override {
    return weights == WeightFormat::kFloat32 ? InputRounding::kNone : InputRounding::kBfloat16;
  }

  [[nodiscard]] ProductRounding product_rounding(WeightFormat weights, int64_t rows) const override {
    return {.weights = cuda::is_widened(weights, rows), .results = rounds_gate_up(weights, rows)};
  }

  [[nodiscard]] at::Tensor place(at::Tensor tensor) const override { return tensor.contiguous().to(gpu_->tensors); }

  void begin_pass(const RowPlan& plan) override { gpu_->queue.begin_pass(is_decoding(plan)); }

  void end_pass() override { gpu_->queue.end_pass(); }

  void embed(const Weights& weights, std::span<const int64_t> ids, Activations& act) override {
    embed(weights, staged(ids), static_cast<int64_t>(ids.size()), act);
  }

  void embed_chosen(const Weights& weights, const at::Tensor& ids, Activations& act) override {
    embed(weights, static_cast<const int32_t*>(ids.const_data_ptr()), ids.size(0), act);
  }

  void mixer_in(const BlockWeights& block, int64_t rows, Activations& act) override {
    const ProductOutput qkvo{.y = mutable_floats(act.qkvo), .stride = act.qkvo.stride(0)};
    const ProductOutput gates{
        .y = mutable_floats(act.gates), .stride = act.gates.stride(0), .cap = dims_.gate_soft_cap};
    const Normed u{block.norm_mlstm, act.x, rows};
    if (is_fused(u)) {
      cuda::multiply_with_side(gpu_->queue, cuda::matrix_of(block.qkvo), cuda::matrix_of(block.gates), fused(u), rows,
                               qkvo, gates);
      return;
    }
    cuda::RmsNorm norm = norm_of(u, block.qkvo);
    if (cuda::takes_side(rows, norm.width)) {
      cuda::rms_norm_with_side(gpu_->queue, norm, cuda::matrix_of(block.gates), gates);
    } else {
      if (norm.out.bfloat16) norm.also = float32_rows(norm.out.stride, rows);
      const ProductRows& for_gates = norm.out.bfloat16 ? norm.also : norm.out;
      cuda::rms_norm(gpu_->queue, norm);
      multiply(block.gates, {for_gates.values, for_gates.stride}, rows, gates);
    }
    multiply(block.qkvo, {norm.out.values, norm.out.stride}, rows, qkvo);
  }

  void mixer_out(const BlockWeights& block, int64_t rows, Activations& act) override {
    multiply(block.out_proj, gated_heads(block, rows, act), rows, onto(act.x));
  }

  void feed_forward(const BlockWeights& block, int64_t rows, Activations& act) override {
    const Linear& gate_up = block.ffn_gate_up;
    const ProductInput u = input({block.norm_ffn, act.x, rows}, gate_up);
    const ProductRows product = rows_for(block.ffn_down, products_, rows);
    if (rows <= cuda::most_gate_up_rows(gate_up.format)) {
      cuda::multiply_gate_up(gpu_->queue, cuda::matrix_of(gate_up), u, rows, dims_.ffn_dim, product);
    } else {
      const int64_t interleaved = gate_up.weight.size(0);
      const bool in_bfloat16 = rounds_gate_up(gate_up.format, rows);
      gpu_->grow(gate_up_, rows * (in_bfloat16 ? blocks_of(interleaved, 2) : interleaved), at::kFloat);
      void* const values = gate_up_.mutable_data_ptr();
      cuda::Matrix without_bias = cuda::matrix_of(gate_up);
      without_bias.bias = nullptr;  // swiglu() adds it
      multiply(without_bias, u, rows, {.y = values, .stride = interleaved, .bfloat16 = in_bfloat16});
      cuda::swiglu(gpu_->queue, {.gate_up = values,
                                 .bfloat16 = in_bfloat16,
                                 .bias = floats(gate_up.bias),
                                 .stride = interleaved,
                                 .rows = rows,
                                 .width = dims_.ffn_dim,
                                 .out = product});
    }
    multiply(block.ffn_down, {product.values, product.stride}, rows, onto(act.x));
  }

  void head(const Weights& weights, const RowPlan& plan, Activations& act, at::Tensor& logits) override {
    const std::vector<int64_t>& logit_rows = plan.logit_rows();
    if (logit_rows.empty()) return;
    const auto rows = static_cast<int64_t>(logit_rows.size());
    Normed x{weights.out_norm, act.x, rows};
    const bool in_sequence = logit_rows.back() - logit_rows.front() + 1 == rows;
    if (in_sequence) {
      x.first_row = logit_rows.front();
    } else {
      x.row_ids = staged(logit_rows);
    }
    multiply(weights.head, input(x, weights.head), rows,
             {.y = mutable_floats(logits), .stride = logits.stride(0), .cap = dims_.logit_soft_cap});
  }

  [[nodiscard]] int64_t max_candidates() const override { return cuda::kMaxCandidates; }

  void find_candidates(const at::Tensor& logits, int64_t vocab, at::Tensor& candidates) override {
    const int64_t rows = candidates.size(0);
    const int64_t count = candidates.size(1);
    XLSTM_ASSERT(count >= 1 && count <= cuda::kMaxCandidates && count <= vocab && vocab <= logits.size(1));
    XLSTM_ASSERT(rows <= logits.size(0) && logits.stride(1) == 1 && candidates.is_contiguous());
    gpu_->grow(keys_, cuda::candidate_scratch(rows, vocab, count), at::kLong);
    cuda::find_candidates(gpu_->queue, {.logits = floats(logits),
                                        .stride = logits.stride(0),
                                        .rows = rows,
                                        .vocab = vocab,
                                        .count = count,
                                        .out = static_cast<int32_t*>(candidates.mutable_data_ptr()),
                                        .scratch = static_cast<uint64_t*>(keys_.mutable_data_ptr())});
  }

  [[nodiscard]] std::unique_ptr<TokenChooser> make_chooser(const ChoiceRules& rules,
                                                           std::span<const Draw> draws) override {
    return cuda::make_token_chooser(gpu_, rules, draws);
  }

  [[nodiscard]] PassMemory pass_memory(const PassSize& size, WeightFormat matrices) const override {
    const auto padded = [](int64_t columns) { return static_cast<double>(cuda::padded_columns(columns)); };
    const double normed = padded(dims_.embedding_dim);
    double row = std::max(normed, padded(dims_.v_dim())) + padded(dims_.ffn_dim);  // inputs_, products_
    if (matrices != WeightFormat::kFloat32 && !cuda::takes_side(size.rows, dims_.embedding_dim)) {
      row += normed;  // float32_inputs_
    }
    double bytes = sizeof(float) * (row * static_cast<double>(size.rows) + gate_up_floats(matrices, size.rows));
    if (cuda::is_widened(matrices, size.rows)) {
      bytes += static_cast<double>(std::max({cuda::widened_bytes(dims_.qkvo_dim(), dims_.embedding_dim),
                                             cuda::widened_bytes(dims_.embedding_dim, dims_.v_dim()),
                                             cuda::widened_bytes(2 * dims_.ffn_dim, dims_.embedding_dim),
                                             cuda::widened_bytes(dims_.embedding_dim, dims_.ffn_dim),
                                             cuda::widened_bytes(dims_.vocab_size, dims_.embedding_dim)}));
    }
    return {.ffn = false, .scratch_bytes = bytes};
  }

 private:
  // Rows of x that a norm is still to be applied to (or none, if its weight is undefined).
  struct Normed {
    const Norm& norm;
    const at::Tensor& x;
    int64_t rows;
    int64_t first_row = 0;
    const int32_t* row_ids = nullptr;
  };

  void embed(const Weights& weights, const int32_t* ids, int64_t rows, Activations& act) {
    const at::Tensor& table = weights.embedding;
    cuda::embed(gpu_->queue, {.table = table.const_data_ptr(),
                              .type = format_of(table),
                              .ids = ids,
                              .rows = rows,
                              .width = dims_.embedding_dim,
                              .x = mutable_floats(act.x)});
  }

  // Rows of `linear.in` values in a scratch tensor, as the product with `linear` takes them.
  [[nodiscard]] ProductRows rows_for(const Linear& linear, at::Tensor& scratch, int64_t rows) {
    const int64_t stride = cuda::padded_columns(linear.in);
    gpu_->grow(scratch, rows * stride, at::kFloat);
    return {scratch.mutable_data_ptr(), stride, takes_bfloat16(linear)};
  }

  // Rows of `stride` floats for the product with the gates, which does not take them rounded.
  [[nodiscard]] ProductRows float32_rows(int64_t stride, int64_t rows) {
    gpu_->grow(float32_inputs_, rows * stride, at::kFloat);
    return {float32_inputs_.mutable_data_ptr(), stride, /*bfloat16=*/false};
  }

  // Whether the product norms the rows itself.
  [[nodiscard]] static bool is_fused(const Normed& u) {
    return u.rows <= cuda::kFusedNormRows && u.norm.weight.defined() && u.row_ids == nullptr;
  }

  [[nodiscard]] static const float* first_of(const Normed& u) { return floats(u.x) + u.first_row * u.x.stride(0); }

  [[nodiscard]] ProductInput fused(const Normed& u) const {
    return {
        first_of(u),
        u.x.stride(0),
        {.kind = InputNorm::kRms, .weight = floats(u.norm.weight), .bias = floats(u.norm.bias), .eps = dims_.norm_eps}};
  }

  // The norm whose rows the product with `linear` takes.
  [[nodiscard]] cuda::RmsNorm norm_of(const Normed& u, const Linear& linear) {
    return {.x = first_of(u),
            .x_stride = u.x.stride(0),
            .row_ids = u.row_ids,
            .rows = u.rows,
            .width = linear.in,
            .weight = floats(u.norm.weight),
            .bias = floats(u.norm.bias),
            .eps = dims_.norm_eps,
            .out = rows_for(linear, inputs_, u.rows)};
  }

  // The input of the product with `linear`: normed here, or by the product itself.
  [[nodiscard]] ProductInput input(const Normed& u, const Linear& linear) {
    if (is_fused(u)) return fused(u);
    const cuda::RmsNorm norm = norm_of(u, linear);
    cuda::rms_norm(gpu_->queue, norm);
    return {norm.out.values, norm.out.stride};
  }

  // LayerNorm over each head's features of h ⊙ σ(o), as the input of the output projection.
  [[nodiscard]] ProductInput gated_heads(const BlockWeights& block, int64_t rows, const Activations& act) {
    const Norm& norm = block.multihead_norm;
    if (rows <= cuda::kFusedNormRows) {
      return {floats(act.h),
              act.h.stride(0),
              {.kind = InputNorm::kGatedHead,
               .head_dim = static_cast<int32_t>(dims_.head_dim_v),
               .weight = floats(norm.weight),
               .bias = floats(norm.bias),
               .o = floats(act.o),
               .o_stride = act.o.stride(0),
               .eps = dims_.norm_eps}};
    }
    const ProductRows y = rows_for(block.out_proj, inputs_, rows);
    cuda::gated_head_norm(gpu_->queue, {.h = floats(act.h),
                                        .h_stride = act.h.stride(0),
                                        .o = floats(act.o),
                                        .o_stride = act.o.stride(0),
                                        .rows = rows,
                                        .heads = dims_.num_heads,
                                        .head_dim = dims_.head_dim_v,
                                        .weight = floats(norm.weight),
                                        .bias = floats(norm.bias),
                                        .eps = dims_.norm_eps,
                                        .out = y});
    return {y.values, y.stride};
  }

  [[nodiscard]] static ProductOutput onto(const at::Tensor& x) {
    return {.y = mutable_floats(x), .stride = x.stride(0), .add = true};
  }

  void multiply(const Linear& linear, const ProductInput& x, int64_t rows, const ProductOutput& y) {
    multiply(cuda::matrix_of(linear), x, rows, y);
  }

  void multiply(const cuda::Matrix& matrix, const ProductInput& x, int64_t rows, const ProductOutput& y) {
    if (!cuda::is_widened(matrix.format, rows)) return cuda::multiply(gpu_->queue, matrix, x, rows, y);
    const int64_t bytes = cuda::widened_bytes(matrix.out, matrix.in);
    gpu_->grow(widened_, bytes, at::kByte);
    cuda::multiply_widened(gpu_->queue, matrix, x, rows, y, {widened_.mutable_data_ptr(), bytes});
  }

  // Whether the sums of gate and up of many rows are rounded to bfloat16, as their product is in any case: half as much
  // to write and to read again.
  [[nodiscard]] static bool rounds_gate_up(WeightFormat format, int64_t rows) {
    return format != WeightFormat::kFloat32 && cuda::goes_to_library(format, rows);
  }

  // Floats of gate_up_ after passes of up to so many rows: fewer rows may need more, which are not rounded.
  [[nodiscard]] double gate_up_floats(WeightFormat format, int64_t rows) const {
    const auto ffn = static_cast<double>(dims_.ffn_dim);
    if (!rounds_gate_up(format, rows)) {
      return rows > cuda::most_gate_up_rows(format) ? 2 * ffn * static_cast<double>(rows) : 0;
    }
    const double rounded = ffn * static_cast<double>(rows);
    return is_quantized(format) ? std::max(rounded, 2 * ffn * (cuda::kLeastWidenedRows - 1)) : rounded;
  }

  [[nodiscard]] const int32_t* staged(std::span<const int64_t> values) {
    int32_values_.resize(values.size());
    std::transform(values.begin(), values.end(), int32_values_.begin(),
                   [](int64_t value) { return static_cast<int32_t>(value); });
    return gpu_->queue.stage(int32_values_);
  }

  ModelDims dims_;
  std::shared_ptr<cuda::Gpu> gpu_;
  // Scratch of the largest pass so far. Inputs of products are float32 or bfloat16 by turns.
  at::Tensor inputs_;          // what a norm made for the product behind it
  at::Tensor float32_inputs_;  // the same for the product with the gates
  at::Tensor products_;        // SiLU(gate) · up
  at::Tensor gate_up_;         // interleaved, of passes with many rows, float32 or bfloat16
  at::Tensor widened_;         // a slice of a matrix of integer codes, as bfloat16
  at::Tensor keys_;            // of find_candidates
  std::vector<int32_t> int32_values_;
};

}  // namespace

std::unique_ptr<DeviceOps> make_cuda_ops(const ModelDims& dims, std::shared_ptr<cuda::Gpu> gpu) {
  return std::make_unique<CudaOps>(dims, std::move(gpu));
}

}  // namespace xlstm
