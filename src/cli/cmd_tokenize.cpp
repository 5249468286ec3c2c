#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/cli/commands.h"
#include "src/cli/json_lines.h"
#include "src/cli/setup.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"
#include "xlstm/text/tokenizer.h"

namespace xlstm {
namespace {

using nlohmann::json;

class TokenizeCommand {
 public:
  // `bos_id` is put before the ids of every text, if there is one.
  TokenizeCommand(const Tokenizer& tokenizer, std::optional<int64_t> bos_id) : tokenizer_(tokenizer), bos_id_(bos_id) {}

  [[nodiscard]] std::vector<int64_t> encode(std::string_view text) const {
    std::vector<int64_t> ids = tokenizer_.encode(text);
    if (bos_id_) ids.insert(ids.begin(), *bos_id_);
    return ids;
  }

  [[nodiscard]] std::string encode_line(const json& line, const std::string& where) const {
    if (!line.is_object() || !line.contains("text") || !line["text"].is_string()) {
      fail(ExitCode::kUsage, "line", where, "{\"text\": \"…\"}", json_kind(line));
    }
    return json{{"ids", encode(line["text"].get<std::string>())}}.dump() + "\n";
  }

  [[nodiscard]] std::string decode_line(const json& line, const std::string& where) const {
    if (!line.is_object() || !line.contains("ids") || !is_id_array(line["ids"])) {
      fail(ExitCode::kUsage, "line", where, "{\"ids\": [1, 2, 3]}", json_kind(line));
    }
    return json{{"text", tokenizer_.decode(line["ids"].get<std::vector<int64_t>>())}}.dump() + "\n";
  }

 private:
  const Tokenizer& tokenizer_;
  std::optional<int64_t> bos_id_;
};

std::string ids_text(const std::vector<int64_t>& ids) {
  std::string out;
  for (const int64_t id : ids) {
    if (!out.empty()) out += ' ';
    out += std::to_string(id);
  }
  out += '\n';
  return out;
}

// Ids separated by white space or commas.
std::vector<int64_t> parse_ids(const std::string& text) {
  std::vector<int64_t> ids;
  size_t begin = 0;
  constexpr const char* kSeparators = " \t\r\n,";
  while ((begin = text.find_first_not_of(kSeparators, begin)) != std::string::npos) {
    const size_t end = std::min(text.find_first_of(kSeparators, begin), text.size());
    ids.push_back(parse_integer(text.substr(begin, end - begin), {"token id", "input"}, "an integer"));
    begin = end;
  }
  return ids;
}

}  // namespace

ExitCode run_tokenize(const Arguments& args) {
  (void)start_run(args);
  const ModelChoice model = require_model(args);
  const std::optional<std::string> input = read_prompt(args);
  if (!input) fail(ExitCode::kUsage, "text", "command line", "-p TEXT, -f FILE or standard input", "none");
  const Tokenizer tokenizer = Tokenizer::from_file(model.directory / "tokenizer.json");
  std::optional<int64_t> bos_id;
  if (args.tokenize.add_bos) bos_id = read_model_config(model.directory).bos_token_id;
  const TokenizeCommand command(tokenizer, bos_id);
  if (args.tokenize.jsonl) {
    for_each_json_line(*input, args.prompt_file.value_or("input"), [&](const json& line, const std::string& where) {
      print_out(args.tokenize.decode ? command.decode_line(line, where) : command.encode_line(line, where));
    });
  } else if (args.tokenize.decode) {
    print_out(tokenizer.decode(parse_ids(*input)) + "\n");
  } else {
    print_out(ids_text(command.encode(*input)));
  }
  return ExitCode::kOk;
}

}  // namespace xlstm
