#include "kernels/metal/metal_ops.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "kernels/metal/ints.h"
#include "kernels/metal/metal_matrix.h"
#include "kernels/metal/metal_sampling.h"
#include "kernels/metal/product_args.h"
#include "kernels/metal/rows_args.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

using metal::Grid;
using metal::Kernel;

// Up to this many rows a product is bound by reading its matrix, which gemv does once, however many rows there are.
// From there on it is bound by arithmetic: of a gemm tile's 64 rows more than a quarter is in use then.
constexpr int64_t kGemvRows = 16;
// Up to this many rows gemv normalises its input itself (gemv.metal).
constexpr int64_t kFusedNormRows = 4;
// Matrices of fewer rows give less than 2048 simdgroups of four rows, too few for the 40 to 80 cores of a large GPU to
// hide the memory's latency with (each holds some 24 simdgroups at once): four simdgroups share the rows' columns then.
constexpr int64_t kSplitBelow = 8192;

constexpr std::array<const char*, 5> kFormatNames = {"float32", "bfloat16", "float16", "int8", "int4"};
constexpr int kGemvSizes = 5;       // 1, 2, 4, 8, 16 rows
constexpr int kFusedNormSizes = 3;  // 1, 2, 4

int size_index(int64_t rows) {
  int index = 0;
  while ((int64_t{1} << index) < rows) ++index;
  return index;
}

// `tensor`, or any other in the place of one that a kernel will not touch.
const at::Tensor& or_else(const at::Tensor& tensor, const at::Tensor& other) {
  return tensor.defined() ? tensor : other;
}

struct ProductKernels {
  std::array<Kernel, kGemvSizes> gemv{};
  std::array<Kernel, kFusedNormSizes> gemv_norm{};
  Kernel gemm = nullptr;
};

// Input rows of a product: [first_row, …) of a tensor with `stride` values from row to row.
struct Input {
  const at::Tensor& values;
  int64_t stride;
  int64_t first_row = 0;
  const Norm* norm = nullptr;  // still to be applied, by the product
};

struct Output {
  const at::Tensor& values;
  int64_t rows;
  bool gate_up = false;
  bool add = false;
  float cap = 0;
};

class MetalOps : public DeviceOps {
 public:
  MetalOps(const ModelDims& dims, std::shared_ptr<metal::Gpu> gpu)
      : dims_(dims),
        gpu_(std::move(gpu)),
        embed_{gpu_->kernel("embed_float32"), gpu_->kernel("embed_bfloat16"), gpu_->kernel("embed_float16")},
        rms_norm_(gpu_->kernel("rms_norm")),
        gated_head_norm_(gpu_->kernel("gated_head_norm")),
        sampling_(gpu_) {}
  ~MetalOps() override { gpu_->abandon_pass(); }
  MetalOps(const MetalOps&) = delete;
  MetalOps& operator=(const MetalOps&) = delete;

  [[nodiscard]] Linear pack(Linear canonical, RowOrder /*order*/) const override {
    make_kernels(canonical.format);
    return metal::pack_linear(std::move(canonical), gpu_->tensors());
  }

  [[nodiscard]] at::Tensor place(at::Tensor tensor) const override { return tensor.contiguous().to(gpu_->tensors()); }

  void begin_pass(const RowPlan& plan) override {
    const int64_t needed = plan.rows() * std::max(dims_.embedding_dim, dims_.v_dim());
    if (!scratch_.defined() || scratch_.numel() < needed) {
      scratch_ = at::empty({needed}, at::TensorOptions().device(gpu_->tensors()).dtype(at::kFloat));
    }
    gpu_->begin_pass();
  }

  void end_pass() override { gpu_->end_pass(); }

  void embed(const Weights& weights, std::span<const int64_t> ids, Activations& act) override {
    look_up(weights.embedding, ids, act.x);
  }

  void mixer_in(const BlockWeights& block, int64_t rows, Activations& act) override {
    const Input u = normed(block.norm_mlstm, {act.x, dims_.embedding_dim}, rows);
    multiply(u, block.qkvo, {act.qkvo, rows});
    multiply(u, block.gates, {.values = act.gates, .rows = rows, .cap = dims_.gate_soft_cap});
  }

  void mixer_out(const BlockWeights& block, int64_t rows, Activations& act) override {
    XLSTM_ASSERT(scratch_.numel() >= rows * dims_.v_dim());
    const Norm& norm = block.multihead_norm;
    shader::HeadNormArgs args{};
    args.head_dim = metal::to_int(dims_.head_dim_v);
    args.h_stride = metal::to_int(act.h.stride(0));
    args.o_stride = metal::to_int(act.o.stride(0));
    args.y_stride = metal::to_int(dims_.v_dim());
    args.has_bias = norm.bias.defined() ? 1 : 0;
    args.eps = dims_.norm_eps;
    gpu_->run(gated_head_norm_, Grid{{dims_.num_heads, rows, 1}, shader::kRowThreads}, args,
              {act.h, act.o, norm.weight, or_else(norm.bias, norm.weight), scratch_});
    multiply({scratch_, dims_.v_dim()}, block.out_proj, {.values = act.x, .rows = rows, .add = true});
  }

  void feed_forward(const BlockWeights& block, int64_t rows, Activations& act) override {
    const Input u = normed(block.norm_ffn, {act.x, dims_.embedding_dim}, rows);
    multiply(u, block.ffn_gate_up, {.values = act.ffn, .rows = rows, .gate_up = true});
    multiply({act.ffn, act.ffn.stride(0)}, block.ffn_down, {.values = act.x, .rows = rows, .add = true});
  }

  void head(const Weights& weights, const RowPlan& plan, Activations& act, at::Tensor& logits) override {
    const std::vector<int64_t>& logit_rows = plan.logit_rows();
    if (logit_rows.empty()) return;
    const auto rows = static_cast<int64_t>(logit_rows.size());
    const bool in_sequence = logit_rows.back() - logit_rows.front() + 1 == rows;
    if (!in_sequence) look_up(act.x, logit_rows, scratch_);
    const Input x{in_sequence ? act.x : scratch_, dims_.embedding_dim, in_sequence ? logit_rows.front() : 0};
    multiply(weights.out_norm.weight.defined() ? normed(weights.out_norm, x, rows) : x, weights.head,
             {.values = logits, .rows = rows, .cap = dims_.logit_soft_cap});
  }

  [[nodiscard]] int64_t max_candidates() const override { return MetalSampling::kMaxCandidates; }

  void find_candidates(const at::Tensor& logits, int64_t vocab, at::Tensor& candidates) override {
    sampling_.find_candidates(logits, vocab, candidates);
  }

 private:
  // Of a format that some matrix has: a kernel takes a while to be made for the GPU.
  void make_kernels(WeightFormat format) const {
    ProductKernels& kernels = products_[static_cast<size_t>(format)];
    if (kernels.gemm != nullptr) return;
    const char* const name = kFormatNames[static_cast<size_t>(format)];
    for (size_t i = 0; i < kernels.gemv.size(); ++i) kernels.gemv[i] = gpu_->kernel(cat("gemv_", name, "_", 1 << i));
    for (size_t i = 0; i < kernels.gemv_norm.size(); ++i) {
      kernels.gemv_norm[i] = gpu_->kernel(cat("gemv_", name, "_", 1 << i, "_norm"));
    }
    kernels.gemm = gpu_->kernel(cat("gemm_", name));
  }

  // out[i] = table[ids[i]], rows of E values.
  void look_up(const at::Tensor& table, std::span<const int64_t> ids, const at::Tensor& out) {
    const Kernel kernel = embed_kernel(table);
    const auto count = static_cast<int64_t>(ids.size());
    XLSTM_ASSERT(out.numel() >= count * dims_.embedding_dim);
    for (int64_t first = 0; first < count; first += shader::kMostIds) {
      const int64_t rows = std::min<int64_t>(shader::kMostIds, count - first);
      shader::EmbedArgs args{};
      args.width = metal::to_int(dims_.embedding_dim);
      args.first_row = metal::to_int(first);
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t id = ids[static_cast<size_t>(first + i)];
        XLSTM_ASSERT(id >= 0 && id < table.size(0));
        args.ids[i] = static_cast<int>(id);
      }
      gpu_->run(kernel,
                Grid{{metal::blocks_of(dims_.embedding_dim, shader::kRowThreads), rows, 1}, shader::kRowThreads}, args,
                {table, out});
    }
  }

  [[nodiscard]] Kernel embed_kernel(const at::Tensor& table) const {
    switch (table.scalar_type()) {
      case at::kFloat: return embed_[0];
      case at::kBFloat16: return embed_[1];
      case at::kHalf: return embed_[2];
      default:
        fail(ExitCode::kDevice, "embedding dtype", "Metal kernels", "float32, bfloat16 or float16",
             c10::toString(table.scalar_type()));
    }
  }

  // RMSNorm of rows of E values, now or by the products that follow.
  [[nodiscard]] Input normed(const Norm& norm, const Input& x, int64_t rows) {
    XLSTM_ASSERT(x.stride == dims_.embedding_dim && scratch_.numel() >= rows * dims_.embedding_dim);
    if (rows <= kFusedNormRows && !norm.bias.defined()) return {x.values, x.stride, x.first_row, &norm};
    shader::RmsNormArgs args{};
    args.width = metal::to_int(dims_.embedding_dim);
    args.first_row = metal::to_int(x.first_row);
    args.has_bias = norm.bias.defined() ? 1 : 0;
    args.eps = dims_.norm_eps;
    gpu_->run(rms_norm_, Grid{{rows, 1, 1}, shader::kRowThreads}, args,
              {x.values, norm.weight, or_else(norm.bias, norm.weight), scratch_});
    return {scratch_, dims_.embedding_dim};
  }

  void multiply(const Input& x, const Linear& w, const Output& y) {
    shader::ProductArgs args{};
    args.rows = metal::to_int(y.rows);
    args.first_row = metal::to_int(x.first_row);
    args.in = metal::to_int(w.in);
    args.out = metal::to_int(y.gate_up ? w.out / 2 : w.out);
    args.gate_rows = y.gate_up ? args.out : 0;
    args.x_stride = metal::to_int(x.stride);
    args.y_stride = metal::to_int(y.values.stride(0));
    args.row_words = metal::to_int(w.weight.size(1) * static_cast<int64_t>(w.weight.element_size()) / 4);
    if (is_quantized(w.format)) {
      args.groups = metal::to_int(w.scale.size(1));
      args.group_step = args.groups > 1 ? static_cast<float>(shader::kColumnPad) / static_cast<float>(w.group) : 0;
    }
    args.has_bias = w.bias.defined() ? 1 : 0;
    args.add = y.add ? 1 : 0;
    args.cap = y.cap;
    args.eps = dims_.norm_eps;
    args.splits = w.out < kSplitBelow ? shader::kProductSimds : 1;

    const ProductKernels& kernels = products_[static_cast<size_t>(w.format)];
    const at::Tensor& scale = or_else(w.scale, w.weight);
    const at::Tensor& zero = or_else(w.zero, w.weight);
    const at::Tensor& bias = or_else(w.bias, w.weight);
    if (y.rows > kGemvRows) {
      const int64_t outs = int64_t{shader::kGemmOuts} / (y.gate_up ? 2 : 1);
      const Grid grid{{metal::blocks_of(args.out, outs), metal::blocks_of(y.rows, shader::kGemmRows), 1},
                      shader::kProductThreads};
      gpu_->run(kernels.gemm, grid, args, {w.weight, scale, zero, bias, x.values, y.values});
      return;
    }
    const auto size = static_cast<size_t>(size_index(y.rows));
    const int64_t block_outs = int64_t{shader::kGemvOuts} / (y.gate_up ? 2 : 1);
    const int64_t outs = block_outs * shader::kProductSimds / args.splits;
    gpu_->run(x.norm != nullptr ? kernels.gemv_norm.at(size) : kernels.gemv.at(size),
              Grid{{metal::blocks_of(args.out, outs), 1, 1}, shader::kProductThreads}, args,
              {w.weight, scale, zero, bias, x.values, y.values, x.norm != nullptr ? x.norm->weight : w.weight});
  }

  ModelDims dims_;
  std::shared_ptr<metal::Gpu> gpu_;
  std::array<Kernel, 3> embed_;
  Kernel rms_norm_;
  Kernel gated_head_norm_;
  MetalSampling sampling_;
  mutable std::array<ProductKernels, kFormatNames.size()> products_;  // by WeightFormat, of those packed
  at::Tensor scratch_;  // rows that a norm or a look-up made for the product behind it
};

}  // namespace

std::unique_ptr<DeviceOps> make_metal_ops(const ModelDims& dims, std::shared_ptr<metal::Gpu> gpu) {
  return std::make_unique<MetalOps>(dims, std::move(gpu));
}

}  // namespace xlstm
