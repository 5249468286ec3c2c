#include "xlstm/tune/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "xlstm/core/errors.h"
#include "xlstm/core/files.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kTrialsFile = "trials.jsonl";

std::string time_text(const char* format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), format, &parts)};
}

std::string safe_tag(const std::string& tag) {
  constexpr size_t kLongest = 64;
  std::string safe = tag.substr(0, kLongest);
  for (char& c : safe) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '_' && c != '-') c = '_';
  }
  return safe;
}

// The parts that were measured.
ordered_json to_json(const Timing& timing) {
  ordered_json parts = ordered_json::object();
  if (timing.prefill_s > 0) parts["prefill_s"] = timing.prefill_s;
  if (timing.decode_s > 0) parts["decode_s"] = timing.decode_s;
  return parts;
}

ordered_json to_json(const Trial& trial) {
  ordered_json pairs = ordered_json::array();
  for (const TimingPair& pair : trial.pairs) {
    pairs.push_back({{"candidate", to_json(pair.candidate)}, {"incumbent", to_json(pair.incumbent)}});
  }
  return {{"trial", trial.number},
          {"kind", trial.confirmation ? "confirmation" : "candidate"},
          {"params", to_json(trial.candidate)},
          {"incumbent", to_json(trial.incumbent)},
          {"speedup",
           {{"median", trial.comparison.median},
            {"lower_quartile", trial.comparison.lower_quartile},
            {"upper_quartile", trial.comparison.upper_quartile},
            {"wins", trial.comparison.wins},
            {"pairs", trial.comparison.pairs}}},
          {"vs_plain", trial.vs_plain},
          {"accepted", trial.accepted},
          {"ended", time_text("%Y-%m-%dT%H:%M:%S%z")},
          {"pairs", std::move(pairs)}};
}

// A value by its path; fails naming the place in the file.
const json& field(const json& object, const char* name, const std::string& where) {
  if (!object.is_object() || !object.contains(name)) fail(ExitCode::kUsage, name, where, "a value", "none");
  return object.at(name);
}

int64_t positive_integer(const json& object, const char* name, const std::string& where) {
  const json& value = field(object, name, where);
  if (!value.is_number_integer() || value < 1) {
    fail(ExitCode::kUsage, name, where, "an integer above 0", json_kind(value));
  }
  return value.get<int64_t>();
}

Timing read_timing(const json& parts, const std::string& where) {
  Timing timing;
  for (const auto& [name, member] : {std::pair("prefill_s", &Timing::prefill_s), {"decode_s", &Timing::decode_s}}) {
    if (!parts.is_object() || !parts.contains(name)) continue;
    const json& seconds = parts.at(name);
    if (!seconds.is_number() || seconds <= 0) {
      fail(ExitCode::kUsage, name, where, "seconds above 0", json_kind(seconds));
    }
    timing.*member = seconds.get<double>();
  }
  if (timing.prefill_s + timing.decode_s <= 0) fail(ExitCode::kUsage, "pairs", where, "measured seconds", "none");
  return timing;
}

RecordedTrial read_trial(std::string_view line, const std::string& where) {
  const json value = parse_strict_json(line, where, {ExitCode::kUsage, "trial"}).value;
  const json& params = field(value, "params", where);
  RecordedTrial trial;
  trial.candidate = {positive_integer(params, "chunk_size", where), positive_integer(params, "heads_per_band", where),
                     positive_integer(params, "workers", where)};
  const json& pairs = field(value, "pairs", where);
  if (!pairs.is_array()) fail(ExitCode::kUsage, "pairs", where, "a list", json_kind(pairs));
  for (const json& pair : pairs) {
    trial.pairs.push_back(
        {read_timing(field(pair, "candidate", where), where), read_timing(field(pair, "incumbent", where), where)});
  }
  return trial;
}

// Tokens per second; empty if the time was not measured.
std::string rate_text(int64_t tokens, double seconds) {
  return seconds > 0 ? fixed(static_cast<double>(tokens) / seconds, 2) : "";
}
std::string seconds_text(double seconds) {
  return seconds > 0 ? fixed(seconds, 6) : "";
}

}  // namespace

ordered_json to_json(const TuneParams& params) {
  return {{"chunk_size", params.chunk_size}, {"heads_per_band", params.heads_per_band}, {"workers", params.workers}};
}

RunFolder::RunFolder(fs::path path) : path_(std::move(path)) {
  const fs::path file = path_ / kTrialsFile;
  trials_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (trials_ < 0) fail(ExitCode::kOutput, "trials file", file.string(), "a writable place", std::strerror(errno));
  if (::flock(trials_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(trials_);
    fail(ExitCode::kUsage, "run folder", path_.string(), "one that no other process works in",
         "one that a running tune writes to");
  }
}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : path_(std::move(other.path_)),
      trials_(std::exchange(other.trials_, -1)),
      keep_(std::exchange(other.keep_, true)) {}

RunFolder::~RunFolder() {
  if (trials_ >= 0) ::close(trials_);
  if (keep_) return;
  std::error_code ignored;
  fs::remove(path_ / kTrialsFile, ignored);
  fs::remove(path_, ignored);
}

RunFolder RunFolder::create(const fs::path& runs_dir, const std::string& tag) {
  std::error_code error;
  fs::create_directories(runs_dir, error);
  const std::string name = cat(time_text("%Y%m%d_%H%M%S"), '_', safe_tag(tag));
  constexpr int kMostOfOneSecond = 1000;
  for (int count = 1; count <= kMostOfOneSecond; ++count) {
    fs::path path = runs_dir / (count == 1 ? name : cat(name, '_', count));
    if (::mkdir(path.c_str(), 0777) == 0) return RunFolder(std::move(path));
    if (errno != EEXIST) {
      fail(ExitCode::kOutput, "run folder", path.string(), "a place to write", std::strerror(errno));
    }
  }
  fail(ExitCode::kOutput, "run folder", (runs_dir / name).string(), "a name that is free", "none");
}

RunFolder RunFolder::open(const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_regular_file(folder / "run_meta.json", ignored)) {
    fail(ExitCode::kUsage, "--resume", folder.string(), "the folder of an earlier run, with run_meta.json",
         fs::is_directory(folder, ignored) ? "a folder without it" : "no such folder");
  }
  RunFolder run(folder);
  run.keep_ = true;
  return run;
}

bool RunFolder::has_best() const {
  // One that cannot be read is none: it is written anew.
  try {
    return json::parse(read_regular_file(path_ / "best.json", ExitCode::kUsage)).is_object();
  } catch (const std::exception&) {
    return false;
  }
}

void RunFolder::write(const char* name, const std::string& text) const {
  AtomicFile file(path_ / name);
  file.write(text);
  file.commit();
}

void RunFolder::write_meta(const ordered_json& meta) {
  write("run_meta.json", meta.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
  keep_ = true;
}

json RunFolder::read_meta() const {
  const fs::path path = path_ / "run_meta.json";
  return parse_strict_json(read_regular_file(path, ExitCode::kUsage), path.string(), {ExitCode::kUsage, "JSON text"})
      .value;
}

std::vector<RecordedTrial> RunFolder::read_trials() {
  const std::string where = (path_ / kTrialsFile).string();
  const std::string text = read_regular_file(path_ / kTrialsFile, ExitCode::kUsage);
  std::vector<RecordedTrial> trials;
  size_t begin = 0;
  for (size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string line = cat(where, ':', trials.size() + 1);
    trials.push_back(read_trial(std::string_view(text).substr(begin, end - begin), line));
  }
  if (begin < text.size() && ::ftruncate(trials_, static_cast<off_t>(begin)) != 0) {
    fail(ExitCode::kOutput, "trials file", where, "to take its torn last line away", std::strerror(errno));
  }
  return trials;
}

void RunFolder::append(const Trial& trial) {
  const std::string line = to_json(trial).dump() + "\n";
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t n = ::write(trials_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      fail(ExitCode::kOutput, "trials file", (path_ / kTrialsFile).string(), "room to write", std::strerror(errno));
    }
    rest.remove_prefix(static_cast<size_t>(n));
  }
  ::fsync(trials_);
}

void RunFolder::write_summary(const Search& search, const Summary& summary) {
  std::string text = "backend,workers,heads_per_band,chunk_size,prefill_tok_s,decode_tok_s,prefill_s,decode_s\n";
  const auto row = [&](const TuneParams& params, const std::vector<Timing>& timings) {
    const Timing timing = median_timing(timings);
    text += cat(summary.backend, ',', params.workers, ',', params.heads_per_band, ',', params.chunk_size, ',',
                rate_text(summary.prompt_tokens, timing.prefill_s), ',', rate_text(summary.new_tokens, timing.decode_s),
                ',', seconds_text(timing.prefill_s), ',', seconds_text(timing.decode_s), '\n');
  };
  const TuneParams& plain = search.plan().plain;
  std::vector<Timing> of_plain;
  for (const Trial& trial : search.trials()) {
    for (const TimingPair& pair : trial.pairs) {
      if (trial.incumbent == plain) of_plain.push_back(pair.incumbent);
      if (trial.candidate == plain) of_plain.push_back(pair.candidate);
    }
  }
  if (!of_plain.empty()) row(plain, of_plain);
  for (const Trial& trial : search.trials()) {
    if (trial.confirmation) continue;
    std::vector<Timing> timings;
    for (const TimingPair& pair : trial.pairs) timings.push_back(pair.candidate);
    row(trial.candidate, timings);
  }
  write("summary.csv", text);
}

void RunFolder::write_best(const ordered_json& best) {
  write("best.json", best.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

}  // namespace xlstm
