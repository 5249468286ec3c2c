#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/cli/commands.h"
#include "src/cli/setup.h"
#include "xlstm/core/str.h"
#include "xlstm/io/checkpoint.h"
#include "xlstm/model/checkpoint_layout.h"

namespace xlstm {
namespace {

nlohmann::ordered_json report(const Checkpoint& checkpoint, const CheckpointLayout& layout) {
  nlohmann::ordered_json out = {{"directory", checkpoint.dir().string()},
                                {"fingerprint", checkpoint.fingerprint()},
                                {"parameters", parameter_count(layout)},
                                {"bytes", checkpoint.total_bytes()},
                                {"tokenizer", checkpoint.has_tokenizer()}};
  if (layout.config.quantization) out["quantization"] = to_json(*layout.config.quantization);
  out["tensors"] = nlohmann::ordered_json::array();
  for (const std::string& name : checkpoint.names()) {
    const TensorView& tensor = checkpoint.tensor(name);
    out["tensors"].push_back({{"name", name},
                              {"dtype", dtype_name(tensor.dtype)},
                              {"shape", tensor.shape},
                              {"bytes", tensor.bytes.size()},
                              {"file", checkpoint.file_of(name).filename().string()}});
  }
  out["problems"] = layout.problems;
  return out;
}

void print_table(const Checkpoint& checkpoint, const CheckpointLayout& layout) {
  const std::vector<std::string> names = checkpoint.names();
  size_t width = 0;
  for (const std::string& name : names) width = std::max(width, name.size());
  std::string out;
  for (const std::string& name : names) {
    const TensorView& tensor = checkpoint.tensor(name);
    out += cat(name, std::string(width - name.size() + 2, ' '), dtype_name(tensor.dtype), "  ",
               shape_text(tensor.shape), "\n");
  }
  out += cat(names.size(), " tensors, ", parameter_count(layout), " parameters, ", bytes_text(checkpoint.total_bytes()),
             " in ", checkpoint.files().size(), checkpoint.files().size() == 1 ? " file" : " files",
             ", tokenizer.json ", checkpoint.has_tokenizer() ? "there" : "absent", "\n");
  if (layout.config.quantization) out += cat("quantized: ", layout.config.quantization->text(), "\n");
  for (const std::string& problem : layout.problems) out += cat("problem: ", problem, "\n");
  if (!layout.problems.empty() || !checkpoint.has_tokenizer()) out += cat(download_hint(checkpoint.dir()), "\n");
  out += layout.problems.empty() ? "complete\n" : cat(layout.problems.size(), " problems\n");
  print_out(out);
}

}  // namespace

ExitCode run_check(const Arguments& args) {
  (void)start_run(args);
  const Checkpoint checkpoint(require_model(args).directory);
  const CheckpointLayout layout = resolve_layout(checkpoint);
  if (args.json) {
    print_json(report(checkpoint, layout));
  } else {
    print_table(checkpoint, layout);
  }
  require_complete(layout, checkpoint.dir().string());
  return ExitCode::kOk;
}

}  // namespace xlstm
