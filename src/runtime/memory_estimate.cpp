#include "xlstm/runtime/memory_estimate.h"

#include <algorithm>
#include <vector>

#include "kernels/row_plan.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"
#include "xlstm/model/load_weights.h"

namespace xlstm {
namespace {

// Anonymous memory beside the model's own, from before the load on: the tokenizer, threads with their stacks and
// allocator arenas, kernels' scratch. Measured: 4 to 9 MB with a tokenizer of 4096 tokens.
constexpr double kFixedBytes = 32e6;

// A parameter as it is loaded, in the order of loading.
struct Planned {
  double elements = 0;
  double bytes = 0;   // at run time
  double packed = 0;  // of it, in matrices that the operations pack
};

int64_t size_of(const std::vector<int64_t>& shape, size_t axis) {
  return axis < shape.size() ? shape[axis] : 1;
}

// A matrix that is multiplied with.
Planned matrix(const MatrixFormat& format, int64_t rows, int64_t columns) {
  const auto count = static_cast<double>(rows);
  const double bytes = matrix_bytes(format, count, columns);
  return {count * static_cast<double>(columns), bytes, bytes};
}

// Anything else.
Planned plain(WeightFormat format, int64_t rows, int64_t columns) {
  Planned out = matrix({format, 0}, rows, columns);
  out.packed = 0;
  return out;
}

Planned planned(const NamedParameter& named, const WeightFormats& formats) {
  const int64_t rows = size_of(named.parameter->shape, 0);
  const int64_t columns = size_of(named.parameter->shape, 1);
  switch (named.role) {
    case ParameterRole::kVector: return plain(WeightFormat::kFloat32, rows, columns);
    case ParameterRole::kEmbedding: return plain(formats.embedding, rows, columns);
    case ParameterRole::kGates: return matrix({}, rows, columns);
    case ParameterRole::kMatrix: return matrix(formats.matrices, rows, columns);
    case ParameterRole::kHead: return matrix(formats.head, rows, columns);
  }
  return {};
}

std::vector<Planned> plan(const CheckpointLayout& layout, const EstimateRequest& request) {
  const WeightFormats formats = weight_formats(request.weight_dtype, layout);
  std::vector<Planned> out;
  for (const NamedParameter& named : list_parameters(layout)) out.push_back(planned(named, formats));
  // A tied head shares the table's memory only as floats in the table's own order.
  if (layout.head_is_embedding && (request.packs || is_quantized(formats.head.format))) {
    out.push_back(matrix(formats.head, size_of(layout.embedding.shape, 0), size_of(layout.embedding.shape, 1)));
  }
  return out;
}

std::vector<Planned> plan(const ModelDims& dims, int64_t num_blocks, const EstimateRequest& request) {
  const WeightFormats formats = weight_formats(request.weight_dtype);
  const int64_t e = dims.embedding_dim;
  const int64_t v = dims.v_dim();
  const int64_t f = dims.ffn_dim;
  const int64_t vocab = dims.vocab_size;
  const int64_t gates = 2 * dims.num_heads;
  std::vector<Planned> out = {plain(formats.embedding, vocab, e)};
  for (int64_t block = 0; block < num_blocks; ++block) {
    out.push_back(plain(WeightFormat::kFloat32, 1, 2 * e + v + gates));  // norms and the gates' bias
    out.push_back(matrix({}, gates, e));
    out.push_back(matrix(formats.matrices, dims.qkvo_dim(), e));
    out.push_back(matrix(formats.matrices, e, v));
    out.push_back(matrix(formats.matrices, 2 * f, e));
    out.push_back(matrix(formats.matrices, e, f));
  }
  out.push_back(plain(WeightFormat::kFloat32, 1, e));
  out.push_back(matrix(formats.head, vocab, e));
  return out;
}

double state_bytes(const ModelDims& dims, int64_t num_blocks, const EstimateRequest& request) {
  const auto dk = static_cast<double>(dims.head_dim_qk);
  const auto dv = static_cast<double>(dims.head_dim_v);
  const double per_head = (dk * dv + dk) * request.state_bytes + 4;
  return per_head * static_cast<double>(dims.num_heads) * static_cast<double>(num_blocks) *
         static_cast<double>(request.slots);
}

// What Workspace::reserve() allocates.
double workspace_bytes(const ModelDims& dims, const EstimateRequest& request) {
  const int64_t ffn = request.ffn ? 2 * dims.ffn_dim : 0;
  const int64_t per_row = dims.embedding_dim + dims.qkvo_dim() + 2 * dims.num_heads + dims.v_dim() + ffn;
  return 4 * (static_cast<double>(per_row) * static_cast<double>(request.rows) +
              static_cast<double>(dims.vocab_size) * static_cast<double>(request.logit_rows));
}

// Shapes may be made up: their product need not fit into 64 bits.
uint64_t to_bytes(double bytes) {
  return static_cast<uint64_t>(std::min(bytes, 9e18));
}

MemoryEstimate estimate(const std::vector<Planned>& parameters, const ModelDims& dims, int64_t num_blocks,
                        const EstimateRequest& request) {
  double weights = 0;
  double loading = 0;
  double largest = 0;
  double staging = 0;
  for (const Planned& parameter : parameters) {
    weights += parameter.bytes;
    const double twice = request.packs ? parameter.packed : 0;
    loading = std::max(loading, weights + twice);
    largest = std::max(largest, parameter.elements);
    staging = std::max(staging, parameter.bytes + twice);
  }
  MemoryEstimate out;
  out.weights = to_bytes(weights);
  out.loading = to_bytes(loading);
  out.staging = to_bytes(staging);
  out.state = to_bytes(state_bytes(dims, num_blocks, request));
  const double copies = request.float32_copies ? 4 * largest : 0;
  out.workspace = to_bytes(workspace_bytes(dims, request) + copies + request.scratch_bytes);
  out.fixed = to_bytes(kFixedBytes);
  out.place = request.place;
  return out;
}

std::string gigabytes(uint64_t bytes) {
  const double value = static_cast<double>(bytes) / 1e9;
  return fixed(value, value < 1 ? 3 : 1);
}

void require_side(const MemoryEstimate& estimate, uint64_t needed, const MemoryRoom& room, bool force) {
  if (needed <= room.bytes) return;
  const std::string loading = estimate.loading > estimate.weights + estimate.state + estimate.workspace
                                  ? cat(" (", gigabytes(estimate.loading), " while loading)")
                                  : "";
  const std::string parts = cat("weights ", gigabytes(estimate.weights), loading, ", state ", gigabytes(estimate.state),
                                ", workspace ", gigabytes(estimate.workspace), ", other ", gigabytes(estimate.fixed));
  const std::string expected = cat("at most ", gigabytes(room.bytes), " GB ", room.bound);
  const std::string got = cat(gigabytes(needed), " GB needed: ", parts);
  if (force) {
    log::warn(format_error("memory", "estimate before load", expected, cat(got, "; loading anyway")));
    return;
  }
  fail(ExitCode::kMemory, "memory", "estimate before load", expected, cat(got, "; --force loads anyway"));
}

}  // namespace

EstimateRequest estimate_request(const RuntimeOpts& opts, const Resolution& resolution, int64_t tokens) {
  EstimateRequest request;
  request.weight_dtype = resolution.weight_dtype;
  request.state_bytes = opts.state_dtype == "float32" ? 4 : 2;
  request.rows = std::min(std::max(std::min(opts.prefill_segment, kMostPassRows), opts.chunk_size), tokens);
  request.float32_copies = resolution.ops == "native" && resolution.weight_dtype != "float32";
  request.packs = resolution.ops != "native";
  const std::string kind = device_kind(resolution.device);
  request.place = kind == "cpu" ? WeightPlace::kHost : kind == "mps" ? WeightPlace::kUnified : WeightPlace::kDevice;
  return request;
}

uint64_t MemoryEstimate::total() const {
  return fixed + std::max(loading, weights + state + workspace);
}

uint64_t MemoryEstimate::host() const {
  return place == WeightPlace::kDevice ? fixed + staging : total();
}

uint64_t MemoryEstimate::device() const {
  return place == WeightPlace::kHost ? 0 : weights + state + workspace;
}

MemoryEstimate estimate_memory(const CheckpointLayout& layout, const EstimateRequest& request) {
  return estimate(plan(layout, request), dims_of(layout.config), layout.config.num_blocks, request);
}

MemoryEstimate estimate_memory(const ModelDims& dims, int64_t num_blocks, const EstimateRequest& request) {
  return estimate(plan(dims, num_blocks, request), dims, num_blocks, request);
}

void require_room(const MemoryEstimate& estimate, const MemorySample& sample, const RuntimeOpts& opts, bool force) {
  const GuardLimits limits = guard_limits(opts);
  const GuardLimits* guard = opts.mem_watchdog ? &limits : nullptr;
  require_side(estimate, estimate.host(), host_room(sample.host, guard), force);
  require_side(estimate, estimate.device(), device_room(sample.device, guard), force);
}

}  // namespace xlstm
