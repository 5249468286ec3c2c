#include <charconv>
#include <map>

#include "xlstm/bench/bench.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"

namespace xlstm {
namespace {

constexpr const char* kForms = "7b, 406m or E=1024,blocks=24,heads=4,vocab=50304";

SyntheticShape make_shape(int64_t embedding, int64_t blocks, int64_t heads, int64_t vocab) {
  ModelDims dims;
  dims.vocab_size = vocab;
  dims.embedding_dim = embedding;
  dims.num_heads = heads;
  dims.head_dim_qk = embedding / 2 / heads;
  dims.head_dim_v = embedding / heads;
  const auto width = static_cast<int64_t>(static_cast<double>(embedding) * 2.667);
  dims.ffn_dim = (width + 63) / 64 * 64;
  dims.gate_soft_cap = 15;
  dims.logit_soft_cap = 30;
  return {dims, blocks};
}

// `what`: the flag and its key.
int64_t parse_count(const std::string& what, const std::string& text) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [parsed, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || parsed != end || value < 1 || value > 1000000) {
    fail(ExitCode::kUsage, what, "command line", "a number from 1 to 1000000", text);
  }
  return value;
}

}  // namespace

SyntheticShape parse_shape(const std::string& text, const std::string& flag) {
  if (text == "7b") return make_shape(4096, 32, 8, 50304);
  if (text == "406m") return make_shape(1024, 24, 4, 50304);
  std::map<std::string, int64_t> values = {{"E", 0}, {"blocks", 24}, {"heads", 4}, {"vocab", 50304}};
  size_t begin = 0;
  while (begin <= text.size()) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    const size_t equals = part.find('=');
    const auto known = values.find(part.substr(0, equals));
    if (equals == std::string::npos || known == values.end()) {
      fail(ExitCode::kUsage, flag, "command line", kForms, text);
    }
    known->second = parse_count(cat(flag, ' ', known->first), part.substr(equals + 1));
    begin = end + 1;
  }
  const int64_t embedding = values["E"];
  const int64_t heads = values["heads"];
  if (embedding == 0) fail(ExitCode::kUsage, flag, "command line", kForms, text);
  if (embedding % (2 * heads) != 0) {
    fail(ExitCode::kUsage, flag, "command line", cat("E divisible by twice the ", heads, " heads"), text);
  }
  return make_shape(embedding, values["blocks"], heads, values["vocab"]);
}

}  // namespace xlstm
