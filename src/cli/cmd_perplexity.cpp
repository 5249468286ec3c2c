#include <cmath>
#include <nlohmann/json.hpp>

#include "src/cli/commands.h"
#include "src/cli/json_lines.h"
#include "src/cli/setup.h"
#include "src/cli/watched_run.h"
#include "xlstm/core/files.h"
#include "xlstm/core/log.h"
#include "xlstm/core/progress.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"
#include "xlstm/runtime/perplexity.h"

namespace xlstm {
namespace {

using nlohmann::json;

// The documents of a file as token ids, BOS not yet added.
class Documents {
 public:
  // `text` is the content of `file`.
  Documents(const std::string& file, const std::string& text, const Engine& engine) : file_(file), engine_(engine) {
    if (file.ends_with(".jsonl")) {
      for_each_json_line(text, file, [&](const json& line, const std::string& where) { add_line(line, where); });
    } else if (file.ends_with(".json")) {
      add_array(text);
    } else {
      ids_.push_back(encode(text));
    }
    if (ids_.empty()) fail(ExitCode::kUsage, "documents", file, "one or more", "none");
  }

  [[nodiscard]] const std::vector<std::vector<int64_t>>& ids() const { return ids_; }

 private:
  void add_line(const json& line, const std::string& where) {
    if (line.is_object() && line.contains("text") && line["text"].is_string()) {
      ids_.push_back(encode(line["text"].get<std::string>()));
    } else if (line.is_object() && line.contains("ids") && is_id_array(line["ids"])) {
      ids_.push_back(line["ids"].get<std::vector<int64_t>>());
    } else {
      fail(ExitCode::kUsage, "document", where, R"({"text": "…"} or {"ids": [1, 2, 3]})", json_kind(line));
    }
  }

  void add_array(const std::string& text) {
    const json array = parse_json_value(text, file_);
    if (!array.is_array()) {
      fail(ExitCode::kUsage, "documents", file_, "a JSON array of strings", json_kind(array));
    }
    for (size_t i = 0; i < array.size(); ++i) {
      if (!array[i].is_string()) {
        fail(ExitCode::kUsage, cat("document ", i), file_, "a string", json_kind(array[i]));
      }
      ids_.push_back(encode(array[i].get<std::string>()));
    }
  }

  [[nodiscard]] std::vector<int64_t> encode(const std::string& text) const {
    if (engine_.tokenizer() == nullptr) {
      fail(ExitCode::kCheckpoint, "tokenizer.json", "checkpoint", "one, to encode text (or a .jsonl file with ids)",
           "none");
    }
    return engine_.tokenizer()->encode(text);
  }

  std::string file_;
  const Engine& engine_;
  std::vector<std::vector<int64_t>> ids_;
};

void print_scores(const std::vector<DocumentScore>& scores, bool as_json) {
  DocumentScore total;
  for (const DocumentScore& score : scores) {
    total.tokens += score.tokens;
    total.nll += score.nll;
  }
  const double mean = total.tokens > 0 ? total.nll / static_cast<double>(total.tokens) : 0;
  if (as_json) {
    nlohmann::ordered_json out = {
        {"tokens", total.tokens}, {"nll", total.nll}, {"mean_nll", mean}, {"ppl", std::exp(mean)}};
    out["documents"] = json::array();
    for (const DocumentScore& score : scores)
      out["documents"].push_back({{"tokens", score.tokens}, {"nll", score.nll}});
    print_json(out);
  } else {
    print_out(cat("documents ", scores.size(), "\ntokens ", total.tokens, "\nnll ", fixed(total.nll, 4), "\nmean_nll ",
                  fixed(mean, 6), "\nppl ", fixed(std::exp(mean), 4), "\n"));
  }
}

std::vector<DocumentScore> score(Engine& engine, const std::vector<std::vector<int64_t>>& documents,
                                 const Arguments& args, const RuntimeOpts& opts) {
  Progress progress(RunPhase::kOther, "perplexity", static_cast<int64_t>(documents.size()), opts.progress);
  std::vector<DocumentScore> scores;
  int64_t tokens = 0;
  for (std::vector<int64_t> ids : documents) {
    if (opts.add_bos) ids.insert(ids.begin(), engine.bos_id());
    if (args.perplexity.max_ids) ids.resize(std::min(ids.size(), static_cast<size_t>(*args.perplexity.max_ids)));
    scores.push_back(score_document(engine, ids));
    tokens += scores.back().tokens;
    progress.advance(1);
  }
  if (tokens == 0) {
    fail(ExitCode::kUsage, "documents", args.perplexity.file, "a token behind the first one to predict", "none");
  }
  return scores;
}

}  // namespace

ExitCode run_perplexity(const Arguments& args) {
  const EffectiveConfig config = start_run(args);
  const std::string text = read_text(args.perplexity.file);
  const Resolution resolution = resolve_run(args, config.opts);
  const std::filesystem::path directory = require_model(args).directory;
  return watch_run({args, config, resolution, directory}, [&] {
    EngineSettings settings;
    settings.force = args.force;
    settings.all_logits = true;
    Engine engine = Engine::load(config.opts, resolution, directory, settings);
    const Documents documents(args.perplexity.file, text, engine);
    print_scores(score(engine, documents.ids(), args, config.opts), args.json);
    return ExitCode::kOk;
  });
}

}  // namespace xlstm
