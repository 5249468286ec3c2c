#include "xlstm/runtime/engine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "xlstm/core/cache_request.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"
#include "xlstm/registry/device_memory.h"

namespace xlstm {
namespace {

// Of the logits of one pass that gives those of all rows.
constexpr int64_t kMaxLogitBytes = int64_t{64} << 20;

}  // namespace

Engine::Engine(const RuntimeOpts& opts, Resolution resolution)
    : resolution_(std::move(resolution)),
      prefill_segment_(opts.prefill_segment),
      show_progress_(opts.progress),
      state_dtype_(opts.state_dtype) {
  // libtorch's team and ours take turns on the same cores; a pool worker that calls libtorch must not start a team.
  at::set_num_threads(resolution_.threads);
  pool_ = std::make_unique<ThreadPool>(resolution_.threads, [] { at::set_num_threads(1); });
}

KernelSettings Engine::kernel_settings(const RuntimeOpts& opts) const {
  return {opts.chunk_size, opts.heads_per_band, resolution_.workers, opts.streams, resolution_.weight_dtype};
}

void Engine::reschedule(const RuntimeOpts& opts, const Resolution& resolution) {
  XLSTM_ASSERT(resolution.device == resolution_.device && resolution.ops == resolution_.ops);
  XLSTM_ASSERT(resolution.weight_dtype == resolution_.weight_dtype && resolution.threads == resolution_.threads);
  resolution_ = resolution;
  prefill_segment_ = opts.prefill_segment;
  model_->set_cell_kernels(make_cell_kernels(resolution_, dims(), kernel_settings(opts), *pool_));
}

void Engine::build(const ModelDims& dims, Weights weights, ModelKernels kernels, bool ffn) {
  uses_ffn_ = ffn;
  model_ = std::make_unique<Model>(dims, std::move(weights), std::move(kernels));
  workspace_ = make_workspace();
  logits_ = std::make_shared<PassLogits>(model_->ops());
}

EstimateRequest Engine::estimate_request(const RuntimeOpts& opts, const EngineSettings& settings, const ModelDims& dims,
                                         const ModelKernels& kernels, WeightFormat matrices) const {
  const bool many_tokens = settings.longest_prompt > INT64_MAX / settings.slots;
  const int64_t tokens = many_tokens ? INT64_MAX : settings.longest_prompt * settings.slots;
  EstimateRequest request = xlstm::estimate_request(opts, resolution_, tokens);
  request.slots = settings.slots;
  // A batch has a chunk of each sequence in a pass at least.
  const int64_t least_rows = std::min(opts.chunk_size, settings.longest_prompt);
  if (settings.slots > 1) request.rows = std::max(request.rows, settings.slots * least_rows);
  request.logit_rows = settings.all_logits ? std::min(request.rows, kMaxLogitBytes / (4 * dims.vocab_size)) : 1;
  request.logit_rows = std::max(request.logit_rows, settings.slots) + settings.kept_logit_rows;
  const PassSize size{.rows = request.rows, .sequences = settings.slots};
  const PassMemory memory = kernels.ops->pass_memory(size, matrices);
  request.ffn = memory.ffn;
  request.scratch_bytes = memory.scratch_bytes;
  const CellKernels& cell = kernels.cell;
  for (const CellKernel* kernel : {cell.step.get(), cell.sequence.get(), cell.chunkwise.get()}) {
    request.scratch_bytes += kernel->scratch_bytes(size);
  }
  return request;
}

void Engine::require_memory(const MemoryEstimate& estimate, const RuntimeOpts& opts,
                            const EngineSettings& settings) const {
  const MemorySample now = {make_system_reader()->read(), read_device_memory(resolution_.device)};
  require_room(estimate, now, opts, settings.force);
}

Engine Engine::load(const RuntimeOpts& opts, const Resolution& resolution, const std::filesystem::path& directory,
                    const EngineSettings& settings) {
  Engine engine(opts, resolution);
  const Checkpoint checkpoint(directory);
  const CheckpointLayout layout = resolve_layout(checkpoint);
  require_complete(layout, directory.string());
  const ModelDims dims = dims_of(layout.config);
  const WeightFormats formats = weight_formats(resolution.weight_dtype, layout);
  ModelKernels kernels = make_kernels(engine.resolution_, dims, engine.kernel_settings(opts), *engine.pool_);
  const EstimateRequest request = engine.estimate_request(opts, settings, dims, kernels, formats.matrices.format);
  engine.require_memory(estimate_memory(layout, request), opts, settings);
  Weights weights = load_weights(checkpoint, layout, *kernels.ops, {formats, *engine.pool_, opts.progress});
  engine.build(dims, std::move(weights), std::move(kernels), request.ffn);
  engine.fingerprint_ = checkpoint.fingerprint();
  engine.bos_id_ = layout.config.bos_token_id;
  engine.eos_ids_ = layout.config.eos_token_ids;
  if (checkpoint.has_tokenizer()) engine.tokenizer_ = Tokenizer::from_file(directory / "tokenizer.json");
  if (engine.tokenizer_ && engine.tokenizer_->size() == 0) {
    fail(ExitCode::kCheckpoint, "tokenizer", (directory / "tokenizer.json").string(), "one token or more", "none");
  }
  if (engine.tokenizer_ && engine.tokenizer_->size() > dims.vocab_size) {
    log::warn(cat("the tokenizer has ids up to ", engine.tokenizer_->size() - 1, ", the model only ", dims.vocab_size,
                  " rows: texts that need the others are refused"));
  }
  return engine;
}

Engine Engine::synthetic(const RuntimeOpts& opts, const Resolution& resolution, const ModelDims& dims,
                         int64_t num_blocks, const EngineSettings& settings) {
  Engine engine(opts, resolution);
  const WeightFormats formats = weight_formats(resolution.weight_dtype);
  ModelKernels kernels = make_kernels(engine.resolution_, dims, engine.kernel_settings(opts), *engine.pool_);
  const EstimateRequest request = engine.estimate_request(opts, settings, dims, kernels, formats.matrices.format);
  engine.require_memory(estimate_memory(dims, num_blocks, request), opts, settings);
  Weights weights =
      random_weights({dims, num_blocks, /*seed=*/0}, *kernels.ops, {formats, *engine.pool_, opts.progress});
  engine.build(dims, std::move(weights), std::move(kernels), request.ffn);
  return engine;
}

int64_t Engine::usable_vocab() const {
  return tokenizer_ ? std::min(tokenizer_->size(), dims().vocab_size) : dims().vocab_size;
}

std::vector<int64_t> Engine::unused_ids() const {
  std::vector<int64_t> ids;
  if (!tokenizer_) return ids;
  for (int64_t id = 0; id < usable_vocab(); ++id) {
    if (!tokenizer_->has_id(id)) ids.push_back(id);
  }
  return ids;
}

void Engine::require_ids(std::span<const int64_t> ids, const std::string& where) const {
  for (const int64_t id : ids) {
    if (id < 0 || id >= dims().vocab_size) {
      fail(ExitCode::kUsage, "token id", where, cat("0 to ", dims().vocab_size - 1), std::to_string(id));
    }
  }
}

State Engine::make_state(int64_t slots) const {
  return State(dims(), {model_->num_blocks(), slots, torch_dtype(state_dtype_), torch_device(resolution_.device)});
}

std::shared_ptr<PassLogits> Engine::forward(const RowPlan& plan, std::span<const int64_t> ids, State& state,
                                            OnStop on_stop) {
  return run(plan, ids, state, on_stop);
}

std::shared_ptr<PassLogits> Engine::forward(const RowPlan& plan, TokenChooser& chooser,
                                            std::shared_ptr<PassLogits> before, State& state, OnStop on_stop) {
  XLSTM_ASSERT(before == logits_ && before->on_device().defined() && before->rows() >= plan.rows());
  const PassTokens tokens(chooser, before->on_device().narrow(0, before->rows() - plan.rows(), plan.rows()));
  before.reset();  // so that they are not kept
  return run(plan, tokens, state, on_stop);
}

std::unique_ptr<TokenChooser> Engine::make_chooser(const Sampler& sampler, std::span<const Draw> draws) {
  const int64_t needed = sampler.candidates_needed();
  if (needed == 0 || needed > model_->ops().max_candidates()) return nullptr;
  const SamplingOptions& options = sampler.options();
  ChoiceRules rules;
  rules.usable_vocab = sampler.usable_vocab();
  rules.banned = sampler.banned();
  rules.seed = options.seed;
  if (options.temperature > 0) {
    rules.top_k = options.top_k;
    rules.top_p = options.top_p;
    rules.min_p = options.min_p;
    rules.temperature = options.temperature;
  }
  return model_->ops().make_chooser(rules, draws);
}

std::shared_ptr<PassLogits> Engine::run(const RowPlan& plan, const PassTokens& tokens, State& state, OnStop on_stop) {
  const auto logit_rows = static_cast<int64_t>(plan.logit_rows().size());
  release_logits();
  if (take_empty_cache_request()) {
    workspace_ = make_workspace();
    empty_device_cache(resolution_.device);
  }
  workspace_->reserve(plan.rows(), logit_rows);
  model_->forward(plan, tokens, state, *workspace_, on_stop);
  if (logit_rows > 0) logits_->begin(workspace_->logits.narrow(0, 0, logit_rows));
  return logits_;
}

std::unique_ptr<Workspace> Engine::make_workspace() const {
  return std::make_unique<Workspace>(dims(), torch_device(resolution_.device), uses_ffn_);
}

// The workspace's logits are about to be overwritten.
void Engine::release_logits() {
  if (logits_.use_count() > 1) {
    logits_->keep();
    logits_ = std::make_shared<PassLogits>(model_->ops());
  }
  logits_->begin({});
}

int64_t Engine::segment_rows(bool all_logits) const {
  const int64_t chunk = model_->chunk_size();
  int64_t rows = std::min(prefill_segment_, kMostPassRows);
  if (all_logits) rows = std::min(rows, kMaxLogitBytes / (4 * dims().vocab_size));
  return std::max(chunk, rows / chunk * chunk);
}

}  // namespace xlstm
