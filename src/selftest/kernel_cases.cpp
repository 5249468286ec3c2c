#include "src/selftest/kernel_cases.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <utility>

#include "kernels/native/native_cell.h"
#include "kernels/native/native_ops.h"
#include "kernels/native/native_parallel.h"
#include "xlstm/core/str.h"
#include "xlstm/model/load_weights.h"
#include "xlstm/model/state.h"
#include "xlstm/model/workspace.h"
#include "xlstm/registry/make_kernels.h"

namespace xlstm {
namespace {

constexpr double kFloat32Epsilon = 1.1920929e-07;

struct Shape {
  ModelDims dims;
  std::vector<int64_t> span_rows;  // one entry per sequence of the batch
  int64_t chunk_size;
};

ModelDims make_dims(int64_t embedding, int64_t heads, int64_t dk, int64_t dv) {
  ModelDims dims;
  dims.vocab_size = 101;
  dims.embedding_dim = embedding;
  dims.num_heads = heads;
  dims.head_dim_qk = dk;
  dims.head_dim_v = dv;
  dims.ffn_dim = embedding * 8 / 3 + 5;
  dims.gate_soft_cap = 15;
  dims.logit_soft_cap = 30;
  return dims;
}

std::vector<Shape> shapes() {
  return {
      {make_dims(256, 4, 32, 64), {260}, 64},   {make_dims(256, 4, 32, 64), {65, 1, 130, 16}, 32},
      {make_dims(1024, 4, 128, 256), {96}, 32}, {make_dims(96, 3, 17, 31), {50, 33}, 16},
      {make_dims(7, 1, 5, 3), {40}, 7},         {make_dims(2048, 4, 256, 512), {70}, 64},
      {make_dims(1024, 4, 128, 256), {1}, 32},  {make_dims(1024, 4, 128, 256), {1, 1, 1, 1, 1, 1, 1}, 32},
  };
}

std::string text_of(const Shape& shape) {
  return cat("E ", shape.dims.embedding_dim, " heads ", shape.dims.num_heads, " Dk ", shape.dims.head_dim_qk, " Dv ",
             shape.dims.head_dim_v, " rows ", shape_text(shape.span_rows), " chunk ", shape.chunk_size);
}

// The kernels that others are judged by have nothing to be compared with on the device that they are judged on.
bool is_oracle(const KernelInfo& info, const std::string& kind) {
  const bool native = info.key == "native" || info.key == "native_sequence__native";
  return native && kind == "cpu";
}

at::Tensor host(const at::Tensor& tensor) {
  return tensor.to(at::kCPU).to(at::kDouble);  // in this order: an Apple GPU has no doubles
}

// Fills the activations with the inputs of a cell, scaled as in trained models.
void randomise(Activations& act, const ModelDims& dims, uint64_t seed) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto fill = [&](at::Tensor target, double mean, double deviation) {
    target.copy_(at::empty(target.sizes(), at::kFloat).normal_(mean, deviation, generator));
  };
  fill(act.x, 0, 1);
  fill(act.qkvo, 0, 1);
  fill(act.h, 0, 1);
  fill(act.gates.narrow(1, 0, dims.num_heads), -3, 3);
  fill(act.gates.narrow(1, dims.num_heads, dims.num_heads), 3, 1.5);
}

// One batch on one device: activations and a state that is not zero, the same for equal seeds.
struct CellBatch {
  CellBatch(const Shape& shape, const std::string& device)
      : work(shape.dims, torch_device(device)),
        state(shape.dims, {1, static_cast<int64_t>(shape.span_rows.size()), at::kFloat, torch_device(device)}) {
    for (size_t i = 0; i < shape.span_rows.size(); ++i) {
      // Slots in reverse, so that a kernel that mistakes the span's index for its slot is caught.
      plan.add(static_cast<int64_t>(shape.span_rows.size() - 1 - i), shape.span_rows[i], LogitRows::kNone);
    }
    work.reserve(plan.rows(), 0);
    randomise(work.act, shape.dims, 1);
    at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(2);
    LayerState& layer = state.layer(0);
    for (at::Tensor* tensor : {&layer.c, &layer.n, &layer.m}) {
      tensor->copy_(at::empty(tensor->sizes(), at::kFloat).normal_(0, 1, generator));
    }
  }

  void run(CellKernel& kernel) { kernel.run({work.act, state.layer(0), plan.spans()}); }

  RowPlan plan;
  Workspace work;
  State state;
};

// The head norm's view of h, which is what the model goes on with: raw h has heavy tails where its denominator is near
// a change of sign, and a few such elements would hide all others.
at::Tensor normed_h(const CellBatch& batch, const ModelDims& dims) {
  const int64_t rows = batch.plan.rows();
  const at::Tensor h = host(batch.work.act.h.narrow(0, 0, rows)).view({rows, dims.num_heads, dims.head_dim_v});
  const at::Tensor centred = h - h.mean(-1, true);
  return centred * at::rsqrt(centred.square().mean(-1, true) + dims.norm_eps);
}

// Rounding errors of a recurrence add up like a random walk over its tokens and the terms of each dot product; the
// head norm can enlarge them a few times over.
double cell_tolerance(const Shape& shape) {
  int64_t longest = 0;
  for (const int64_t rows : shape.span_rows) longest = std::max(longest, rows);
  return 16 * kFloat32Epsilon * std::sqrt(static_cast<double>(longest + shape.dims.head_dim_qk));
}

// A chunkwise kernel that rounds the inputs of its products does so five times on the way to h (q, k, v, scores, C), by
// 2^-9 of a value at most and independently of each other: less than 2^-8 together, which the head norm enlarges, too.
const double kRoundedCell = std::ldexp(1, -6);

// The types of weights that a kernel multiplies differently for.
std::vector<std::string> precisions(const KernelInfo& info) {
  if (info.family == KernelFamily::kChunkwise && info.device == "cuda") return {"float32", "bfloat16"};
  return {"float32"};
}

void check_cell(const KernelInfo& info, const Shape& shape, const Resolution& resolution, ThreadPool& pool,
                const CaseSink& sink) {
  Shape fitted = shape;
  if (info.family == KernelFamily::kStep) fitted.span_rows.assign(shape.span_rows.size(), 1);
  if (info.family == KernelFamily::kChunkwise) {
    for (int64_t& rows : fitted.span_rows) rows = std::max<int64_t>(1, rows / shape.chunk_size) * shape.chunk_size;
  }
  CellBatch expected(fitted, "cpu");
  expected.run(*make_native_sequence(shape.dims));
  const auto memory = [](CellBatch& batch, const at::Tensor& tensor) {
    return host(tensor) * host(batch.state.layer(0).m).exp().view({batch.state.slots(), -1, 1});
  };
  const auto flat_c = [&](CellBatch& batch) { return memory(batch, batch.state.layer(0).c.flatten(2)); };
  for (const std::string& precision : precisions(info)) {
    const KernelSettings settings{
        .chunk_size = shape.chunk_size, .heads_per_band = 2, .workers = 1, .weight_dtype = precision};
    CellBatch actual(fitted, resolution.device);
    actual.run(*make_cell_kernel(info.key, resolution.device, shape.dims, settings, pool));
    const bool rounded = precision != "float32";
    const double tolerance = cell_tolerance(fitted) + (rounded ? kRoundedCell : 0);
    const std::string subject = cat(text_of(fitted), rounded ? cat(", ", precision) : "");
    sink(compare_tensors(info.key, cat(subject, ": h"), normed_h(actual, shape.dims), normed_h(expected, shape.dims),
                         tolerance));
    sink(compare_tensors(info.key, cat(subject, ": C"), flat_c(actual), flat_c(expected), tolerance));
    sink(compare_tensors(info.key, cat(subject, ": n"), memory(actual, actual.state.layer(0).n),
                         memory(expected, expected.state.layer(0).n), tolerance));
  }
}

// The quadratic form knows no initial state: compared with the recurrence from zero.
void check_parallel(const KernelInfo& info, const Shape& shape, const CaseSink& sink) {
  Shape single = shape;
  single.span_rows.resize(1);
  CellBatch batch(single, "cpu");
  batch.state.reset(0);
  batch.run(*make_native_sequence(shape.dims));
  const at::Tensor recurrent = normed_h(batch, shape.dims);

  const ModelDims& dims = shape.dims;
  const int64_t rows = batch.plan.rows();
  const Activations& act = batch.work.act;
  const auto heads = [&](const at::Tensor& t, int64_t features) {
    return host(t.narrow(0, 0, rows)).reshape({rows, dims.num_heads, features}).transpose(0, 1);
  };
  const at::Tensor gates = host(act.gates.narrow(0, 0, rows)).t();
  const at::Tensor h = native_parallel(
      dims, {heads(act.q, dims.head_dim_qk), heads(act.k, dims.head_dim_qk), heads(act.v, dims.head_dim_v),
             gates.narrow(0, 0, dims.num_heads), gates.narrow(0, dims.num_heads, dims.num_heads)});
  act.h.narrow(0, 0, rows).copy_(h.transpose(0, 1).reshape({rows, dims.v_dim()}));
  sink(
      compare_tensors(info.key, cat(text_of(single), ": h"), normed_h(batch, dims), recurrent, cell_tolerance(single)));
}

// What rounding the inputs of a product adds, relative to the result, with weights that are independent of the inputs.
double rounding_tolerance(InputRounding rounding, double inputs) {
  switch (rounding) {
    case InputRounding::kNone: return 0;
    // At most 2^-8 of each input, for each of the two products of an operation about half of it in the mean.
    case InputRounding::kBfloat16: return std::ldexp(1, -8);
    // Uniform within half a step; the largest magnitude of normally distributed inputs is less than √(2 ln 2n) + 1
    // deviations, that of their SwiGLU products about its square.
    case InputRounding::kInt8: return (2 * std::log(2 * inputs) + 1) / 127 / std::sqrt(12.0) * 2;
  }
  return 0;
}

// Runs the four operations of a block and the head; returns what they wrote, by name.
std::vector<std::pair<std::string, at::Tensor>> run_ops(DeviceOps& ops, const Weights& weights, const Shape& shape,
                                                        const std::string& device) {
  const ModelDims& dims = shape.dims;
  RowPlan plan;
  for (size_t i = 0; i < shape.span_rows.size(); ++i) {
    plan.add(static_cast<int64_t>(i), shape.span_rows[i], i % 2 == 0 ? LogitRows::kLast : LogitRows::kAll);
  }
  const int64_t rows = plan.rows();
  Workspace work(dims, torch_device(device));
  work.reserve(rows, static_cast<int64_t>(plan.logit_rows().size()));
  randomise(work.act, dims, 3);
  const at::Tensor x = work.act.x.clone();
  std::vector<int64_t> ids(static_cast<size_t>(rows));
  for (size_t r = 0; r < ids.size(); ++r) ids[r] = static_cast<int64_t>(r * 37) % dims.vocab_size;

  std::vector<std::pair<std::string, at::Tensor>> out;
  const auto keep = [&](const char* name, const at::Tensor& t) {
    out.emplace_back(name, t.narrow(0, 0, rows).clone());
  };
  // A pass each, since results can be read only after one.
  const auto pass = [&](const auto& operation) {
    work.act.x.copy_(x);
    ops.begin_pass(plan);
    operation();
    ops.end_pass();
  };
  const BlockWeights& block = weights.blocks.front();
  pass([&] { ops.embed(weights, ids, work.act); });
  keep("embed", work.act.x);
  pass([&] { ops.mixer_out(block, rows, work.act); });
  keep("mixer_out", work.act.x);
  pass([&] { ops.feed_forward(block, rows, work.act); });
  keep("feed_forward", work.act.x);
  pass([&] { ops.mixer_in(block, rows, work.act); });
  keep("mixer_in q|k|v|o", work.act.qkvo);
  keep("mixer_in gates", work.act.gates);
  pass([&] { ops.head(weights, plan, work.act, work.logits); });
  out.emplace_back("head", work.logits.clone());
  return out;
}

}  // namespace

SelftestCase compare_tensors(std::string kernel, std::string subject, const at::Tensor& actual,
                             const at::Tensor& expected, double tolerance) {
  const at::Tensor a = host(actual);
  const at::Tensor b = host(expected);
  SelftestCase result{std::move(kernel), std::move(subject)};
  result.max_abs = (a - b).abs().max().item<double>();
  result.relative = (a - b).norm().item<double>() / b.norm().item<double>();
  result.tolerance = tolerance;
  result.passed = result.relative <= tolerance;  // false for NaN
  return result;
}

void check_cells(const Resolution& resolution, ThreadPool& pool, const CaseSink& sink) {
  const std::string kind = device_kind(resolution.device);
  for (const KernelInfo& info : list_kernels()) {
    if (info.family == KernelFamily::kOps || !why_not(info, kind).empty() || is_oracle(info, kind)) continue;
    for (const Shape& shape : shapes()) {
      if (info.family == KernelFamily::kAnalysis) {
        check_parallel(info, shape, sink);
      } else {
        check_cell(info, shape, resolution, pool, sink);
      }
    }
  }
}

void check_ops(const Resolution& resolution, ThreadPool& pool, const CaseSink& sink) {
  const std::string kind = device_kind(resolution.device);
  for (const KernelInfo& info : list_kernels()) {
    if (info.family != KernelFamily::kOps || !why_not(info, kind).empty() || is_oracle(info, kind)) continue;
    for (const Shape& shape : shapes()) {
      for (const char* dtype : {"float32", "bfloat16", "float16", "int8", "int4"}) {
        const auto oracle = make_native_ops(shape.dims, at::kCPU);
        const auto ops = make_ops(info.key, resolution.device, shape.dims, pool);
        const RandomModel model{shape.dims, 1, /*seed=*/4};
        const LoadOptions load{weight_formats(dtype), pool, /*progress=*/false};
        const auto expected = run_ops(*oracle, random_weights(model, *oracle, load), shape, "cpu");
        const auto actual = run_ops(*ops, random_weights(model, *ops, load), shape, resolution.device);
        const auto longest = static_cast<double>(std::max(shape.dims.ffn_dim, shape.dims.v_dim()));
        const double sums = 4 * kFloat32Epsilon * std::sqrt(longest);
        const WeightFormat format = load.formats.matrices.format;
        for (size_t i = 0; i < expected.size(); ++i) {
          const std::string& name = expected[i].first;
          // The embedding is looked up, the gates are float32 products whatever the weights are.
          const bool exact_inputs = name == "embed" || name == "mixer_in gates";
          double roundings = rounding_tolerance(ops->input_rounding(format), longest);
          const ProductRounding more = ops->product_rounding(format, expected[i].second.size(0));
          for (const bool rounded : {more.weights, more.results && name == "feed_forward"}) {
            if (rounded) roundings += rounding_tolerance(InputRounding::kBfloat16, longest);
          }
          sink(compare_tensors(cat("ops ", info.key), cat(name, ", ", text_of(shape), ", ", dtype), actual[i].second,
                               expected[i].second, exact_inputs ? sums : sums + roundings));
        }
      }
    }
  }
}

}  // namespace xlstm
