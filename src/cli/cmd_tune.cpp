#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "src/cli/commands.h"
#include "src/cli/setup.h"
#include "src/cli/watched_run.h"
#include "xlstm/bench/bench.h"
#include "xlstm/config/backend_names.h"
#include "xlstm/core/log.h"
#include "xlstm/core/str.h"
#include "xlstm/tune/tune.h"

namespace xlstm {
namespace {

using nlohmann::json;

// An earlier run to go on with.
struct Resumed {
  RunFolder folder;
  json meta;
};

// A part of run_meta.json. Error kUsage if it is not there, since then it is none of ours.
const json& part(const Resumed& resumed, const char* name) {
  if (!resumed.meta.contains(name)) {
    fail(ExitCode::kUsage, name, (resumed.folder.path() / "run_meta.json").string(), "a value", "none");
  }
  return resumed.meta.at(name);
}

std::string text_part(const Resumed& resumed, const char* name) {
  const json& value = part(resumed, name);
  if (!value.is_string()) {
    fail(ExitCode::kUsage, name, (resumed.folder.path() / "run_meta.json").string(), "text", value.dump());
  }
  return value.get<std::string>();
}

void apply_flags(TuneSettings& settings, const Arguments& args) {
  const TuneArgs& flags = args.tune;
  const auto take = [](const auto& flag, auto& setting) {
    if (flag) setting = *flag;
  };
  const auto take_range = [](const std::optional<IntRange>& flag, auto& setting) {
    if (flag) setting = TuneRange{flag->min, flag->max};
  };
  if (flags.mode) settings.mode = mode_of(*flags.mode);
  if (flags.objective) settings.objective = objective_of(*flags.objective);
  take(flags.trials, settings.trials);
  take(flags.generations, settings.generations);
  take(flags.population, settings.population);
  take(flags.repeats, settings.repeats);
  take_range(flags.chunks, settings.chunks);
  take_range(flags.heads, settings.heads);
  take_range(flags.workers, settings.workers);
  take(flags.new_tokens, settings.new_tokens);
  take(flags.tag, settings.tag);
  if (args.prompt_file && flags.prompt_tokens) {
    fail(ExitCode::kUsage, "prompt", "command line", "one of -f and --prompt-tokens", "both");
  }
  take(args.prompt_file, settings.prompt_file);
  take(flags.prompt_tokens, settings.prompt_tokens);
  if (flags.prompt_tokens) settings.prompt_file.clear();
}

// Lowest first: defaults, the run that is resumed, the settings file, flags. `left` gets the settings file's keys that
// are configuration.
TuneSettings settings_of(const Arguments& args, const std::optional<Resumed>& resumed, std::vector<std::string>& left) {
  TuneSettings settings;
  if (resumed) {
    const json& search = part(*resumed, "search");
    apply_settings(settings, search.is_object() ? search : json::object(),
                   (resumed->folder.path() / "run_meta.json").string());
  }
  if (args.tune.settings) left = read_settings_file(settings, *args.tune.settings);
  apply_flags(settings, args);
  return settings;
}

// The arguments of the plain run: no tuned result, the backend of the settings, the model of a resumed run.
Arguments plain_arguments(Arguments args, const TuneSettings& settings, const std::optional<Resumed>& resumed) {
  json& flags = args.layers.flags;
  flags["use_best"] = false;
  if (!settings.backend.empty() && !flags.contains("chunkwise_backend")) {
    flags["chunkwise_backend"] = scheduler_backend(settings.backend);
  }
  if (resumed && !args.model && args.tune.shape.empty()) {
    if (resumed->meta.contains("model_shape")) {
      args.tune.shape = text_part(*resumed, "model_shape");
    } else {
      args.model = text_part(*resumed, "model_directory");
    }
  }
  return args;
}

TuneModel model_of(const Arguments& args) {
  TuneModel model;
  if (args.tune.shape.empty()) {
    const ModelChoice choice = require_model(args);
    if (choice.bundled) log::info(cat("no model given (-m): using the bundled ", choice.directory.string()));
    model.directory = choice.directory;
  } else {
    const SyntheticShape shape = parse_shape(args.tune.shape);
    model.shape = args.tune.shape;
    model.dims = shape.dims;
    model.num_blocks = shape.num_blocks;
  }
  return model;
}

uint64_t seed_of(const RuntimeOpts& opts, const std::optional<Resumed>& resumed) {
  if (opts.seed >= 0) return static_cast<uint64_t>(opts.seed);
  if (resumed) {
    const json& seed = part(*resumed, "seed");
    if (seed.is_number_unsigned()) return seed.get<uint64_t>();
    fail(ExitCode::kUsage, "seed", (resumed->folder.path() / "run_meta.json").string(), "an integer, 0 or more",
         seed.dump());
  }
  return std::random_device{}();
}

std::string params_text(const TuneParams& params, const TuneReport& report) {
  std::string text = cat("chunk_size ", params.chunk_size);
  if (report.heads_matter) text += cat(", heads_per_band ", params.heads_per_band);
  if (report.workers_matter) text += cat(", workers ", params.workers);
  return text;
}

// "12345.6 tok/s prefill", "…, 99.5 tok/s decode".
std::string rates_text(const Timing& timing, const TuneReport& report, const TuneSettings& settings) {
  std::vector<std::string> rates;
  const auto add = [&](int64_t tokens, double seconds, const char* name) {
    if (seconds > 0) rates.push_back(cat(fixed(static_cast<double>(tokens) / seconds, 1), " tok/s ", name));
  };
  add(report.prompt_tokens, timing.prefill_s, "prefill");
  add(settings.new_tokens, timing.decode_s, "decode");
  return join(rates, ", ");
}

std::string padded(std::string text, size_t width) {
  text.insert(0, width > text.size() ? width - text.size() : 0, ' ');
  return text;
}

// The fastest few candidates, then best against plain.
void print_report(const TuneReport& report, const TuneSettings& settings) {
  std::vector<const Trial*> fastest;
  for (const Trial& trial : report.trials) {
    if (!trial.confirmation) fastest.push_back(&trial);
  }
  std::stable_sort(fastest.begin(), fastest.end(),
                   [](const Trial* a, const Trial* b) { return a->vs_plain > b->vs_plain; });
  constexpr size_t kRows = 5;
  fastest.resize(std::min(kRows, fastest.size()));
  if (!fastest.empty()) {
    std::string table = "chunk_size  heads_per_band  workers  speed vs plain  pairs\n";
    for (const Trial* trial : fastest) {
      const TuneParams& params = trial->candidate;
      table += cat(padded(std::to_string(params.chunk_size), 10),
                   padded(report.heads_matter ? std::to_string(params.heads_per_band) : "-", 16),
                   padded(report.workers_matter ? std::to_string(params.workers) : "-", 9),
                   padded(fixed(trial->vs_plain, 3), 16), padded(std::to_string(trial->comparison.pairs), 7), '\n');
    }
    print_out(table + '\n');
  }
  const TuneAnswer& answer = report.answer;
  const Comparison& vs = answer.against_plain;
  const std::string spread =
      cat(fixed(vs.median, 3), " times plain's speed (quartiles ", fixed(vs.lower_quartile, 3), " to ",
          fixed(vs.upper_quartile, 3), "; faster in ", vs.wins, " of ", vs.pairs, " pairs)");
  print_out(
      cat("plain: ", params_text(report.plain, report), ": ", rates_text(answer.plain_timing, report, settings), '\n'));
  if (answer.confirmed) {
    print_out(cat("best:  ", params_text(answer.params, report), ": ", rates_text(answer.timing, report, settings),
                  "; ", spread, '\n'));
  } else if (answer.found == report.plain) {
    print_out(cat("best:  the plain configuration; no candidate was clearly faster. Against itself it measured ",
                  spread, ", which is this machine's noise\n"));
  } else {
    print_out(cat("best:  the plain configuration; ", params_text(answer.found, report),
                  " looked faster, but over fresh pairs it measured ", spread, ", which is within the noise\n"));
  }
}

}  // namespace

ExitCode run_tune(const Arguments& given) {
  std::optional<Resumed> resumed;
  if (given.tune.resume) {
    RunFolder folder = RunFolder::open(*given.tune.resume);
    json meta = folder.read_meta();
    resumed.emplace(Resumed{std::move(folder), std::move(meta)});
  }
  TuneRequest request;
  std::vector<std::string> left;
  request.settings = settings_of(given, resumed, left);
  const Arguments args = plain_arguments(given, request.settings, resumed);
  const EffectiveConfig config = start_run(args);
  if (!left.empty()) {
    log::info(cat(*args.tune.settings, ": --settings reads its \"optimizer\" only; --config takes ", join(left, ", ")));
  }
  request.opts = config.opts;
  request.resolution = resolve_run(args, config.opts);
  request.opts.dtype = request.resolution.weight_dtype;  // candidates are resolved without looking at the checkpoint
  request.settings.backend = short_backend(request.resolution.chunkwise);
  request.model = model_of(args);
  request.force = args.force;
  request.seed = seed_of(config.opts, resumed);
  request.command_line = args.command_line;
  if (!request.settings.prompt_file.empty()) request.prompt_text = read_text(request.settings.prompt_file);
  if (request.model.directory) {
    Arguments tuned = args;
    tuned.layers.flags["use_best"] = given.layers.flags.value("use_best", true);
    request.earlier = effective_config(tuned).opts;
  }

  RunFolder folder =
      resumed ? std::move(resumed->folder)
              : RunFolder::create(config.opts.runs_dir, request.settings.tag.empty() ? mode_name(request.settings.mode)
                                                                                     : request.settings.tag);
  const std::filesystem::path name =
      request.model.directory ? *request.model.directory : std::filesystem::path(request.model.shape);
  return watch_run({args, config, request.resolution, name}, [&] {
    const TuneReport report = tune(request, folder, resumed ? &resumed->meta : nullptr);
    print_report(report, request.settings);
    print_out(cat("files: ", folder.path().string(), '\n'));
    return ExitCode::kOk;
  });
}

}  // namespace xlstm
