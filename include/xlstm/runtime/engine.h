// A checkpoint on a device with its kernels resolved: everything that is fixed for the life of a run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "xlstm/config/runtime_opts.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/model/load_weights.h"
#include "xlstm/model/model.h"
#include "xlstm/registry/make_kernels.h"
#include "xlstm/registry/registry.h"
#include "xlstm/runtime/memory_estimate.h"
#include "xlstm/runtime/pass_logits.h"
#include "xlstm/text/sampler.h"
#include "xlstm/text/tokenizer.h"

namespace xlstm {

struct EngineSettings {
  bool force = false;  // load although memory is estimated not to suffice
  // What the memory estimate counts with:
  int64_t slots = 1;                   // sequences
  int64_t longest_prompt = INT64_MAX;  // tokens of a sequence, as far as they are known to be few; 1: only decoding
  bool all_logits = false;             // passes that give the logits of all rows
  int64_t kept_logit_rows = 0;         // rows of logits that the caller keeps
};

// One pass at a time; not thread-safe.
class Engine {
 public:
  // Loads a checkpoint directory. Errors: kCheckpoint for its files, kDevice for what cannot run, kMemory if there is
  // no room for it (memory_estimate.h).
  static Engine load(const RuntimeOpts& opts, const Resolution& resolution, const std::filesystem::path& directory,
                     const EngineSettings& settings = {});

  // Random weights of a shape; no tokenizer. Error kMemory as above.
  static Engine synthetic(const RuntimeOpts& opts, const Resolution& resolution, const ModelDims& dims,
                          int64_t num_blocks, const EngineSettings& settings = {});

  [[nodiscard]] const Resolution& resolution() const { return resolution_; }
  [[nodiscard]] const ModelDims& dims() const { return model_->dims(); }
  [[nodiscard]] Model& model() { return *model_; }
  [[nodiscard]] ThreadPool& pool() { return *pool_; }  // the threads inside operations; idle between passes
  [[nodiscard]] bool show_progress() const { return show_progress_; }
  [[nodiscard]] const Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }
  [[nodiscard]] const std::string& fingerprint() const { return fingerprint_; }
  [[nodiscard]] int64_t bos_id() const { return bos_id_; }
  // As configured; see end_of_text_ids().
  [[nodiscard]] const std::vector<int64_t>& eos_ids() const { return eos_ids_; }
  // Ids that may be generated are below this: the tokenizer's greatest, or the vocabulary without a tokenizer.
  [[nodiscard]] int64_t usable_vocab() const;
  // Ids below usable_vocab() that the tokenizer does not have.
  [[nodiscard]] std::vector<int64_t> unused_ids() const;

  // Error kUsage for an id outside the vocabulary; `where` names the input.
  void require_ids(std::span<const int64_t> ids, const std::string& where) const;

  [[nodiscard]] State make_state(int64_t slots) const;
  [[nodiscard]] const std::string& state_dtype() const { return state_dtype_; }  // "float32" or "bfloat16"

  // One pass, after serving a request to empty the cache: feeds the ids of a plan and returns the logits of
  // plan.logit_rows(). A device may still compute when this returns. Who holds on to the logits has them beyond the
  // next pass, at the price of a copy. Grows the workspace where the plan needs it. Throws Stopped as `on_stop` allows.
  std::shared_ptr<PassLogits> forward(const RowPlan& plan, std::span<const int64_t> ids, State& state,
                                      OnStop on_stop = OnStop::kAbandon);

  // The same of the tokens that `chooser` chooses from the last logits of `before`, one for each row of the plan. These
  // are on the device still, the last ones that this engine gave, and nobody else holds on to them.
  std::shared_ptr<PassLogits> forward(const RowPlan& plan, TokenChooser& chooser, std::shared_ptr<PassLogits> before,
                                      State& state, OnStop on_stop = OnStop::kAbandon);

  // What chooses tokens on the device as `sampler` would, one for each of `draws`. Null where the host has to do it: on
  // most devices, and where candidates do not decide (Sampler::candidates_needed).
  [[nodiscard]] std::unique_ptr<TokenChooser> make_chooser(const Sampler& sampler, std::span<const Draw> draws);

  // Takes over the scheduling of other settings (cell kernels, chunk_size, heads_per_band, workers, prefill_segment)
  // without loading again. `resolution` is that of `opts` and has this engine's device, dtype, operations and threads.
  void reschedule(const RuntimeOpts& opts, const Resolution& resolution);

  // Tokens of one prefill segment: prefill_segment, at most kMostPassRows, rounded down to whole chunks (at least one),
  // and further where the logits of all rows are wanted, so that they stay within a few dozen megabytes.
  [[nodiscard]] int64_t segment_rows(bool all_logits) const;

 private:
  Engine(const RuntimeOpts& opts, Resolution resolution);
  [[nodiscard]] KernelSettings kernel_settings(const RuntimeOpts& opts) const;
  // `matrices`: the format of the blocks' matrices.
  [[nodiscard]] EstimateRequest estimate_request(const RuntimeOpts& opts, const EngineSettings& settings,
                                                 const ModelDims& dims, const ModelKernels& kernels,
                                                 WeightFormat matrices) const;
  void require_memory(const MemoryEstimate& estimate, const RuntimeOpts& opts, const EngineSettings& settings) const;
  // `ffn`: as in EstimateRequest.
  void build(const ModelDims& dims, Weights weights, ModelKernels kernels, bool ffn);
  [[nodiscard]] std::unique_ptr<Workspace> make_workspace() const;
  std::shared_ptr<PassLogits> run(const RowPlan& plan, const PassTokens& tokens, State& state, OnStop on_stop);
  void release_logits();

  Resolution resolution_;
  int64_t prefill_segment_;
  bool show_progress_;
  bool uses_ffn_ = true;  // Activations::ffn
  std::string state_dtype_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Workspace> workspace_;
  std::shared_ptr<PassLogits> logits_;  // of the last pass
  std::optional<Tokenizer> tokenizer_;
  std::string fingerprint_;
  int64_t bos_id_ = 0;
  std::vector<int64_t> eos_ids_;
};

}  // namespace xlstm
