#include "xlstm/runtime/memory_estimate.h"

#include <algorithm>
#include <vector>

#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"
#include "xlstm/model/load_weights.h"

namespace xlstm {
namespace {

// Anonymous memory beside the model's own, from before the load on: the tokenizer, threads with their stacks and
// allocator arenas, kernels' scratch. Measured: 4 to 9 MB with a tokenizer of 4096 tokens.
constexpr double kFixedBytes = 32e6;

// Bytes per element beside a parameter while it is made: random values are drawn in float32.
constexpr double kDrawingBytes = 4;

// A parameter as it is loaded, in the order of loading.
struct Planned {
  double elements = 0;
  double bytes = 4;  // per element
  double extra = 0;  // per element, until it is loaded
};

double element_count(const std::vector<int64_t>& shape) {
  double count = 1;
  for (const int64_t size : shape) count *= static_cast<double>(size);
  return count;
}

double layout_bytes(const NamedParameter& named, const WeightBytes& bytes) {
  if (named.name == "embedding") return bytes.embedding;
  if (named.name == "head") return bytes.head;
  const bool is_matrix = named.parameter->shape.size() == 2 && !named.name.ends_with(".gates");
  return is_matrix ? bytes.matrices : 4;
}

std::vector<Planned> plan(const CheckpointLayout& layout, const WeightBytes& bytes) {
  std::vector<Planned> out;
  for (const NamedParameter& named : list_parameters(layout)) {
    out.push_back({element_count(named.parameter->shape), layout_bytes(named, bytes)});
  }
  return out;
}

std::vector<Planned> plan(const ModelDims& dims, int64_t num_blocks, const WeightBytes& bytes) {
  const auto e = static_cast<double>(dims.embedding_dim);
  const auto v = static_cast<double>(dims.v_dim());
  const auto f = static_cast<double>(dims.ffn_dim);
  std::vector<Planned> out;
  const auto add = [&](double elements, double each) { out.push_back({elements, each, each < 4 ? kDrawingBytes : 0}); };
  add(e * static_cast<double>(dims.vocab_size), bytes.embedding);
  for (int64_t block = 0; block < num_blocks; ++block) {
    add(2 * e + v + 2 * static_cast<double>(dims.num_heads) * (e + 1), 4);  // norms and gates
    add(e * static_cast<double>(dims.qkvo_dim()), bytes.matrices);
    add(e * v, bytes.matrices);
    add(2 * e * f, bytes.matrices);
    add(e * f, bytes.matrices);
  }
  add(e, 4);
  add(e * static_cast<double>(dims.vocab_size), bytes.head);
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
  const int64_t per_row = dims.embedding_dim + std::max(dims.embedding_dim, dims.v_dim()) + dims.qkvo_dim() +
                          2 * dims.num_heads + dims.v_dim() + 2 * dims.ffn_dim;
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
    weights += parameter.elements * parameter.bytes;
    loading = std::max(loading, weights + parameter.elements * parameter.extra);
    largest = std::max(largest, parameter.elements);
    staging = std::max(staging, parameter.elements * (parameter.bytes + parameter.extra));
  }
  MemoryEstimate out;
  out.weights = to_bytes(weights);
  out.loading = to_bytes(loading);
  out.staging = to_bytes(staging);
  out.state = to_bytes(state_bytes(dims, num_blocks, request));
  out.workspace = to_bytes(workspace_bytes(dims, request) + (request.float32_copies ? 4 * largest : 0));
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

WeightBytes weight_bytes(const std::string& dtype) {
  const double each = dtype == "float32" ? 4 : 2;
  return {each, each, each};
}

EstimateRequest estimate_request(const RuntimeOpts& opts, const Resolution& resolution, int64_t longest_prompt) {
  EstimateRequest request;
  request.weights = weight_bytes(resolution.weight_dtype);
  request.state_bytes = opts.state_dtype == "float32" ? 4 : 2;
  request.rows = std::min(std::max(opts.prefill_segment, opts.chunk_size), longest_prompt);
  request.float32_copies = resolution.ops == "native" && resolution.weight_dtype != "float32";
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
  return estimate(plan(layout, request.weights), dims_of(layout.config), layout.config.num_blocks, request);
}

MemoryEstimate estimate_memory(const ModelDims& dims, int64_t num_blocks, const EstimateRequest& request) {
  return estimate(plan(dims, num_blocks, request.weights), dims, num_blocks, request);
}

void require_room(const MemoryEstimate& estimate, const MemorySample& sample, const RuntimeOpts& opts, bool force) {
  const GuardLimits limits = guard_limits(opts);
  const GuardLimits* guard = opts.mem_watchdog ? &limits : nullptr;
  require_side(estimate, estimate.host(), host_room(sample.host, guard), force);
  require_side(estimate, estimate.device(), device_room(sample.device, guard), force);
}

}  // namespace xlstm
