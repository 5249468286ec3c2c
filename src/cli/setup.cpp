#include "src/cli/setup.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>

#include "xlstm/core/errors.h"
#include "xlstm/core/files.h"
#include "xlstm/core/log.h"
#include "xlstm/core/paths.h"
#include "xlstm/core/str.h"
#include "xlstm/io/checkpoint.h"
#include "xlstm/registry/registry.h"

namespace xlstm {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBundledModel = "models/xlstm-tales-8m";

// The shape of the run's model, for tuned results; nothing if there is no readable checkpoint. A damaged one is
// reported when it is loaded.
std::optional<ModelShape> model_shape(const Arguments& args) {
  const std::optional<ModelChoice> model = find_model(args);
  if (!model) return std::nullopt;
  try {
    const ModelConfig config = read_model_config(model->directory);
    return ModelShape{config.embedding_dim, config.num_blocks, config.num_heads, config.vocab_size};
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string without_last_newline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::string read_stdin() {
  return read_descriptor(STDIN_FILENO, "standard input", ExitCode::kUsage);
}

// Whether standard input was given on purpose: a pipe, a file or a socket, not a terminal or /dev/null.
bool stdin_has_text() {
  struct stat info {};
  if (::fstat(STDIN_FILENO, &info) != 0) return false;
  return S_ISFIFO(info.st_mode) || S_ISREG(info.st_mode) || S_ISSOCK(info.st_mode);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// \n \t \r \\ \" \' and \xHH; anything else stays as it is.
std::string interpret_escapes(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char next = text[i + 1];
    constexpr std::string_view kNames = "ntr\\\"'";
    constexpr std::string_view kValues = "\n\t\r\\\"'";
    if (const size_t known = kNames.find(next); known != std::string_view::npos) {
      out += kValues[known];
      ++i;
    } else if (next == 'x' && i + 3 < text.size() && hex_digit(text[i + 2]) >= 0 && hex_digit(text[i + 3]) >= 0) {
      out += static_cast<char>(hex_digit(text[i + 2]) * 16 + hex_digit(text[i + 3]));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::optional<ModelChoice> find_model(const Arguments& args) {
  if (args.model) return ModelChoice{*args.model, false};
  std::error_code ignored;
  if (fs::is_directory(kBundledModel, ignored)) return ModelChoice{kBundledModel, true};
  if (const auto shipped = find_shipped(kBundledModel)) return ModelChoice{*shipped, true};
  return std::nullopt;
}

ModelChoice require_model(const Arguments& args) {
  const std::optional<ModelChoice> model = find_model(args);
  if (!model) {
    fail(ExitCode::kCheckpoint, "model", "command line", "-m DIR, or the bundled model beside the executable",
         "neither");
  }
  return *model;
}

ModelConfig read_model_config(const fs::path& directory) {
  return parse_model_config(read_checkpoint_config(directory), (directory / "config.json").string());
}

Resolution resolve_run(const Arguments& args, const RuntimeOpts& opts) {
  const bool synthetic = !args.bench.shape.empty();
  const std::optional<ModelChoice> model = synthetic ? std::nullopt : find_model(args);
  return resolve(opts, model ? stored_dtype(model->directory) : "");
}

EffectiveConfig effective_config(const Arguments& args) {
  LayerRequest request = args.layers;
  request.resolve_device = pick_device;
  request.model = model_shape(args);
  return merge_layers(request);
}

EffectiveConfig start_run(const Arguments& args) {
  EffectiveConfig config = effective_config(args);
  log::configure(log::parse_level(config.opts.log_level), config.opts.log_file);
  for (const std::string& note : config.notes) log::info(note);
  return config;
}

std::string read_text(const std::string& file) {
  return file == "-" ? read_stdin() : read_file(file, ExitCode::kUsage);
}

std::optional<std::string> read_prompt(const Arguments& args) {
  if (args.prompt) return args.escapes ? interpret_escapes(*args.prompt) : *args.prompt;
  if (args.prompt_file) return without_last_newline(read_text(*args.prompt_file));
  if (stdin_has_text()) return without_last_newline(read_stdin());
  return std::nullopt;
}

void print_out(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EPIPE) throw OutputClosed();
      fail(ExitCode::kOutput, "standard output", "write", "room to write", std::strerror(errno));
    }
    text.remove_prefix(static_cast<size_t>(n));
  }
}

void print_json(const nlohmann::ordered_json& json, bool one_line) {
  print_out(json.dump(one_line ? -1 : 2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

bool stdout_is_terminal() {
  return ::isatty(STDOUT_FILENO) == 1;
}

}  // namespace xlstm
