// The folder that a tuning run leaves: run_meta.json, trials.jsonl, summary.csv and best.json.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "xlstm/tune/search.h"

namespace xlstm {

// A trial as trials.jsonl has it, enough to do it again.
struct RecordedTrial {
  TuneParams candidate;
  std::vector<TimingPair> pairs;
};

// Errors of writing are kOutput, of reading an earlier run's files kUsage. A folder belongs to one process at a time.
class RunFolder {
 public:
  // Makes runs_dir/<YYYYMMDD_HHMMSS>_<tag> in local time; with "_2" and so on behind it where that exists. What is no
  // letter, digit, '.', '_' or '-' in the tag becomes '_'. Until write_meta() the folder vanishes with this object.
  static RunFolder create(const std::filesystem::path& runs_dir, const std::string& tag);

  // An earlier run's folder, to go on in.
  static RunFolder open(const std::filesystem::path& folder);

  ~RunFolder();
  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;
  RunFolder(const RunFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] bool has_best() const;

  void write_meta(const nlohmann::ordered_json& meta);
  [[nodiscard]] nlohmann::json read_meta() const;

  // The complete lines of trials.jsonl. A last line without an end, left by a run that was cut off, is taken away.
  std::vector<RecordedTrial> read_trials();

  // Adds a line and flushes it to the disk.
  void append(const Trial& trial);

  // summary.csv: the plain configuration, then every candidate in the order of the trials.
  struct Summary {
    std::string backend;
    int64_t prompt_tokens = 0;
    int64_t new_tokens = 0;
  };
  void write_summary(const Search& search, const Summary& summary);

  void write_best(const nlohmann::ordered_json& best);

 private:
  explicit RunFolder(std::filesystem::path path);
  void write(const char* name, const std::string& text) const;

  std::filesystem::path path_;
  int trials_ = -1;  // descriptor of trials.jsonl, which is also the folder's lock
  bool keep_ = false;
};

// The keys of TuneParams in JSON.
[[nodiscard]] nlohmann::ordered_json to_json(const TuneParams& params);

}  // namespace xlstm
