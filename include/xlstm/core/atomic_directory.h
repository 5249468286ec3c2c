// A directory that appears complete or not at all.
#pragma once

#include <filesystem>
#include <list>
#include <string>

#include "xlstm/core/emergency_files.h"

namespace xlstm {

// Makes a temporary directory beside `target`; commit() renames it to that name, which must be free or an empty
// directory by then. Without commit() the destructor removes it with everything in it, and a signal that ends the
// process at once removes it with the files announced by file(); if there are more than emergency_files.h covers, those
// stay behind, and with them the temporary directory, never the target. Errors are kOutput.
class AtomicDirectory {
 public:
  explicit AtomicDirectory(std::filesystem::path target);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return temporary_; }
  // The path of a file that is about to be written into it.
  [[nodiscard]] std::filesystem::path file(const std::string& name);
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  EmergencyFile on_signal_;
  std::list<EmergencyFile> files_;
  bool there_ = false;
};

}  // namespace xlstm
