// The CSV file that --mem-log names; see MemoryGuard.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "xlstm/core/files.h"
#include "xlstm/memory/memory_reader.h"

namespace xlstm {

// One thread at a time.
class MemLog {
 public:
  explicit MemLog(const std::string& path);  // Error kOutput

  // Error kOutput; the file is gone then, and later rows are dropped.
  void add(std::chrono::system_clock::time_point time, const MemorySample& sample);

  void commit();  // Error kOutput

 private:
  // A file that lacks a row must not appear.
  template <class Action>
  void or_drop(const Action& action) {
    try {
      action();
    } catch (...) {
      file_.reset();
      throw;
    }
  }

  std::optional<AtomicFile> file_;
};

}  // namespace xlstm
