#include "src/text/tokenizer_json.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "src/text/json_view.h"
#include "src/text/tokenizer_steps.h"
#include "xlstm/core/errors.h"
#include "xlstm/core/str.h"
#include "xlstm/core/strict_json.h"

namespace xlstm {

namespace {

using Json = nlohmann::json;

std::optional<int32_t> as_token_id(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const auto number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(kMaxTokenId)) return std::nullopt;
  return static_cast<int32_t>(number);
}

std::string id_range() {
  return cat("a token id from 0 to ", kMaxTokenId);
}

// Which content owns an id.
class Owners {
 public:
  // The content that owns the id already; nullptr if it was free and is `content`'s from now on.
  const std::string* claim(int32_t id, const std::string& content) {
    const auto index = static_cast<size_t>(id);
    if (index >= owners_.size()) owners_.resize(index + 1, nullptr);
    if (owners_[index] != nullptr) return owners_[index];
    owners_[index] = &content;
    return nullptr;
  }

 private:
  std::vector<const std::string*> owners_;
};

Vocabulary parse_vocabulary(const JsonView& view, Owners& owners) {
  Vocabulary vocabulary;
  vocabulary.reserve(view.object().size());
  for (const auto& [content, value] : view.object().items()) {
    const std::optional<int32_t> id = as_token_id(value);
    if (!id) view.refuse(id_range(), cat(describe(value), " for ", printable(content)));
    const auto entry = vocabulary.emplace(content, *id).first;
    if (const std::string* owner = owners.claim(*id, entry->first)) {
      view.refuse("distinct ids", cat(*id, " for both ", printable(*owner), " and ", printable(content)));
    }
  }
  return vocabulary;
}

// The two halves of a merge, written as "a b" or as ["a", "b"].
std::optional<std::pair<std::string_view, std::string_view>> merge_halves(const Json& value) {
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
    return std::pair<std::string_view, std::string_view>(value[0].get_ref<const std::string&>(),
                                                         value[1].get_ref<const std::string&>());
  }
  if (!value.is_string()) return std::nullopt;
  const std::string_view text = value.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) return std::nullopt;
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

// Old files keep the version line of the merges.txt they were made from.
bool is_version_line(const Json& value) {
  return value.is_string() && value.get_ref<const std::string&>().starts_with("#version");
}

std::vector<Merge> parse_merges(const JsonView& view, const Vocabulary& vocabulary) {
  std::vector<Merge> merges;
  merges.reserve(view.array().size());
  size_t index = 0;
  std::string joined;
  for (const Json& value : view.array()) {
    const size_t place = index++;
    if (is_version_line(value)) continue;
    const auto halves = merge_halves(value);
    if (!halves) view.refuse("\"a b\" or [\"a\", \"b\"]", cat(describe(value), " at [", place, "]"));
    joined.assign(halves->first).append(halves->second);
    const auto id_of = [&](std::string_view content) {
      const auto it = vocabulary.find(content);
      if (it == vocabulary.end()) {
        view.refuse("tokens of the vocabulary", cat(printable(content), " at [", place, "]"));
      }
      return it->second;
    };
    merges.push_back({id_of(halves->first), id_of(halves->second), id_of(joined)});
  }
  return merges;
}

void refuse_if_set(const JsonView& model, std::string_view key) {
  const auto found = model.optional_member(key);
  if (!found || (found->value().is_string() && found->text().empty())) return;
  found->refuse("null");
}

void check_model_options(const JsonView& model) {
  // Files of early versions name no model type; those of BPE models have merges.
  if (const auto type = model.optional_member("type"); type && type->text() != "BPE") {
    type->refuse("BPE", printable(type->text()));
  }
  for (const std::string_view key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}) {
    refuse_if_set(model, key);
  }
  for (const std::string_view key : {"byte_fallback", "fuse_unk"}) {
    if (model.boolean_or(key, false)) model.member(key).refuse("false");
  }
}

AddedToken parse_added_token(const JsonView& view) {
  AddedToken token;
  const JsonView id = view.member("id");
  const std::optional<int32_t> number = as_token_id(id.value());
  if (!number) id.refuse(id_range());
  token.id = *number;
  token.content = view.member("content").text();
  if (token.content.empty()) view.member("content").refuse("a text that is not empty");
  token.special = view.boolean_or("special", false);
  token.normalized = view.boolean_or("normalized", !token.special);
  token.lstrip = view.boolean_or("lstrip", false);
  token.rstrip = view.boolean_or("rstrip", false);
  token.single_word = view.boolean_or("single_word", false);
  return token;
}

std::vector<AddedToken> parse_added_tokens(const JsonView& root, const Vocabulary& vocabulary, Owners& owners) {
  const auto view = root.optional_member("added_tokens");
  if (!view) return {};
  const std::vector<JsonView> items = view->items();
  std::vector<AddedToken> tokens;
  tokens.reserve(items.size());  // owners points into it
  Vocabulary seen;
  for (const JsonView& item : items) {
    const AddedToken& token = tokens.emplace_back(parse_added_token(item));
    const std::string content = printable(token.content);
    if (!seen.emplace(token.content, token.id).second) item.refuse("distinct contents", cat(content, " twice"));
    if (const auto known = vocabulary.find(token.content); known != vocabulary.end()) {
      if (known->second != token.id) {
        item.refuse(cat("id ", known->second, " as in the vocabulary"), cat(token.id, " for ", content));
      }
    } else if (const std::string* owner = owners.claim(token.id, token.content)) {
      item.refuse("an id of its own", cat(token.id, " for both ", printable(*owner), " and ", content));
    }
  }
  return tokens;
}

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view text, const std::string& file) {
  const Json json = parse_strict_json(text, file, {ExitCode::kCheckpoint, "tokenizer"}).value;
  const JsonView root(json, "", file);
  const JsonView model = root.member("model");
  check_model_options(model);
  check_post_processor(root);
  check_decoder(root);
  Owners owners;
  TokenizerParts parts{parse_normalizers(root),
                       parse_pre_tokenizer(root),
                       parse_vocabulary(model.member("vocab"), owners),
                       {},
                       model.boolean_or("ignore_merges", false),
                       {}};
  parts.merges = parse_merges(model.member("merges"), parts.vocabulary);
  parts.added_tokens = parse_added_tokens(root, parts.vocabulary, owners);
  return parts;
}

}  // namespace xlstm
