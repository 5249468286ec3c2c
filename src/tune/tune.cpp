#include "xlstm/tune/tune.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "src/tune/engine_timer.h"
#include "src/tune/run_meta.h"
#include "xlstm/config/backend_names.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/log.h"
#include "xlstm/core/progress.h"
#include "xlstm/core/stop.h"
#include "xlstm/core/str.h"
#include "xlstm/core/thread_pool.h"
#include "xlstm/runtime/engine.h"
#include "xlstm/runtime/made_up_ids.h"
#include "xlstm/tune/run_search.h"

namespace xlstm {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

Engine make_engine(const TuneRequest& request) {
  const TuneModel& model = request.model;
  EngineSettings settings;
  settings.force = request.force;
  if (model.directory) return Engine::load(request.opts, request.resolution, *model.directory, settings);
  return Engine::synthetic(request.opts, request.resolution, model.dims, model.num_blocks, settings);
}

std::vector<int64_t> prompt_ids(const TuneRequest& request, const Engine& engine) {
  const TuneSettings& settings = request.settings;
  std::vector<int64_t> ids;
  if (settings.prompt_file.empty()) {
    int64_t id = 1;
    for (int64_t i = 0; i < settings.prompt_tokens; ++i) {
      ids.push_back(id = next_made_up_id(id, engine.dims().vocab_size));
    }
    return ids;
  }
  if (engine.tokenizer() == nullptr) {
    fail(ExitCode::kCheckpoint, "tokenizer.json", "model", "one, to encode the prompt file (or use --prompt-tokens)",
         "none");
  }
  ids = engine.tokenizer()->encode(request.prompt_text);
  if (ids.empty()) fail(ExitCode::kUsage, "prompt", settings.prompt_file, "a text", "nothing");
  if (request.opts.add_bos) ids.insert(ids.begin(), engine.bos_id());
  return ids;
}

TuneParams params_of(const RuntimeOpts& opts) {
  return {opts.chunk_size, opts.heads_per_band, opts.workers};
}

// Which knobs the prefill kernel and the device obey; chunk_size is obeyed by all.
struct Knobs {
  bool heads = false;
  bool workers = false;
};

Knobs knobs_of(const Resolution& resolution) {
  const bool scheduled = is_scheduled_backend(resolution.chunkwise);
  return {scheduled, scheduled && device_kind(resolution.device) == "cpu"};
}

TuneBounds bounds_of(const TuneSettings& settings, const Knobs& knobs, int64_t num_heads) {
  TuneBounds bounds{settings.chunks, std::nullopt, std::nullopt};
  if (knobs.heads) bounds.heads = settings.heads.value_or(TuneRange{1, num_heads});
  if (knobs.workers) bounds.workers = settings.workers;
  return bounds;
}

void log_limits_of_the_search(const TuneRequest& request, const Knobs& knobs, int64_t prompt_tokens) {
  const TuneSettings& settings = request.settings;
  const std::string runs = cat(request.resolution.chunkwise, " on ", request.resolution.device);
  if (!knobs.heads) log::info(cat("heads_per_band and workers have no effect with ", runs, ": not searched"));
  if (knobs.heads && !knobs.workers) log::info(cat("workers have no effect with ", runs, ": not searched"));
  if (settings.objective == TuneObjective::kDecode) {
    log::warn("these settings change prefill only: for the objective decode no candidate can win but by chance");
  } else if (prompt_tokens < settings.chunks.max) {
    log::warn(cat("the prompt has only ", prompt_tokens, " tokens: longer chunks are not filled, and the result says ",
                  "nothing about longer prompts"));
  }
}

std::string params_text(const TuneParams& params) {
  return cat("chunk_size ", params.chunk_size, ", heads_per_band ", params.heads_per_band, ", workers ",
             params.workers);
}

Search make_search(const TuneRequest& request, const Engine& engine, const json* resumed) {
  const TuneSettings& settings = request.settings;
  const TuneLimits limits{engine.dims().num_heads, available_cores()};
  const TuneParams plain = SearchSpace::as_run(params_of(request.opts), limits);
  SearchPlan plan{SearchSpace(bounds_of(settings, knobs_of(request.resolution), limits.num_heads), limits, plain),
                  plain,
                  {},
                  settings.mode,
                  settings.objective,
                  settings.trials,
                  settings.generations,
                  settings.population,
                  settings.repeats,
                  request.seed};
  if (resumed != nullptr) {
    plan.first = earlier_of(*resumed);
  } else if (request.earlier) {
    plan.first.push_back(SearchSpace::as_run(params_of(*request.earlier), limits));
  }
  return Search(std::move(plan));
}

// Tokens per second of what was measured, and the seconds.
ordered_json timing_json(const Timing& timing, int64_t prompt_tokens, int64_t new_tokens) {
  ordered_json out = ordered_json::object();
  if (timing.prefill_s > 0) out["prefill_tok_s"] = static_cast<double>(prompt_tokens) / timing.prefill_s;
  if (timing.decode_s > 0) out["decode_tok_s"] = static_cast<double>(new_tokens) / timing.decode_s;
  if (timing.prefill_s > 0) out["prefill_s"] = timing.prefill_s;
  if (timing.decode_s > 0) out["decode_s"] = timing.decode_s;
  return out;
}

ordered_json best_json(const TuneRequest& request, Engine& engine, const TuneReport& report) {
  const TuneAnswer& answer = report.answer;
  ordered_json params = {{"chunk_size", answer.params.chunk_size}};
  if (report.heads_matter) params["heads_per_band"] = answer.params.heads_per_band;
  if (report.workers_matter && request.settings.workers) params["workers"] = answer.params.workers;
  ordered_json metrics = timing_json(answer.timing, report.prompt_tokens, request.settings.new_tokens);
  metrics["objective"] = objective_name(request.settings.objective);
  metrics["prompt_tokens"] = report.prompt_tokens;
  metrics["plain"] = timing_json(answer.plain_timing, report.prompt_tokens, request.settings.new_tokens);
  metrics["plain"]["params"] = to_json(report.plain);
  metrics["found"] = to_json(answer.found);
  metrics["found_vs_plain"] = {{"median", answer.against_plain.median},
                               {"lower_quartile", answer.against_plain.lower_quartile},
                               {"upper_quartile", answer.against_plain.upper_quartile},
                               {"wins", answer.against_plain.wins},
                               {"pairs", answer.against_plain.pairs}};
  metrics["faster_than_plain"] = answer.confirmed;
  return {{"params", std::move(params)},
          {"metrics", std::move(metrics)},
          {"device", request.resolution.device},
          {"backend", short_backend(request.resolution.chunkwise)},
          {"model", model_json(request.model, engine)}};
}

}  // namespace

TuneReport tune(const TuneRequest& request, RunFolder& folder, const json* resumed) {
  Engine engine = make_engine(request);
  const Knobs knobs = knobs_of(request.resolution);
  std::vector<int64_t> prompt = prompt_ids(request, engine);
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  Search search = make_search(request, engine, resumed);

  const ordered_json meta = run_meta(request, engine, search.plan(), prompt);
  if (resumed != nullptr) {
    require_same_run(*resumed, meta, (folder.path() / "run_meta.json").string());
    replay_trials(search, folder);
    log::info(cat("going on after ", search.trials().size(), " trials of ", folder.path().string()));
  } else {
    folder.write_meta(meta);
  }
  log_limits_of_the_search(request, knobs, prompt_tokens);
  log::info(cat("tuning ", objective_name(request.settings.objective), " of ", prompt_tokens, " tokens with ",
                request.resolution.chunkwise, " on ", request.resolution.device, ": ", search.plan().space.size(),
                " candidates, mode ", mode_name(request.settings.mode), ", at most ", search.most_trials(),
                " trials, seed ", request.seed));
  log::info(cat("the plain configuration: ", params_text(search.plan().plain)));

  const RunFolder::Summary summary{short_backend(request.resolution.chunkwise), prompt_tokens,
                                   request.settings.new_tokens};
  EngineTimer timer(engine, request.opts, {std::move(prompt), request.settings.new_tokens, request.settings.objective});
  try {
    Progress progress(RunPhase::kTune, "tune", search.most_trials(), engine.show_progress());
    progress.advance(static_cast<int64_t>(search.trials().size()));
    const auto on_trial = [&](const Trial& trial) {
      log::debug(cat("trial ", trial.number, ": ", params_text(trial.candidate), ", ", fixed(trial.vs_plain, 3),
                     " times plain's speed after ", trial.comparison.pairs, " pairs",
                     trial.accepted ? ", clearly faster than the incumbent" : ""));
      progress.note(cat("best ", fixed(search.incumbent_score(), 2), "x plain: chunk_size ",
                        search.incumbent().chunk_size, ", heads_per_band ", search.incumbent().heads_per_band));
      progress.advance(1);
    };
    run_search(search, folder,
               {[&](const TuneParams& params) { timer.warm_up(params); },
                [&](const TuneParams& params) { return timer.measure(params); }, on_trial});
  } catch (const Stopped&) {
    folder.write_summary(search, summary);
    log::warn(cat("stopped after ", search.trials().size(), " trials; to go on: xlstm_generate tune --resume ",
                  folder.path().string()));
    throw;
  }

  TuneReport report{search.trials(), answer_of(search), search.plan().plain, prompt_tokens, knobs.workers, knobs.heads};
  if (!folder.has_best()) {
    folder.write_summary(search, summary);
    folder.write_best(best_json(request, engine, report));
  }
  return report;
}

}  // namespace xlstm
