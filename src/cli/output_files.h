// Checks on the files that a run is asked to write.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace xlstm {

struct OutputFile {
  std::string flag;
  std::string path;  // empty: not asked for
};

// Error kUsage if two outputs are the same file, if one is where standard output or standard error goes, or if one lies
// in the checkpoint directory, whose files are in use.
void check_outputs(const std::vector<OutputFile>& outputs, const std::filesystem::path& checkpoint);

}  // namespace xlstm
